"""The processor this process runs on."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from edge_agent.errors import IncompatibleError
from edge_agent.runtime.elf import HEADER_BYTES, machine_of

THREADS_VARIABLE = "EDGE_KERNEL_THREADS"
"""Environment variable with the number of threads that kernels compute on."""


def this_machine() -> str:
    """The machine's name; the interpreter's own file tells, for a 64-bit system may run 32-bit programs."""
    try:
        with Path("/proc/self/exe").open("rb") as file:
            return machine_of(file.read(HEADER_BYTES))
    except (OSError, IncompatibleError):
        return platform.machine()


def processor_flags() -> frozenset[str]:
    """Instruction sets as Linux lists them in /proc/cpuinfo ("flags" on x86, "Features" on ARM); empty if unknown."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return frozenset()
    listed = [line.partition(":")[2] for line in lines if line.lower().startswith(("flags", "features"))]
    return frozenset(flag for flags in listed for flag in flags.split())


def kernel_threads() -> int:
    """Threads that a kernel may compute on: EDGE_KERNEL_THREADS, or the cores that this process may use."""
    text = os.environ.get(THREADS_VARIABLE, "").strip()
    if text.isdecimal() and int(text) > 0:
        return int(text)
    return len(os.sched_getaffinity(0))
