"""Where the parts of a program lie in its DMA buffer, and the bytes that are put there when it is loaded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_agent.hardware.dma import ALIGNMENT, DmaBuffer
from edge_agent.vta.config import Config
from edge_agent.vta.program import Program, Role
from edge_agent.vta.relocation import largest_element, relocate

_ORDER = (Role.CONSTANT, Role.INPUT, Role.SCRATCH, Role.OUTPUT)
"""What is written together lies together, so that one cache operation covers it."""


@dataclass(frozen=True)
class Span:
    """Bytes [begin, end)."""

    begin: int
    end: int


@dataclass(frozen=True)
class Placement:
    """Byte offsets from the first multiple of `alignment` in the buffer, which must have `nbytes`.

    The instructions come first. `tensors` are the tensors' spans, by index; `inputs` and `outputs` span all of a role.
    """

    nbytes: int
    alignment: int
    instructions: Span
    tensors: tuple[Span, ...]
    inputs: Span
    outputs: Span


def place(program: Program) -> Placement:
    """The layout of a program; every part begins at a multiple of the largest element, and of ALIGNMENT."""
    alignment = max(ALIGNMENT, largest_element(Config.parse(program.config)))
    instructions = Span(0, program.instructions.nbytes)
    end = instructions.end + -instructions.end % alignment
    spans: dict[int, Span] = {}
    roles: dict[Role, Span] = {}
    for role in _ORDER:
        begin = end
        for index, tensor in enumerate(program.tensors):
            if tensor.role is role:
                spans[index] = Span(end, end + tensor.nbytes)
                end += tensor.nbytes + -tensor.nbytes % alignment
        roles[role] = Span(begin, end)
    tensors = tuple(spans[index] for index in range(len(program.tensors)))
    slack = alignment - ALIGNMENT
    return Placement(end + slack, alignment, instructions, tensors, roles[Role.INPUT], roles[Role.OUTPUT])


@dataclass(frozen=True, eq=False)
class PlacedProgram:
    """A program in its buffer, from byte `start` on."""

    program: Program
    placement: Placement
    buffer: DmaBuffer
    start: int

    @property
    def instructions(self) -> int:
        """The physical address of the first instruction."""
        return self.buffer.physical + self.start + self.placement.instructions.begin

    def address(self, tensor: int) -> int:
        """The physical address of a tensor."""
        return self.buffer.physical + self.start + self.placement.tensors[tensor].begin

    def bytes(self, span: Span) -> np.ndarray:
        """Bytes of the buffer, uint8."""
        return self.buffer.array[self.start + span.begin : self.start + span.end]

    def array(self, tensor: int) -> np.ndarray:
        """A tensor in the buffer, with its shape and dtype."""
        of = self.program.tensors[tensor]
        return self.bytes(self.placement.tensors[tensor]).view(np.dtype(of.dtype).newbyteorder("<")).reshape(of.shape)


def write_program(program: Program, placement: Placement, buffer: DmaBuffer) -> PlacedProgram:
    """Put instructions, with absolute addresses, and constants into the buffer. Raises ProgramError."""
    placed = PlacedProgram(program, placement, buffer, -buffer.physical % placement.alignment)
    words = relocate(program, [placed.address(index) for index in range(len(program.tensors))])
    placed.bytes(placement.instructions)[:] = np.ascontiguousarray(words.astype("<u8")).view(np.uint8).ravel()
    for index, data in program.constants.items():
        placed.bytes(placement.tensors[index])[:] = np.frombuffer(data, np.uint8)
    return placed
