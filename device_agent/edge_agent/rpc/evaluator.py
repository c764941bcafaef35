"""Timed repetition of a function: what stands behind a stock client's `time_evaluator`."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from dataclasses import dataclass

from edge_agent.errors import InputError

_GROWTH = 1.618
MAXIMUM_CALLS = 1_000_000


@dataclass(frozen=True)
class Evaluation:
    """`repeat` measurements of `number` calls each; `number` grows until one lasts `minimum_seconds`."""

    number: int
    repeat: int
    minimum_seconds: float = 0.0
    cooldown_seconds: float = 0.0
    repeats_to_cooldown: int = 1

    def check(self) -> None:
        """Raises InputError."""
        if not (self.number >= 1 and self.repeat >= 1 and self.number * self.repeat <= MAXIMUM_CALLS):
            raise InputError(
                f"number={self.number} and repeat={self.repeat} must be positive, their product at most {MAXIMUM_CALLS}"
            )
        if not (
            0 <= self.minimum_seconds <= 3600 and 0 <= self.cooldown_seconds <= 3600 and self.repeats_to_cooldown >= 1
        ):
            raise InputError("min_repeat_ms, cooldown_interval_ms and repeats_to_cooldown are out of range")

    def run(self, call: Callable[[], object], pause: Callable[[], None]) -> bytes:
        """Seconds per call of every repeat, as packed float64. One call before them warms up.

        `pause` runs before every call, outside the measured time, and raises where the measurement shall stop.
        """
        self.check()
        pause()
        call()
        number, means = self.number, []
        for repeat in range(self.repeat):
            while True:
                seconds = 0.0
                for _ in range(number):
                    pause()
                    start = time.perf_counter()
                    call()
                    seconds += time.perf_counter() - start
                if seconds >= self.minimum_seconds or number >= MAXIMUM_CALLS:
                    break
                wanted = self.minimum_seconds / max(seconds / number, 1e-9) + 1
                number = min(MAXIMUM_CALLS, max(int(wanted), int(number * _GROWTH) + 1))
            means.append(seconds / number)
            if self.cooldown_seconds and (repeat + 1) % self.repeats_to_cooldown == 0:
                time.sleep(self.cooldown_seconds)
        return struct.pack(f"<{len(means)}d", *means)
