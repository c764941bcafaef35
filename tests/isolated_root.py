"""PID 1 of a board for tests: a root, processes and a network of its own on top of this machine's files.

Runs as `python isolated_root.py LISTENER FOLDER PYTHON NUMPY SSHD CONFIG` in fresh namespaces for mounts, processes and
network. What is written below / goes to memory and is gone with this process. Connections that are accepted on the
inherited socket LISTENER, which stays in the machine's own network, each get an sshd. There is no init to be had:
`systemctl`, `journalctl` and `udevadm` are stand-ins, which start the services' real commands as their real users.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path

STAND_INS = Path(__file__).parent / "stand_ins"
READY = b"the root is ready\n"


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def make_root(folder: Path) -> Path:
    """The machine's files, writable, under another name."""
    mount("--make-rprivate", "/")
    mount("-t", "tmpfs", "tmpfs", str(folder))
    upper, work, root = (folder / name for name in ("upper", "work", "root"))
    for made in (upper, work, root):
        made.mkdir()
    mount("-t", "overlay", "overlay", "-o", f"lowerdir=/,upperdir={upper},workdir={work}", str(root))
    mount("-t", "proc", "proc", str(root / "proc"))
    mount("--rbind", "/dev", str(root / "dev"))
    mount("-t", "tmpfs", "tmpfs", str(root / "run"))
    for name in ("sshd", "lock", "systemd/system"):
        (root / "run" / name).mkdir(parents=True)
    return root


def furnish(root: Path, python: Path, numpy: Path, config: Path) -> None:
    """A distribution's Python with NumPy, that users other than root may use, and stand-ins for what needs an init."""
    for path in (python, numpy, config):
        for parent in (root / place.relative_to("/") for place in path.parents):
            parent.chmod(parent.stat().st_mode | 0o555)
    programs = root / "usr/local/bin"
    programs.mkdir(parents=True, exist_ok=True)
    start = programs / "python3"
    start.unlink(missing_ok=True)
    start.write_text(f'#!/bin/sh\nexec {python} "$@"\n')
    start.chmod(0o755)
    accounts = root / "etc/passwd"
    first, rest = accounts.read_text().split("\n", 1)
    accounts.write_text(f"{first.rpartition(':')[0]}:/bin/sh\n{rest}")  # no start files of whoever runs the test
    packages = root / "usr/lib/board-packages"
    packages.mkdir()
    for part in (numpy, numpy.with_name("numpy.libs")):
        if part.exists():
            (packages / part.name).symlink_to(part)
    shown = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True,
        capture_output=True,
        text=True,
        env={},
    )
    site = root / Path(shown.stdout.strip()).relative_to("/")
    (site / "board-packages.pth").write_text("/usr/lib/board-packages\n")
    for path in STAND_INS.glob("*.py"):
        program = programs / path.stem
        program.unlink(missing_ok=True)
        shutil.copy(path, program)
        program.chmod(0o755)


def loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sh22x", b"lo", 0x41)  # IFF_UP | IFF_RUNNING
        fcntl.ioctl(control, 0x8914, request)  # SIOCSIFFLAGS


def main() -> None:
    listener = socket.socket(fileno=int(sys.argv[1]))
    folder, python, numpy, sshd, config = map(Path, sys.argv[2:7])
    root = make_root(folder)
    furnish(root, python, numpy, config)
    loopback_up()
    os.chroot(root)
    os.chdir("/")
    os.write(1, READY)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        with contextlib.suppress(InterruptedError):
            connection, _ = listener.accept()
            with connection:
                subprocess.Popen([sshd, "-i", "-e", "-f", config], stdin=connection, stdout=connection)


if __name__ == "__main__":
    main()
