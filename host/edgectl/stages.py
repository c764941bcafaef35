"""Named stages of a longer job: announced when they begin, timed when they end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Announce = Callable[[str, float | None], None]
"""Called with a stage's name and None when it begins, with its name and the fraction done (0..1) as it goes on."""


class Stages:
    """`seconds` collects each finished stage's wall time, in order."""

    def __init__(self, announce: Announce | None = None, remark: Callable[[str], None] | None = None) -> None:
        self.seconds: dict[str, float] = {}
        self._announce = announce
        self._remark = remark
        self._current = ""

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """A stage; a name used twice adds up."""
        self._current = name
        if self._announce is not None:
            self._announce(name, None)
        begin = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begin

    def remark(self, text: str) -> None:
        """What came of the current stage, for people."""
        if self._remark is not None:
            self._remark(text)

    def progress(self, done: int, total: int) -> None:
        """How far the current stage is."""
        if self._announce is not None and total:
            self._announce(self._current, done / total)
