"""Programming a board without an agent: by a real shell here, and through a real sshd."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from edge_agent.boards import profile
from edge_agent.fpga.bitstream import read_image
from edge_agent.fpga.manager import FIRMWARE
from edgectl.bitstreams import Candidate
from edgectl.boards.remote_shell import Completed, SshShell, parse_login
from edgectl.errors import BusyError, EdgectlError, IncompatibleError, UnreachableError, UsageError, VerificationError
from edgectl.shell_flash import program_by_shell, shell_checks
from tests.edge_agent.fpga.bitfiles import bit_file, configuration, swapped
from tests.edge_agent.fpga.kernel import Kernel, running_kernel

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
PYNQ = profile("pynq")


def bitstream(data: bytes | None = None) -> Candidate:
    file = bit_file(configuration() if data is None else data)
    return Candidate("vta.bit", "vta.bit", file, read_image(file), PYNQ.config, PYNQ.isa, None)


class LocalShell:
    """This machine as the board; its files arrive `damaged` where that is wanted."""

    def __init__(self, damaged: bool = False) -> None:
        self._damaged = damaged

    def run(self, command: str, seconds: float = 60.0) -> Completed:
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False, timeout=seconds)
        return Completed(done.returncode, done.stdout, done.stderr)

    def put(self, data: bytes, path: str) -> None:
        Path(path).write_bytes(data[:-1] if self._damaged else data)


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Kernel]:
    with running_kernel(tmp_path / "root") as made:
        yield made


as_root = pytest.mark.skipif(os.getuid() != 0, reason="programs as root does")


@as_root
def test_it_programs_what_the_kernel_takes(kernel: Kernel) -> None:
    root = str(kernel.system.root)
    (kernel.firmware / f".{FIRMWARE}.1.temporary").write_text("left by a power cut")
    assert all(check.fits for check in shell_checks(LocalShell(), PYNQ, root))
    assert program_by_shell(LocalShell(), bitstream(), PYNQ, root) > 0
    assert (kernel.firmware / FIRMWARE).read_bytes() == swapped(configuration())
    assert os.listdir(kernel.firmware) == [FIRMWARE] and len(kernel.programmed) == 1


@as_root
def test_what_goes_wrong_is_said(kernel: Kernel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    root = str(kernel.system.root)
    with pytest.raises(VerificationError, match="what arrived on the board is not what was sent"):
        program_by_shell(LocalShell(damaged=True), bitstream(), PYNQ, root)
    with pytest.raises(EdgectlError, match="its state is 'write complete error'; see its log on the board: dmesg"):
        program_by_shell(LocalShell(), bitstream(configuration(idcode=0x04710093)), PYNQ, root)
    with pytest.raises(IncompatibleError, match="programming a zu3eg without an agent is not implemented"):
        program_by_shell(LocalShell(), bitstream(), profile("ultra96"), root)
    (kernel.folder / "name").write_text("Xilinx ZynqMP FPGA Manager\n")
    first, second = shell_checks(LocalShell(), PYNQ, root)
    assert second.fits and str(first).startswith("image: FPGA manager is Xilinx ZynqMP FPGA Manager")
    assert not kernel.programmed


@as_root
def test_an_agent_there_is_left_alone(kernel: Kernel, tmp_path: Path) -> None:
    pretender = tmp_path / "edge-agent"
    pretender.write_text("#!/bin/sh\nsleep 60\n")
    pretender.chmod(0o755)
    process = subprocess.Popen([str(pretender), "--board", "pynq"])
    try:
        with pytest.raises(BusyError, match="an edge-agent runs on this board: flash through it"):
            program_by_shell(LocalShell(), bitstream(), PYNQ, str(kernel.system.root))
    finally:
        process.kill()
        process.wait()
    assert not kernel.programmed


@pytest.mark.parametrize(
    ("login", "parsed"),
    [
        ("xilinx@192.168.2.99", ("xilinx", "192.168.2.99", 22)),
        ("root@pynq.local:2222", ("root", "pynq.local", 2222)),
        ("root@[fe80::1]:22", ("root", "fe80::1", 22)),
    ],
)
def test_logins(login: str, parsed: tuple[str, str, int]) -> None:
    assert parse_login(login) == parsed


@pytest.mark.parametrize("login", ["pynq", "@host", "user@", "a@b@c", "u@h:0", "u@h:65536", "u@h:x", "u@h h", "u@::1"])
def test_what_is_no_login(login: str) -> None:
    with pytest.raises(UsageError, match="is not USER@HOST"):
        parse_login(login)


@dataclass
class Sshd:
    port: int
    home: Path
    host_key: str

    @property
    def login(self) -> str:
        return f"{getpass.getuser()}@127.0.0.1:{self.port}"

    def know(self, key: str = "") -> None:
        known = self.home / ".ssh" / "known_hosts"
        known.write_text(f"[127.0.0.1]:{self.port} {key or self.host_key}\n")


def generate(path: Path) -> str:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return " ".join(path.with_suffix(".pub").read_text().split()[:2])


@pytest.fixture
def sshd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sshd]:
    """A server on a free port with keys of its own; this user may log in with a key in a home of the test's own."""
    if SSHD is None:
        pytest.skip("there is no sshd here: install openssh-server")
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True, mode=0o700)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    authorized = tmp_path / "authorized_keys"
    authorized.write_text(generate(home / ".ssh" / "id_ed25519") + "\n")
    host_key = generate(tmp_path / "host_key")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    Path("/run/sshd").mkdir(exist_ok=True) if os.getuid() == 0 else None
    options = {
        "Port": port,
        "ListenAddress": "127.0.0.1",
        "HostKey": tmp_path / "host_key",
        "AuthorizedKeysFile": authorized,
        "PidFile": "none",
        "StrictModes": "no",
        "UsePAM": "no",
        "PasswordAuthentication": "no",
        "PermitRootLogin": "prohibit-password",
        "Subsystem": "sftp internal-sftp",
    }
    (tmp_path / "sshd_config").write_text("".join(f"{key} {value}\n" for key, value in options.items()))
    log = (tmp_path / "sshd.log").open("wb")
    process = subprocess.Popen([SSHD, "-D", "-e", "-f", str(tmp_path / "sshd_config")], stderr=log)
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.05)
    yield Sshd(port, home, host_key)
    process.terminate()
    process.wait()
    log.close()


