"""The processors that kernels are compiled for, as data."""

from __future__ import annotations

from dataclasses import dataclass

from edge_agent.runtime.cpu import processor_flags, this_machine
from edgectl.errors import CompileError

_LANE_BYTES = 4


@dataclass(frozen=True)
class CpuTarget:
    """A processor: how LLVM and the linker name it, and the sizes that schedules tile for.

    `machine` is the name the agent compares with its own ("x86_64", "armv7l", "aarch64"), `elf_machine` the ELF
    header's e_machine, `vector_bytes` the width of a vector register and `vector_registers` their number. `flags` are
    the names in /proc/cpuinfo of the instruction sets the code uses beyond the machine's baseline.
    """

    name: str
    machine: str
    triple: str
    processor: str
    attributes: tuple[str, ...]
    zig: str
    elf_machine: int
    vector_bytes: int
    vector_registers: int
    flags: tuple[str, ...] = ()

    @property
    def lanes(self) -> int:
        """32-bit lanes of a vector register."""
        return self.vector_bytes // _LANE_BYTES


# Flags: the x86-64 psABI's microarchitecture levels, in /proc/cpuinfo's spelling (abm stands for LZCNT).
_LEVEL_3 = ("avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "sse4_1", "sse4_2", "ssse3", "popcnt", "cx16")
_LEVEL_4 = (*_LEVEL_3, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")

_X86 = ("x86_64", "x86_64-linux-gnu")
TARGETS = {
    target.name: target
    for target in (
        CpuTarget("x86_64", *_X86, "x86-64", (), "x86_64-linux-gnu", 62, 16, 16),
        CpuTarget("x86_64_v3", *_X86, "x86-64-v3", (), "x86_64-linux-gnu", 62, 32, 16, _LEVEL_3),
        CpuTarget("x86_64_v4", *_X86, "x86-64-v4", (), "x86_64-linux-gnu", 62, 64, 32, _LEVEL_4),
        CpuTarget(
            "armv7",
            "armv7l",
            "armv7l-linux-gnueabihf",
            "cortex-a9",
            ("+neon",),
            "arm-linux-gnueabihf",
            40,
            16,
            16,
            ("neon",),
        ),
        CpuTarget("aarch64", "aarch64", "aarch64-linux-gnu", "generic", ("+neon",), "aarch64-linux-gnu", 183, 16, 32),
    )
}
"""Every target by name; "host" is resolved by `cpu_target`."""

_BEST_FIRST = {"x86_64": ("x86_64_v4", "x86_64_v3", "x86_64"), "aarch64": ("aarch64",), "armv7l": ("armv7",)}


def cpu_target(name: str) -> CpuTarget:
    """The target called `name`; "host" is the fastest one that this machine runs. Raises CompileError."""
    if name != "host":
        if name not in TARGETS:
            raise CompileError(f"unknown CPU target '{name}'; known are host, {', '.join(TARGETS)}")
        return TARGETS[name]
    return target_for(this_machine(), processor_flags())


def target_for(machine: str, flags: frozenset[str]) -> CpuTarget:
    """The fastest target that runs on a processor, given as agents describe theirs: the machine's name and its
    instruction sets, none where they are not known. Raises CompileError where none does."""
    candidates = [TARGETS[name] for name in _BEST_FIRST.get(machine, ())]
    fitting = [target for target in candidates if flags.issuperset(target.flags)]
    if not flags:
        fitting = candidates[-1:]
    if not fitting:
        raise CompileError(f"no CPU target fits this machine ({machine}); name one of {', '.join(TARGETS)}")
    return fitting[0]
