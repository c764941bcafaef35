"""The processor this process runs on."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from edge_agent.errors import IncompatibleError
from edge_agent.runtime.elf import HEADER_BYTES, machine_of

THREADS_VARIABLE = "EDGE_KERNEL_THREADS"
"""Environment variable with the number of threads that kernels compute on."""

_CPUINFO = Path("/proc/cpuinfo")
_ARM = ("armv7l", "aarch64")


def this_machine() -> str:
    """The machine's name; the interpreter's own file tells, for a 64-bit system may run 32-bit programs."""
    try:
        with Path("/proc/self/exe").open("rb") as file:
            return machine_of(file.read(HEADER_BYTES))
    except (OSError, IncompatibleError):
        return platform.machine()


def processor_flags(listing: Path = _CPUINFO) -> frozenset[str]:
    """Instruction sets as Linux lists them ("flags" on x86, "Features" on ARM); empty if unknown.

    Under user emulation the listing may be another machine's, and names none of this one's.
    """
    title = "features" if this_machine() in _ARM else "flags"
    try:
        lines = listing.read_text(errors="replace").splitlines()
    except OSError:
        return frozenset()
    listed = [line.partition(":")[2] for line in lines if line.lower().startswith(title)]
    return frozenset(flag for flags in listed for flag in flags.split())


def kernel_threads() -> int:
    """Threads that a kernel may compute on: EDGE_KERNEL_THREADS, or the cores that this process may use."""
    text = os.environ.get(THREADS_VARIABLE, "").strip()
    if text.isdecimal() and int(text) > 0:
        return int(text)
    return len(os.sched_getaffinity(0))
