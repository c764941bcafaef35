"""Waiting for the end of a run."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edge_agent.hardware.core import Core
from edge_agent.hardware.dma import DmaBuffer, DmaMemory
from edge_agent.hardware.ordering import barrier
from edge_agent.hardware.placement import Span

_EAGER_SECONDS = 100e-6
_SHARE = 1 / 50
"""A pause is at most this share of what a run has taken so far: what polling adds to its latency."""
_LONGEST_PAUSE = 1e-3


@dataclass(frozen=True)
class Run:
    """A run that was started, by the memory in which its end shows: `nonce` gives way there to what it stores. It is
    given until `deadline`, of time.monotonic()."""

    core: Core
    memory: DmaMemory
    buffer: DmaBuffer
    sentinel: Span
    nonce: np.ndarray
    deadline: float

    def ends(self) -> bool:
        """Whether it ends before its deadline."""
        return wait(self.has_ended, self.deadline - time.monotonic())

    def has_ended(self) -> bool:
        """Whether FINISH was executed in this run. See hardware/sentinel.py."""
        if not self.core.says_done():
            return False
        barrier()
        self.memory.to_cpu(self.buffer, self.sentinel.begin, self.sentinel.end)
        if np.array_equal(self.buffer.array[self.sentinel.begin : self.sentinel.end], self.nonce):
            return False
        barrier()
        return self.core.says_done()


def wait(ended: Callable[[], bool], seconds: float) -> bool:
    """Whether it has `ended` within so many seconds. Short runs are watched closely, long ones less and less."""
    begin = time.monotonic()
    while not ended():
        elapsed = time.monotonic() - begin
        if elapsed > seconds:
            return ended()  # this process may not have run for long
        time.sleep(0 if elapsed < _EAGER_SECONDS else min(elapsed * _SHARE, _LONGEST_PAUSE))
    return True
