# SPDX-License-Identifier: Apache-2.0
"""Make a Debian root for another processor, whose programs run under qemu's user emulation: docs/arm.md.

    python -m scripts.emulated_root [armhf|arm64]

prints its folder. It has Python, NumPy and pip of the distribution and is kept in the cache, $EDGECTL_CACHE, under the
digest of what determines it. Needs root, and the system packages debootstrap and qemu-user-static.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgectl.files import cache_folder, exclusive

SUITE = "bookworm"
PACKAGES = ("ca-certificates", "python3", "python3-numpy", "python3-pip", "python3-venv")
BINFMT = Path("/proc/sys/fs/binfmt_misc")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
MINUTES = 90
"""What a busy machine may take: it is eight minutes of one core, for Debian's scripts run under emulation."""


@dataclass(frozen=True)
class Architecture:
    """Debian's name and qemu's, the name that manifests use, the board's processor, and what ELF headers say."""

    debian: str
    qemu: str
    machine: str
    processor: str
    elf_class: int
    elf_machine: int

    @property
    def emulator(self) -> str:
        return f"qemu-{self.qemu}-static"


ARCHITECTURES = {
    architecture.debian: architecture
    for architecture in (
        Architecture("armhf", "arm", "armv7l", "cortex-a9", 1, 40),
        Architecture("arm64", "aarch64", "aarch64", "cortex-a53", 2, 183),
    )
}


class RootError(Exception):
    """A root cannot be made or used; the message says why."""


@dataclass(frozen=True)
class EmulatedRoot:
    """A Debian root for another processor."""

    architecture: Architecture
    folder: Path

    def command(self, arguments: Sequence[str], binds: Sequence[tuple[Path, str]] = ()) -> list[str]:
        """The command line that runs `arguments` inside, with folders or files of this machine at paths in there.

        Its mounts are its own and go with it; process ids and network are this machine's, and the process that is
        started becomes the program.
        """
        # Not this machine's /dev: nothing in there shall find its memory and disks.
        script = [
            'set -e; root=$1; shift; mount -t proc proc "$root/proc"; mount -t tmpfs tmpfs "$root/dev"',
            f'for path in {" ".join(_DEVICES)}; do touch "$root$path"; mount --bind $path "$root$path"; done',
            'mkdir -m 1777 "$root/dev/shm"',
        ]
        for source, target in binds:
            script.append(f'mount --bind "{source}" "$root{target}"')
        script.append('exec chroot "$root" "$@"')
        unshare = ["unshare", "--mount", "--propagation", "private"]
        return [*unshare, "sh", "-c", "; ".join(script), "sh", os.fspath(self.folder), *arguments]

    def run(self, arguments: Sequence[str], binds: Sequence[tuple[Path, str]] = ()) -> str:
        """What a program inside prints. Raises RootError, with its last lines, where it fails."""
        return _run(self.command(arguments, binds), self.environment())

    def environment(self) -> dict[str, str]:
        """Of programs inside: what the board's processor lacks is missing there too."""
        return {**_environment(), "QEMU_CPU": self.architecture.processor}


def _environment() -> dict[str, str]:
    """This machine's locale and Python settings mean nothing inside."""
    kept = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
    return {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", **kept}


def obstacle(architecture: Architecture) -> str:
    """Why no root can be made here; "" where it can."""
    if os.geteuid() != 0:
        return "an emulated root needs root: it is mounted and changed into"
    tools = {"debootstrap": "debootstrap", architecture.emulator: "qemu-user-static", "unshare": "util-linux"}
    missing = sorted({package for tool, package in tools.items() if _tool(tool) is None})
    if missing:
        return f"an emulated root needs the system packages {' '.join(missing)}"
    try:
        _register(architecture)
    except OSError as error:
        return f"the kernel takes no emulator for {architecture.debian}: {error}"
    except RootError as error:
        return str(error)
    return ""


def make_root(architecture: Architecture) -> EmulatedRoot:
    """The cached root, or a new one: several minutes. Raises RootError."""
    if problem := obstacle(architecture):
        raise RootError(problem)
    determinants = repr((SUITE, PACKAGES, architecture))
    digest = hashlib.sha256(determinants.encode()).hexdigest()[:12]
    folder = cache_folder() / "roots" / f"{architecture.debian}-{SUITE}-{digest}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with exclusive(folder.with_suffix(".lock"), MINUTES * 60, f"another process has been making {folder} for too long"):
        if not folder.is_dir():
            _bootstrap(architecture, folder)
    return EmulatedRoot(architecture, folder)


def _bootstrap(architecture: Architecture, folder: Path) -> None:
    """A root that failed or was interrupted leaves nothing: it gets its name when it is whole."""
    for leftover in folder.parent.glob(f".{folder.name}.*"):
        shutil.rmtree(leftover, ignore_errors=True)  # of a process that was killed: the lock is ours
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    temporary.chmod(0o755)
    options = [f"--arch={architecture.debian}", "--variant=minbase", f"--include={','.join(PACKAGES)}"]
    try:
        # In a mount namespace of its own: debootstrap leaves /proc and /sys mounted.
        unshare = ["unshare", "--mount", "--propagation", "private"]
        _run([*unshare, "debootstrap", *options, SUITE, os.fspath(temporary)], _environment())
        shutil.rmtree(temporary / "var" / "cache" / "apt" / "archives", ignore_errors=True)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _tool(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")


def _register(architecture: Architecture) -> None:
    """Have the kernel run the processor's programs by its emulator, which it opens now (F): roots need no copy.

    Raises OSError, RootError.
    """
    if not (BINFMT / "register").exists():
        _run(["mount", "-t", "binfmt_misc", "binfmt_misc", os.fspath(BINFMT)], dict(os.environ))
    entry = BINFMT / f"qemu-{architecture.qemu}"
    if entry.exists():
        flags = next((line for line in entry.read_text().splitlines() if line.startswith("flags:")), "")
        if "F" in flags:
            return
        entry.write_text("-1")
    # Of an ELF header, little-endian and of this class and machine: the ABI's byte is free, and programs may be of
    # type 2 or 3.
    magic = b"\x7fELF" + bytes((architecture.elf_class, 1, 1, *bytes(9), 2, 0, architecture.elf_machine, 0))
    mask = b"\xff" * 7 + b"\0" + b"\xff" * 8 + b"\xfe\xff\xff\xff"
    fields = ("", entry.name, "M", "", _escaped(magic), _escaped(mask), str(_tool(architecture.emulator)), "F")
    (BINFMT / "register").write_text(":".join(fields))


def _escaped(data: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in data)


def _run(command: Sequence[str], environment: dict[str, str]) -> str:
    try:
        result = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=MINUTES * 60, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RootError(f"{command[0]} did not run: {error}") from error
    if result.returncode != 0:
        said = "\n".join((result.stdout + result.stderr).splitlines()[-15:])
        raise RootError(f"`{' '.join(command)}` failed with exit code {result.returncode}:\n{said}")
    return result.stdout


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("architecture", nargs="?", default="armhf", choices=list(ARCHITECTURES))
    try:
        print(make_root(ARCHITECTURES[parser.parse_args().architecture]).folder)
    except RootError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
