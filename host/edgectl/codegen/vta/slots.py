"""A buffer cut into equal slots, each remembering what was loaded into it."""

from __future__ import annotations

from collections.abc import Hashable


class Slots:
    """Least recently used slot first. Contents are known by any hashable key."""

    def __init__(self, size: int, count: int) -> None:
        """`count` slots of `size` elements each."""
        self._size = size
        self._contents: dict[int, Hashable] = dict.fromkeys(range(count))

    def take(self, key: Hashable) -> tuple[int, bool]:
        """(first element of the slot for `key`, whether `key` is already there)."""
        slot = next((slot for slot, content in self._contents.items() if content == key), next(iter(self._contents)))
        present = self._contents.pop(slot) == key
        self._contents[slot] = key
        return slot * self._size, present
