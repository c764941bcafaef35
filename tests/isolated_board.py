"""A board to provision: this machine's files behind a real sshd, in a root, with processes and a network of its own.

Nothing on this machine changes, whatever is installed there: see isolated_root.py, and what is not real.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy
import pytest

from tests.isolated_root import READY
from tests.ssh_server import SSHD, make_key

_SCRIPT = Path(__file__).with_name("isolated_root.py")
_UNSHARE = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--net", "--fork", "--kill-child"]


@cache
def _impossible() -> str:
    """Why such a board cannot be made here; "" where it can."""
    if SSHD is None or shutil.which("ssh-keygen") is None:
        return "no sshd: apt-get install openssh-server"
    if os.geteuid() != 0:
        return "a root of its own needs root"
    try_it = "mount --make-rprivate / && mount -t tmpfs t /mnt && mkdir /mnt/u /mnt/w /mnt/r && mount -t overlay o -o "
    try_it += "lowerdir=/,upperdir=/mnt/u,workdir=/mnt/w /mnt/r && mount -t proc proc /mnt/r/proc"
    done = subprocess.run([*_UNSHARE, "sh", "-c", try_it], capture_output=True, text=True, check=False)
    return f"no namespaces with an overlay: {done.stderr.strip()}" if done.returncode else ""


def require_isolation() -> None:
    """Skip the test, with the reason, where such a board cannot be made."""
    if reason := _impossible():
        pytest.skip(reason)


@dataclass(frozen=True)
class IsolatedBoard:
    """Where it is reached, with which private key, and what its host key is."""

    port: int
    identity: Path
    host_key: Path

    @property
    def target(self) -> str:
        return f"root@127.0.0.1:{self.port}"

    @property
    def known_hosts_line(self) -> str:
        kind, key = Path(f"{self.host_key}.pub").read_text().split()[:2]
        return f"[127.0.0.1]:{self.port} {kind} {key}\n"


@contextmanager
def isolated_board(folder: Path) -> Iterator[IsolatedBoard]:
    """A board whose files are in `folder`; it is gone, with all its processes, when the block ends."""
    require_isolation()
    area = folder / "area"
    area.mkdir(parents=True)
    host_key, identity = make_key(folder / "host_key"), make_key(folder / "id_client")
    authorized, config = folder / "authorized_keys", folder / "sshd_config"
    authorized.write_text(Path(f"{identity}.pub").read_text())
    config.write_text(
        f"HostKey {host_key}\nAuthorizedKeysFile {authorized}\nPidFile none\nStrictModes no\nUsePAM no\n"
        "PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n"
        "Subsystem sftp internal-sftp\n"
    )
    base = Path(sys.base_prefix, "bin", f"python{sys.version_info[0]}.{sys.version_info[1]}").resolve()
    package = Path(str(numpy.__file__)).parent
    with socket.create_server(("127.0.0.1", 0)) as listener, (folder / "log").open("wb") as log:
        places = (area, base, package, SSHD, config)
        process = subprocess.Popen(
            [*_UNSHARE, sys.executable, str(_SCRIPT), str(listener.fileno()), *map(str, places)],
            pass_fds=[listener.fileno()],
            stdout=subprocess.PIPE,
            stderr=log,
            env={**os.environ, "PYTHONPATH": ""},
        )
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == READY, (folder / "log").read_text()
            yield IsolatedBoard(listener.getsockname()[1], identity, host_key)
        finally:
            process.kill()  # and, by the kernel, everything inside
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
