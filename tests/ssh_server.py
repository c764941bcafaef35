"""A real OpenSSH server on loopback with keys of its own, for tests of what connects through SSH."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

SSHD = shutil.which("sshd") or ("/usr/sbin/sshd" if os.access("/usr/sbin/sshd", os.X_OK) else None)
needs_sshd = pytest.mark.skipif(
    SSHD is None or shutil.which("ssh-keygen") is None, reason="no sshd: apt-get install openssh-server"
)


@dataclass(frozen=True)
class SshServer:
    """Where it listens, whom it lets in with which key, and what its host key is."""

    port: int
    user: str
    identity: Path
    host_key: Path
    process: subprocess.Popen[bytes]

    @property
    def target(self) -> str:
        return f"{self.user}@127.0.0.1:{self.port}"

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.host_key)

    @property
    def known_hosts_line(self) -> str:
        kind, key = Path(f"{self.host_key}.pub").read_text().split()[:2]
        return f"[127.0.0.1]:{self.port} {kind} {key}\n"


def make_key(path: Path, kind: str = "ed25519", passphrase: str = "") -> Path:
    """A new key pair; the private key's file."""
    options = ["-q", "-t", kind, "-N", passphrase, "-C", "test", "-f", str(path)]
    subprocess.run(["ssh-keygen", *options], check=True, stdin=subprocess.DEVNULL)
    return path


def fingerprint(key: Path) -> str:
    """`SHA256:...` as ssh-keygen shows it."""
    shown = subprocess.run(["ssh-keygen", "-lf", f"{key}.pub"], check=True, capture_output=True, text=True)
    return shown.stdout.split()[1]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def ssh_server(
    folder: Path, port: int = 0, kinds: tuple[str, ...] = ("ed25519",), options: str = ""
) -> Iterator[SshServer]:
    """A server with its files in `folder`; keys that are there already stay. It lets in whoever runs the test."""
    folder.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    host_keys = [folder / f"host_{kind}" for kind in kinds]
    for kind, key in zip(kinds, host_keys, strict=True):
        if not key.exists():
            make_key(key, kind)
    identity = folder / "id_client"
    if not identity.exists():
        make_key(identity)
    authorized = folder / "authorized_keys"
    authorized.write_text(Path(f"{identity}.pub").read_text())
    config = folder / "sshd_config"
    config.write_text(
        "".join(f"HostKey {key}\n" for key in host_keys)
        + f"Port {port}\nListenAddress 127.0.0.1\nAuthorizedKeysFile {authorized}\nPidFile none\nStrictModes no\n"
        "UsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n"
        f"MaxStartups 100\n{options}"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    assert SSHD is not None
    log = folder / "sshd.log"
    with log.open("ab") as errors:
        process = subprocess.Popen([SSHD, "-D", "-e", "-f", str(config)], stderr=errors)
    try:
        deadline = time.monotonic() + 30
        while not _listens(port):
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield SshServer(port, getpass.getuser(), identity, host_keys[0], process)
    finally:
        process.terminate()
        process.wait()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
