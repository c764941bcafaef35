"""What a board is, asked over SSH before anything is touched, and whether the agent can be installed there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from edge_agent.boards import BoardProfile, profile, profile_names
from edge_agent.devices import accelerator_kinds
from edgectl.boards.remote_shell import RemoteShell
from edgectl.errors import EdgectlError, IncompatibleError, UsageError
from edgectl.preflight import MINIMUM_PYTHON, Check
from edgectl.provisioning.platform import Platform
from edgectl.provisioning.steps import PATH

MINIMUM_NUMPY = (1, 21, 5)
SPACE_BYTES = 64 << 20
"""Room for the agent beside the one before it, with a margin; the state directory's is the agent's own concern."""

_SCRIPT = f"""
export PATH={PATH} LC_ALL=C
say() {{ printf '%s\\t%s\\n' "$1" "$2"; }}
has() {{ command -v "$1" >/dev/null 2>&1 && echo yes; }}
say user "$(id -un)"
say host "$(uname -n)"
say machine "$(uname -m)"
say root "$(if test "$(id -u)" = 0 || sudo -n true 2>/dev/null; then echo yes; fi)"
say systemd "$(test -d /run/systemd/system && has systemctl)"
say useradd "$(has useradd)"
say free "$(df -Pk /opt 2>/dev/null | awk 'NR == 2 {{ print $4 }}')"
say tree "$(cat /proc/device-tree/model /proc/device-tree/compatible 2>/dev/null | tr '\\000\\n' '  ')"
say uio "$(ls -d /sys/class/uio/* 2>/dev/null | wc -l)"
say dma "$(if ls -d /sys/class/u-dma-buf /sys/class/udmabuf >/dev/null 2>&1 || modinfo u-dma-buf >/dev/null 2>&1; then
  echo yes; fi)"
command -v python3 >/dev/null 2>&1 && python3 - <<'END'
import platform, struct, sys, sysconfig
print("python\\t%d.%d.%d" % sys.version_info[:3])
print("implementation\\t" + platform.python_implementation())
print("libc\\t" + " ".join(platform.libc_ver()).strip())
print("bits\\t%d" % (8 * struct.calcsize("P")))
try:
    import venv
    print("venv\\tyes")
except ImportError:
    pass
try:
    import numpy
    print("numpy\\t" + numpy.__version__)
except ImportError:
    pass
