"""From instructions with absolute addresses to a program with tensors, which the verifier and the simulator take.

Transfers that overlap belong to one region of memory; each region becomes a tensor, and its use says what it is for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edge_agent.register_model.memory import PhysicalMemory
from edge_agent.vta.config import Config, Memory
from edge_agent.vta.counters import count
from edge_agent.vta.isa import Opcode, layout, opcodes
from edge_agent.vta.program import Program, ProgramTensor, Relocation, Role, element_type
from edge_agent.vta.relocation import element_sizes, set_dram_bases
from edge_agent.vta.violation import Violation

_ADDRESSES = 1 << 32
_SAME_ELEMENTS = {Memory.OUT: Memory.INP, Memory.ACC_8BIT: Memory.INP}


@dataclass(frozen=True)
class Region:
    """Physical addresses [begin, end) that instructions use as elements of `memory`."""

    memory: Memory
    begin: int
    end: int
    stored: bool

    @property
    def role(self) -> Role:
        if self.stored:
            return Role.SCRATCH
        return Role.CONSTANT if self.memory in (Memory.UOP, Memory.WGT) else Role.INPUT


@dataclass(frozen=True, eq=False)
class Stream:
    """A fetched program, and the region of memory of each of its tensors."""

    program: Program
    regions: tuple[Region, ...]


def read_stream(
    words: np.ndarray, config: Config, features: frozenset[str], memory: PhysicalMemory, bases: Mapping[Memory, int]
) -> Stream:
    """`words`: instructions uint64 (n, 2) as they lie in memory; `bases`: what the base registers add, by memory type.

    Raises Violation (an address without memory, regions used as two kinds of element), ProgramError (an undefined
    opcode).
    """
    kinds = opcodes(words)
    fields = layout(Opcode.LOAD, config)
    column = {name: field.extract(words) for name, field in fields.items()}
    rows = np.flatnonzero(((kinds == Opcode.LOAD) | (kinds == Opcode.STORE)) & (column["x_size"] > 0))
    stores = kinds[rows] == Opcode.STORE
    memories = np.where(stores, Memory.OUT, column["memory"][rows])
    sizes = element_sizes(config)[memories]
    if (sizes == 0).any():
        raise Violation("memory type", "it is not defined", int(rows[np.argmax(sizes == 0)]))
    added = np.array([bases.get(kind, 0) for kind in Memory], np.int64)[memories]
    begins = (added + column["dram_base"][rows] * sizes) % _ADDRESSES
    lines = np.where(memories == Memory.UOP, 1, np.maximum(column["y_size"][rows], 1))
    ends = begins + ((lines - 1) * column["x_stride"][rows] + column["x_size"][rows]) * sizes
    kinds_of = [_SAME_ELEMENTS.get(Memory(kind), Memory(kind)) for kind in memories.tolist()]
    regions = _regions(kinds_of, begins.tolist(), ends.tolist(), stores.tolist())
    _check_kinds(regions)
    starts = {kind: np.array([r.begin for r in regions if r.memory is kind], np.int64) for kind in Memory}
    numbers = {kind: [i for i, region in enumerate(regions) if region.memory is kind] for kind in Memory}
    tensors = [
        numbers[kind][int(np.searchsorted(starts[kind], begin, "right")) - 1]
        for kind, begin in zip(kinds_of, begins.tolist(), strict=True)
    ]
    offsets = begins - np.array([regions[tensor].begin for tensor in tensors], np.int64)
    if (offsets % sizes).any():
        raise Violation(
            "alignment", "it overlaps others by parts of elements", int(rows[np.argmax(offsets % sizes > 0)])
        )
    relative = set_dram_bases(words, rows, offsets // sizes, config)
    table, constants = [], {}
    for number, region in enumerate(regions):
        dtype, axes = element_type(region.memory, config)
        view = memory.view(region.begin, region.end)
        shape = (len(view) // config.element_bytes(region.memory), *axes)
        table.append(ProgramTensor(f"{region.begin:#x}", region.role, region.memory, shape, dtype))
        if region.role is Role.CONSTANT:
            constants[number] = view.tobytes()
    relocations = tuple(Relocation(row, tensor) for row, tensor in zip(rows.tolist(), tensors, strict=True))
    program = Program(
        "memory", config.name, features, relative, tuple(table), constants, relocations, (), count(relative, config)
    )
    return Stream(program, tuple(regions))


def _regions(kinds: list[Memory], begins: list[int], ends: list[int], stores: list[bool]) -> list[Region]:
    """Transfers of one kind of element that overlap, joined; by kind, then by address."""
    regions: list[Region] = []
    for kind, begin, end, stored in sorted(zip(kinds, begins, ends, stores, strict=True)):
        last = regions[-1] if regions else None
        if last is not None and last.memory is kind and begin < last.end:
            regions[-1] = Region(kind, last.begin, max(last.end, end), last.stored or stored)
        else:
            regions.append(Region(kind, begin, end, stored))
    return regions


def _check_kinds(regions: list[Region]) -> None:
    """Raise Violation where what is stored is also used as another kind of element."""
    ordered = sorted(regions, key=lambda region: region.begin)
    for index, region in enumerate(ordered):
        for other in ordered[index + 1 :]:
            if other.begin >= region.end:
                break
            if region.stored or other.stored:
                raise Violation(
                    "memory type", f"{other.begin:#x} is used as {region.memory.name} and as {other.memory.name}"
                )
