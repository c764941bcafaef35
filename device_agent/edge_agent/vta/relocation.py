"""Binding a program to memory: DRAM bases become absolute (docs/program-format.md, "Placement and relocation")."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edge_agent.errors import ProgramError
from edge_agent.vta.config import Config, Memory
from edge_agent.vta.isa import Opcode, layout
from edge_agent.vta.program import Program


def element_sizes(config: Config) -> np.ndarray:
    """Bytes of a DRAM element by the number in an instruction's memory field, int64 (8,); 0 where it is undefined."""
    sizes = np.zeros(8, np.int64)
    for memory in Memory:
        sizes[memory] = config.element_bytes(memory)
    return sizes


def largest_element(config: Config) -> int:
    """Bytes that every tensor's address must be a multiple of."""
    return int(element_sizes(config).max())


def set_dram_bases(words: np.ndarray, rows: np.ndarray, bases: np.ndarray, config: Config) -> np.ndarray:
    """A copy of instructions uint64 (n, 2) in which `rows`, LOAD or STORE, have dram_base `bases`, int64 by row."""
    field = layout(Opcode.LOAD, config)["dram_base"]
    mask = np.uint64((1 << field.width) - 1 << field.shift)
    changed = words.copy()
    changed[rows, field.word] = (words[rows, field.word] & ~mask) | (bases.astype(np.uint64) << np.uint64(field.shift))
    return changed


def relocate(program: Program, addresses: Sequence[int]) -> np.ndarray:
    """The program's instructions uint64 (n, 2) for tensors at these physical addresses, by tensor.

    Raises ProgramError where an address is no multiple of an element or not within 32 bits.
    """
    config = Config.parse(program.config)
    fields = layout(Opcode.LOAD, config)
    rows = np.array([relocation.instruction for relocation in program.relocations], np.int64)
    tensors = np.array([relocation.tensor for relocation in program.relocations], np.int64)
    placed = np.array(addresses, np.int64)[tensors] if len(tensors) else tensors
    sizes = element_sizes(config)[fields["memory"].extract(program.instructions[rows])]
    if (sizes == 0).any() or (placed % np.maximum(sizes, 1)).any():
        bad = int(np.flatnonzero((sizes == 0) | (placed % np.maximum(sizes, 1) != 0))[0])
        raise ProgramError(
            f"program '{program.name}': tensor '{program.tensors[tensors[bad]].name}' at {placed[bad]:#x} is no "
            f"multiple of the {sizes[bad]} bytes that instruction {rows[bad]} counts in"
        )
    bases = fields["dram_base"].extract(program.instructions[rows]) + placed // np.maximum(sizes, 1)
    if (bases > fields["dram_base"].high).any():
        raise ProgramError(f"program '{program.name}': a tensor lies beyond what 32 bits address")
    return set_dram_bases(program.instructions, rows, bases, config)