@as_root
def test_through_a_real_sshd(sshd: Sshd, kernel: Kernel) -> None:
    root = str(kernel.system.root)
    sshd.know()
    with SshShell(sshd.login) as shell:
        assert shell.run("echo out; echo err >&2; exit 3") == Completed(3, "out\n", "err\n")
        assert all(check.fits for check in shell_checks(shell, PYNQ, root))
        program_by_shell(shell, bitstream(), PYNQ, root)
        assert len(kernel.programmed) == 1
        with pytest.raises(EdgectlError, match=r"/nowhere/file cannot be written on .*: .*No such file"):
            shell.put(b"x", "/nowhere/file")
        with pytest.raises(UnreachableError, match="broke off"):
            shell.run("sleep 30", seconds=0.2)


def test_hosts_whose_key_is_not_known_or_another(sshd: Sshd, tmp_path: Path) -> None:
    with pytest.raises(
        UnreachableError, match=r"if its key is not known yet, connect once and compare the fingerprint"
    ):
        SshShell(sshd.login)
    assert not (sshd.home / ".ssh" / "known_hosts").exists()
    sshd.know(generate(tmp_path / "other"))
    with pytest.raises(IncompatibleError, match=r"another key than known_hosts has: .*ssh-keygen -R"):
        SshShell(sshd.login)
    sshd.know()
    (sshd.home / ".ssh" / "id_ed25519").unlink()
    generate(sshd.home / ".ssh" / "id_ed25519")
    with pytest.raises(IncompatibleError, match=r"does not let you in: .*ssh-copy-id"):
        SshShell(sshd.login)
    with pytest.raises(UnreachableError, match="does not answer"):
        SshShell(replace(sshd, port=1).login)