END
true
"""


@dataclass(frozen=True)
class Facts:
    """What a board said: words as it gave them, empty where it has no such thing. `free_bytes` are those below /opt."""

    host: str
    user: str
    machine: str
    python: str
    implementation: str
    libc: str
    numpy: str
    tree: str
    root: bool
    systemd: bool
    useradd: bool
    venv: bool
    dma_module: bool
    uio: bool
    free_bytes: int

    @property
    def platform(self) -> Platform:
        """What wheels must fit."""
        libc, _, version = self.libc.partition(" ")
        return Platform(self.machine, version_numbers(self.python)[:2], version_numbers(version)[:2], libc == "glibc")


def gather(shell: RemoteShell) -> Facts:
    """Ask a board. Raises UnreachableError, IncompatibleError where it does not answer as a Linux system does."""
    answer = shell.run(_SCRIPT)
    said = dict(line.split("\t", 1) for line in answer.output.splitlines() if "\t" in line)
    if "machine" not in said:
        raise IncompatibleError(
            "the board gives no POSIX shell by SSH, it answers "
            f"{(answer.output or answer.errors)[:200].strip()!r}; log in as a user with an ordinary shell"
        )
    return parse(said)


def parse(said: Mapping[str, str]) -> Facts:
    """The answers by their names."""
    words = {name: _printable(text) for name, text in said.items()}
    machine = words["machine"]
    if machine == "aarch64" and words.get("bits") == "32":  # 32-bit programs on a 64-bit kernel
        machine = "armv7l"
    free = words.get("free", "")
    return Facts(
        host=words.get("host", ""),
        user=words.get("user", ""),
        machine=machine,
        python=words.get("python", ""),
        implementation=words.get("implementation", ""),
        libc=words.get("libc", ""),
        numpy=words.get("numpy", ""),
        tree=words.get("tree", ""),
        root=words.get("root") == "yes",
        systemd=words.get("systemd") == "yes",
        useradd=words.get("useradd") == "yes",
        venv=words.get("venv") == "yes",
        dma_module=words.get("dma") == "yes",
        uio=words.get("uio", "0").strip() not in ("", "0"),
        free_bytes=int(free) << 10 if free.isdecimal() else 0,
    )


def _printable(text: str) -> str:
    return "".join(letter for letter in text if letter.isprintable())[:500].strip()


def version_numbers(text: str) -> tuple[int, ...]:
    """`3.10.12` and `1.21.5rc1` as numbers, up to the first that is none; empty for no version."""
    found = re.match(r"\d+(\.\d+)*", text)
    return tuple(map(int, found[0].split("."))) if found else ()


def kind_of(facts: Facts, wanted: str) -> str:
    """The board's profile: `wanted`, which must fit, else what the kernel's device tree says.

    Raises UsageError where neither says, IncompatibleError where they contradict each other.
    """
    known = _kind_of_tree(facts.tree)
    if not wanted:
        if not known:
            kinds = ", ".join(name for name in profile_names() if not profile(name).simulated)
            raise UsageError(
                f"the board does not say what kind it is (device tree: {facts.tree or 'none'}); give --type KIND, one "
                f"of {kinds}, or sim for a machine without an FPGA"
            )
        return known
    board = profile(wanted)
    if known and not board.simulated and profile(known).hardware != board.hardware:
        raise IncompatibleError(
            f"--type {wanted} was given, but the board calls itself {facts.tree}: leave --type out, or give "
            f"--type {known}"
        )
    return wanted


def _kind_of_tree(tree: str) -> str:
    """The most precise profile that the device tree names; "" for none."""
    words = re.sub(r"[^a-z0-9]", "", tree.lower())
    real = (name for name in profile_names() if not profile(name).simulated)
    return max((name for name in real if name.replace("-", "") in words), key=len, default="")


def install_checks(facts: Facts, board: BoardProfile) -> list[Check]:
    """What has to be there for the agent, each with what repairs it."""
    packages = "sudo apt-get install"
    pythons = f"Python {'.'.join(map(str, MINIMUM_PYTHON))} or later"
    numpys = f"{'.'.join(map(str, MINIMUM_NUMPY))} or later, below 3"
    numpy = version_numbers(facts.numpy)
    drives = board.accelerator in accelerator_kinds()
    fits = board.cpu == "host" or facts.machine.startswith(board.cpu)
    return [
        _check("board", "accelerator", board.accelerator, "one that the agent drives", drives, "use another board"),
        _check("board", "processor", facts.machine, board.cpu, fits, "give the right --type, or the maker's own image"),
        _check(
            "image",
            "right to install",
            "there" if facts.root else f"not there for {facts.user}",
            "root, or sudo without a password",
            facts.root,
            f"log in as root, or on the board: echo '{facts.user} ALL=(ALL) NOPASSWD: ALL' | sudo tee "
            f"/etc/sudoers.d/{facts.user}",
        ),
        _check("image", "systemd", _there(facts.systemd), "there", facts.systemd, "use an image that systemd starts"),
        _check("image", "useradd", _there(facts.useradd), "there", facts.useradd, f"{packages} passwd"),
        _check(
            "image",
            "Python",
            f"{facts.python} ({facts.implementation})" if facts.python else "not there",
            pythons,
            version_numbers(facts.python) >= MINIMUM_PYTHON and facts.implementation == "CPython",
            f"{packages} python3; where that is older, write the maker's current image to the card (PYNQ 3.0 or later)",
        ),
        _check(
            "image",
            "venv module",
            _there(facts.venv),
            "there",
            facts.venv or not facts.python,
            f"{packages} python3-venv",
        ),
        _check(
            "image",
            "NumPy",
            facts.numpy or "not there",
            numpys,
            MINIMUM_NUMPY <= numpy < (3,),
            f"{packages} python3-numpy",
        ),
    ]


def _there(found: bool) -> str:
    return "there" if found else "not there"


def _check(subject: str, what: str, found: str, wanted: str, fits: bool, repair: str) -> Check:
    return Check(subject, what, found, wanted, fits, "" if fits else repair)


def require_space(facts: Facts, nbytes: int) -> None:
    """Raise EdgectlError where the agent would not fit on the disk."""
    needed = SPACE_BYTES + nbytes
    if facts.free_bytes < needed:
        raise EdgectlError(
            f"the board's disk has {facts.free_bytes >> 20} MiB free below /opt, the agent needs {needed >> 20} MiB; "
            "make room there: sudo apt-get clean, df -h"
        )


def device_notices(facts: Facts, board: BoardProfile) -> tuple[str, ...]:
    """What the board still lacks before its accelerator can be used, which nobody but its owner can change."""
    if board.hardware is None or board.simulated:
        return ()
    missing = []
    if not facts.uio:
        missing.append(
            "the accelerator's registers are not there as UIO devices, and /dev/mem is not for an unprivileged agent: "
            "add the device tree nodes of docs/zynq.md"
        )
    if not facts.dma_module:
        missing.append(
            "the kernel module u-dma-buf is not there, other DMA memory is not for an unprivileged agent: build it as "
            "docs/zynq.md says, then run this again"
        )
    return tuple(missing)
