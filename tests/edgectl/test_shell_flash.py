"""Programming a board without an agent: by a real shell here, and through a real sshd."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.boards import profile
from edge_agent.fpga.bitstream import read_image
from edge_agent.fpga.manager import FIRMWARE
from edgectl.bitstreams import Candidate
from edgectl.boards.remote_shell import Completed, SshShell
from edgectl.errors import BusyError, EdgectlError, IncompatibleError, UnreachableError, VerificationError
from edgectl.shell_flash import program_by_shell, shell_checks
from tests.edge_agent.fpga.bitfiles import bit_file, configuration, swapped
from tests.edge_agent.fpga.kernel import Kernel, running_kernel
from tests.ssh_server import needs_sshd, ssh_server

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


@needs_sshd
@as_root
def test_through_a_real_sshd(kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = str(kernel.system.root)
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True, mode=0o700)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    with ssh_server(tmp_path / "server", options="Subsystem sftp internal-sftp\n") as server:
        shutil.copy(server.identity, home / ".ssh" / "id_ed25519")
        with pytest.raises(VerificationError, match=r"the host key of .* is not known"):
            SshShell(server.target)
        (home / ".ssh" / "known_hosts").write_text(server.known_hosts_line)
        with SshShell(server.target) as shell:
            assert shell.run("echo out; echo err >&2; exit 3") == Completed(3, "out\n", "err\n")
            assert all(check.fits for check in shell_checks(shell, PYNQ, root))
            program_by_shell(shell, bitstream(), PYNQ, root)
            assert len(kernel.programmed) == 1
            with pytest.raises(EdgectlError, match=r"/nowhere/file cannot be written on .*: .*No such file"):
                shell.put(b"x", "/nowhere/file")
            with pytest.raises(UnreachableError, match="broke off"):
                shell.run("sleep 30", seconds=0.2)
