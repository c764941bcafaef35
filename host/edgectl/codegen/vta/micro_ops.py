"""The program's micro-ops: shared between instructions, kept on chip as long as they fit."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from edge_agent.vta.config import MICRO_OP_BYTES, Config, Memory


class MicroOpTable:
    """Places sequences of micro-ops in the DRAM image and in UOP memory.

    One sequence, `pinned`, stays at the beginning of UOP memory. What a layer needs is loaded together, behind what is
    there; when UOP memory is full, placement starts over after the pinned sequence. A sequence that occurs inside what
    is on chip is shared. The DRAM image only grows, so that queued loads stay valid.
    """

    def __init__(self, config: Config, pinned: bytes, load: Callable[[int, int, int], None]) -> None:
        """`load(sram_base, dram_base, count)` emits a LOAD of micro-ops."""
        self._depth = config.depth(Memory.UOP)
        self._load = load
        self._image: list[bytes] = []
        self._size = 0
        self._pinned, self._pinned_there = pinned, False
        self._first = len(pinned) // MICRO_OP_BYTES
        self._next = self._first
        self._pieces: list[tuple[int, bytes]] = []
        """What is on chip behind the pinned sequence: (begin, micro-ops)."""

    @property
    def image(self) -> bytes:
        return b"".join(self._image)

    def pinned(self) -> int:
        """Where the pinned sequence begins in UOP memory; loads it at its first use."""
        if not self._pinned_there:
            self._pinned_there = True
            self._bring(0, self._pinned)
        return 0

    def prepare(self, sequences: Iterable[bytes]) -> None:
        """Load those of `sequences` that are not on chip, in one transfer if all fit beside each other."""
        needed = list(dict.fromkeys(sequences))
        for _ in range(2):
            missing = _without_parts([sequence for sequence in needed if self._find(sequence) is None])
            together = b"".join(missing)
            if not missing or len(together) // MICRO_OP_BYTES > self._depth - self._first:
                return
            if self._next + len(together) // MICRO_OP_BYTES <= self._depth:
                break
            # Starting over evicts others, which may be needed too.
            self._next = self._first
            self._evict(self._first, self._first + len(together) // MICRO_OP_BYTES)
        self._append(together)

    def place(self, sequence: bytes) -> tuple[int, int]:
        """(begin, end) in UOP memory of `sequence`, loading it if it is not there."""
        begin = self._find(sequence)
        if begin is None:
            self._append(sequence)
            begin = self._find(sequence)
            assert begin is not None, "it was just loaded"
        return begin, begin + len(sequence) // MICRO_OP_BYTES

    def _append(self, micro_ops: bytes) -> None:
        count = len(micro_ops) // MICRO_OP_BYTES
        if self._next + count > self._depth:
            self._next = self._first
        self._bring(self._next, micro_ops)
        self._next += count

    def _bring(self, begin: int, micro_ops: bytes) -> None:
        count = len(micro_ops) // MICRO_OP_BYTES
        self._evict(begin, begin + count)
        self._pieces.append((begin, micro_ops))
        self._image.append(micro_ops)
        self._load(begin, self._size, count)
        self._size += count

    def _evict(self, begin: int, end: int) -> None:
        self._pieces = [
            (first, piece)
            for first, piece in self._pieces
            if first + len(piece) // MICRO_OP_BYTES <= begin or first >= end
        ]

    def _find(self, sequence: bytes) -> int | None:
        for begin, piece in reversed(self._pieces):
            position = piece.find(sequence)
            while position >= 0 and position % MICRO_OP_BYTES:
                position = piece.find(sequence, position + 1)
            if position >= 0:
                return begin + position // MICRO_OP_BYTES
        return None


def _without_parts(sequences: list[bytes]) -> list[bytes]:
    """Those that are no part of a longer one, in their order."""
    kept: list[bytes] = []
    for sequence in sorted(sequences, key=len, reverse=True):
        if not any(_contains(other, sequence) for other in kept):
            kept.append(sequence)
    return [sequence for sequence in sequences if sequence in kept]


def _contains(longer: bytes, shorter: bytes) -> bool:
    position = longer.find(shorter)
    while position >= 0 and position % MICRO_OP_BYTES:
        position = longer.find(shorter, position + 1)
    return position >= 0
