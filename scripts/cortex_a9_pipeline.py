# SPDX-License-Identifier: Apache-2.0
"""How long a Cortex-A9 takes over a block of instructions: one issued per cycle, in order, once its operands are there.

NEON and VFP have a data path of 64 bits and issue in order; the integer core may issue two at once and out of order,
which is left out. Caches always hit. Issue cycles and latencies: as in the Technical Reference Manuals of the Cortex-A9
(appendix B), its FPU and its NEON Media Processing Engine (chapter 3), simplified to few classes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

KINDS = ("core", "64-bit", "128-bit")
FLAGS, FLOAT_FLAGS = "flags", "fpscr"
TO_FLAGS = 4
"""Cycles from a floating-point comparison to the core's flags."""
LOAD, TRANSFER = 4, 4
"""Cycles to a loaded value; between the core's and NEON's registers."""
FLOAT, FLOAT_ACCUMULATE, INTEGER, INTEGER_MULTIPLY = 5, 9, 3, 6
"""Cycles from issue to the result, of NEON and VFP."""
DIVIDE, ROOT = (10, 15), (13, 17)
"""Issue cycles and latency."""


@dataclass(frozen=True)
class Instruction:
    """What matters of an instruction: cycles until the next may issue and until its result is there, and registers.

    `late` are accumulators, which a multiply-accumulate needs only when the product is there. NEON's registers are
    named by their 32-bit words, "w0" to "w63".
    """

    kind: str
    issue: int
    latency: int
    reads: frozenset[str]
    late: frozenset[str]
    writes: frozenset[str]


def steady_cycles(block: Sequence[Instruction]) -> int:
    """Cycles of a block that follows itself."""
    first, ready = _run(block, {}, 0)
    second, _ = _run(block, ready, first)
    return second - first


def _run(block: Sequence[Instruction], ready: dict[str, int], cycle: int) -> tuple[int, dict[str, int]]:
    ready = dict(ready)
    for instruction in block:
        operands = [ready.get(register, 0) for register in instruction.reads]
        sums = [ready.get(register, 0) - INTEGER_MULTIPLY + INTEGER for register in instruction.late]
        start = max([cycle, *operands, *sums])
        cycle = start + instruction.issue
        ready.update(dict.fromkeys(instruction.writes, start + instruction.latency + instruction.issue - 1))
    return cycle, ready


def parse(text: str) -> Instruction:
    """An instruction from its disassembly."""
    mnemonic, _, operands = text.partition(" ")
    mnemonic, fields = mnemonic.strip(), operands.strip()
    name, _, suffix = mnemonic.partition(".")
    registers, memory = _registers(fields.partition("[")[0]), _registers(fields.partition("[")[2])
    if not name.startswith("v"):
        return _core(name, fields, registers, memory)
    loads, stores = name.startswith(("vld", "vpop")), name.startswith(("vst", "vpush"))
    words = [register for register in registers if register.startswith("w")]
    if loads or stores:
        issue = max(1, len(dict.fromkeys(words)) // 2)
        base = frozenset(memory) | {register for register in registers if not register.startswith("w")}
        kind = KINDS[1 + (len(set(words)) > 2)]
        if stores:
            return Instruction(kind, issue, 1, base | set(words), frozenset(), _updated(fields, memory))
        return Instruction(kind, issue, LOAD, base, frozenset(), frozenset(words))
    if name == "vmrs":
        return Instruction(KINDS[1], 1, 1, frozenset({FLOAT_FLAGS}), frozenset(), frozenset({FLAGS}))
    destination, sources = _first(fields), frozenset(_registers(fields.partition(",")[2]))
    kind = KINDS[2] if re.search(r"\bq\d", fields) else KINDS[1]
    if name.startswith("vcmp") and suffix == "f32" and "s" in fields:
        return Instruction(kind, 1, TO_FLAGS, sources | destination, frozenset(), frozenset({FLOAT_FLAGS}))
    issue = 2 if kind == KINDS[2] else 1
    transfer = any(register.startswith("r") for register in registers)
    floating = "f32" in suffix
    accumulates = name.startswith(("vmla", "vmls"))
    if name.startswith(("vdiv", "vsqrt")):
        issue, latency = DIVIDE if name.startswith("vdiv") else ROOT
    elif transfer:
        latency = TRANSFER
    elif floating and not name.startswith("vmov"):
        latency = FLOAT_ACCUMULATE if accumulates else FLOAT
    else:
        latency = INTEGER_MULTIPLY if name.startswith(("vmul", "vmla", "vmls", "vmull")) else INTEGER
    conditional = name[-2:] in ("gt", "mi", "lt", "ge", "le", "ls", "hi", "eq", "ne", "pl", "vs", "vc")
    kept = destination if conditional or accumulates else frozenset()
    flags = frozenset({FLAGS}) if conditional else frozenset()
    late = kept if accumulates else frozenset()
    return Instruction(kind, issue, latency, sources | flags | (kept - late), late, destination)


def _core(name: str, fields: str, registers: Sequence[str], memory: Sequence[str]) -> Instruction:
    """Several registers of LDM and STM go two a cycle."""
    if name.startswith(("push", "pop", "stm", "ldm")):
        return Instruction(KINDS[0], max(1, -(-len(registers) // 2)), 1, frozenset(), frozenset(), frozenset())
    if name.startswith("str"):
        return Instruction(KINDS[0], 1, 1, frozenset([*registers, *memory]), frozenset(), _updated(fields, memory))
    flags = frozenset({FLAGS})
    if name.startswith(("cmp", "cmn", "tst", "teq")):
        return Instruction(KINDS[0], 1, 1, frozenset(registers), frozenset(), flags)
    if name.startswith("b") and name not in ("bic", "bfi", "bfc", "bics"):
        return Instruction(KINDS[0], 1, 1, flags if name != "b" else frozenset(), frozenset(), frozenset())
    if name.startswith("ldr"):
        writes = _first(fields) | _updated(fields, memory)
        return Instruction(KINDS[0], 1, LOAD, frozenset(memory), frozenset(), writes)
    latency = 4 if name.startswith(("mul", "mla", "smul", "smla", "umul", "umla")) else 1
    sets = flags if name.endswith("s") and name not in ("mls",) else frozenset()
    writes = _first(fields) | sets
    return Instruction(KINDS[0], 1, latency, frozenset(registers[1:]), frozenset(), writes)


def _updated(fields: str, memory: Sequence[str]) -> frozenset[str]:
    return frozenset(memory[:1]) if "!" in fields else frozenset()


def _first(fields: str) -> frozenset[str]:
    return frozenset(_registers(fields.partition(",")[0]))


def _registers(text: str) -> list[str]:
    """Registers of operands in order; s, d and q registers as their words, ranges in full."""
    found: list[str] = []
    for kind, number, last in re.findall(r"\b([rsdq])(\d+)(?:\[\d*\])?(?:\s*-\s*[sd](\d+))?", text):
        if kind == "r":
            found.append(f"r{number}")
            continue
        size = {"s": 1, "d": 2, "q": 4}[kind]
        for index in range(int(number), int(last or number) + 1):
            found += [f"w{index * size + word}" for word in range(size)]
    found += [f"r_{name}" for name in re.findall(r"\b(sp|lr|fp|ip|sb|sl|pc)\b", text)]
    return found
