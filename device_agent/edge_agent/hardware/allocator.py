"""Divides one contiguous range of memory: first fit, lowest address first; the same calls give the same result."""

from __future__ import annotations

from bisect import bisect_left


class Allocator:
    """Offsets in [0, size) that nobody uses twice. Every block begins at a multiple of `alignment`."""

    def __init__(self, size: int, alignment: int = 256) -> None:
        if alignment < 1 or size < 0:
            raise ValueError(f"a range of {size} bytes cannot be divided at multiples of {alignment}")
        self._alignment = alignment
        usable = size - size % alignment
        self._free: list[tuple[int, int]] = [(0, usable)] if usable else []
        self._used: dict[int, int] = {}

    @property
    def free_bytes(self) -> int:
        return sum(end - begin for begin, end in self._free)

    @property
    def largest(self) -> int:
        """Bytes of the largest block that could be allocated now."""
        return max((end - begin for begin, end in self._free), default=0)

    def allocate(self, nbytes: int) -> int | None:
        """The offset of a new block, or None where no hole is large enough."""
        if nbytes < 1:
            raise ValueError(f"a block has at least one byte, not {nbytes}")
        needed = nbytes + -nbytes % self._alignment
        for index, (begin, end) in enumerate(self._free):
            if end - begin >= needed:
                self._free[index : index + 1] = [(begin + needed, end)] if end - begin > needed else []
                self._used[begin] = needed
                return begin
        return None

    def free(self, offset: int) -> None:
        """Give a block back. Raises ValueError where none begins at `offset`."""
        if offset not in self._used:
            raise ValueError(f"no block begins at offset {offset}")
        begin, end = offset, offset + self._used.pop(offset)
        index = bisect_left(self._free, (begin, end))
        if index < len(self._free) and self._free[index][0] == end:
            end = self._free.pop(index)[1]
        if index and self._free[index - 1][1] == begin:
            index -= 1
            begin = self._free.pop(index)[0]
        self._free.insert(index, (begin, end))
