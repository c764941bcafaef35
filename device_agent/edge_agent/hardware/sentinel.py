"""Telling this run's DONE from the previous one's.

Compute's DONE register keeps saying 1 after a run, until compute executes its next instruction. Whoever polls in
between takes the old 1 for the new one and reads results that are not there. So before a run the driver writes random
bytes over one element that the program stores, and believes DONE only once they are gone: then compute has worked in
this run, and a 1 that is read from then on is this run's FINISH, which comes after the last store.

Nothing is assumed of control bits that clear when they are read, nor of how soon a run begins.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np

from edge_agent.errors import ProgramError
from edge_agent.hardware.placement import Span
from edge_agent.vta.config import Config, Memory
from edge_agent.vta.isa import Opcode, layout, opcodes
from edge_agent.vta.program import Program

NONCE_BYTES = 8
"""Random bytes, at the end of an element: by chance a run stores the same ones once in 2^64 runs."""


@dataclass(frozen=True)
class Sentinel:
    """A stored element's tensor, by index, and the bytes in it that are watched."""

    tensor: int
    span: Span


def find_sentinel(program: Program) -> Sentinel:
    """The last element that the last STORE writes. Raises ProgramError where a program stores nothing."""
    config = Config.parse(program.config)
    fields = layout(Opcode.STORE, config)
    stores = opcodes(program.instructions) == Opcode.STORE
    moving = np.flatnonzero(stores & (fields["x_size"].extract(program.instructions) > 0))
    if not len(moving):
        raise ProgramError(f"program '{program.name}' stores nothing, so it computes nothing")
    last = int(moving[-1])
    tensor = next(entry.tensor for entry in program.relocations if entry.instruction == last)
    base, rows, columns, stride = (
        int(fields[name].extract(program.instructions[last : last + 1])[0])
        for name in ("dram_base", "y_size", "x_size", "x_stride")
    )
    nbytes = config.element_bytes(Memory.OUT)
    end = (base + (rows - 1) * stride + columns) * nbytes
    return Sentinel(tensor, Span(end - min(NONCE_BYTES, nbytes), end))


def new_nonce(nbytes: int) -> np.ndarray:
    """Random bytes, uint8 (nbytes,)."""
    return np.frombuffer(os.urandom(nbytes), np.uint8)
