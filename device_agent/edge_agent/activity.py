"""Whether the agent is in use: for its idle timeout, and for ending without cutting off an answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Activity:
    """Counts what is under way and remembers when the last of it ended. Thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._working = 0
        self._ended = time.monotonic()

    @contextmanager
    def working(self) -> Iterator[None]:
        """Something is under way inside this context."""
        with self._changed:
            self._working += 1
        try:
            yield
        finally:
            with self._changed:
                self._working -= 1
                self._ended = time.monotonic()
                self._changed.notify_all()

    @property
    def idle_seconds(self) -> float:
        """Since when nothing has been under way; 0 while something is."""
        with self._changed:
            return 0.0 if self._working else time.monotonic() - self._ended

    def wait_idle(self, seconds: float) -> bool:
        """Wait until nothing is under way, at most so long; whether it came to that."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._working, seconds)
