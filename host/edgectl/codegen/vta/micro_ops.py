"""The program's micro-ops: shared between instructions, kept on chip as long as they fit."""

from __future__ import annotations

from collections.abc import Callable

from edge_agent.vta.config import MICRO_OP_BYTES, Config, Memory


class MicroOpTable:
    """Places sequences of micro-ops in the DRAM image and in UOP memory.

    A sequence that occurs inside one already placed is shared. When UOP memory is full, placement starts over at its
    beginning and what it overwrites is loaded again at its next use; the DRAM image only grows, so that queued loads
    stay valid.
    """

    def __init__(self, config: Config, load: Callable[[int, int, int], None]) -> None:
        """`load(sram_base, dram_base, count)` emits a LOAD of micro-ops."""
        self._depth = config.depth(Memory.UOP)
        self._load = load
        self._sequences: list[bytes] = []
        self._offsets: list[int] = []
        self._resident: dict[int, int] = {}
        self._known: dict[bytes, tuple[int, int]] = {}
        self._next = 0
        self._size = 0

    @property
    def image(self) -> bytes:
        return b"".join(self._sequences)

    def place(self, sequence: bytes) -> tuple[int, int]:
        """(begin, end) in UOP memory of `sequence`, loading it if it is not there."""
        if sequence not in self._known:
            self._known[sequence] = self._find(sequence)
        number, inner = self._known[sequence]
        count = len(self._sequences[number]) // MICRO_OP_BYTES
        if number not in self._resident:
            if self._next + count > self._depth:
                self._next = 0
            begin, end = self._next, self._next + count
            self._resident = {
                other: base
                for other, base in self._resident.items()
                if base + len(self._sequences[other]) // MICRO_OP_BYTES <= begin or base >= end
            }
            self._resident[number] = begin
            self._next = end
            self._load(begin, self._offsets[number], count)
        base = self._resident[number] + inner
        return base, base + len(sequence) // MICRO_OP_BYTES

    def _find(self, sequence: bytes) -> tuple[int, int]:
        for number, known in enumerate(self._sequences):
            position = known.find(sequence)
            while position >= 0 and position % MICRO_OP_BYTES:
                position = known.find(sequence, position + 1)
            if position >= 0:
                return number, position // MICRO_OP_BYTES
        self._sequences.append(sequence)
        self._offsets.append(self._size)
        self._size += len(sequence) // MICRO_OP_BYTES
        return len(self._sequences) - 1, 0
