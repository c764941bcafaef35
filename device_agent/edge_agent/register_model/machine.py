"""Executes what lies in physical memory. What a run needs is prepared once, as long as the memory does not change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edge_agent.register_model.memory import PhysicalMemory
from edge_agent.register_model.stream import Stream, read_stream
from edge_agent.vta.config import INSTRUCTION_BYTES, Config, Memory
from edge_agent.vta.simulator import Simulation
from edge_agent.vta.verify import verify

_KEPT = 8
"""Programs whose preparation is kept."""


@dataclass(frozen=True, eq=False)
class _Prepared:
    """A program ready to run, and the instructions and base registers that it was made from."""

    words: np.ndarray
    bases: dict[Memory, int]
    stream: Stream
    simulation: Simulation

    def is_current(self, words: np.ndarray, bases: Mapping[Memory, int], memory: PhysicalMemory) -> bool:
        """Whether memory still holds the same program, with the same weights and micro-ops."""
        if dict(bases) != self.bases or not np.array_equal(words, self.words):
            return False
        return all(
            np.array_equal(
                memory.view(self.stream.regions[index].begin, self.stream.regions[index].end),
                np.frombuffer(data, np.uint8),
            )
            for index, data in self.stream.program.constants.items()
        )


class Machine:
    """The modules of one accelerator, on its memory."""

    def __init__(self, memory: PhysicalMemory, config: Config, features: frozenset[str]) -> None:
        self.memory = memory
        self._config = config
        self._features = features
        self._prepared: dict[tuple[int, int], _Prepared] = {}

    def execute(self, count: int, address: int, bases: Mapping[Memory, int]) -> Stream:
        """Run `count` instructions at a physical address; returns what they were.

        Raises Violation or ProgramError where they break a rule, IncompatibleError where they need what is not there.
        """
        raw = self.memory.view(address, address + count * INSTRUCTION_BYTES)
        words = np.frombuffer(raw.tobytes(), "<u8").reshape(-1, 2).astype(np.uint64)
        prepared = self._prepared.pop((count, address), None)
        if prepared is None or not prepared.is_current(words, bases, self.memory):
            prepared = self._prepare(words, bases)
        self._prepared[count, address] = prepared
        while len(self._prepared) > _KEPT:
            del self._prepared[next(iter(self._prepared))]
        prepared.simulation.execute()
        return prepared.stream

    def _prepare(self, words: np.ndarray, bases: Mapping[Memory, int]) -> _Prepared:
        stream = read_stream(words, self._config, self._features, self.memory, bases)
        views = [self.memory.view(region.begin, region.end) for region in stream.regions]
        simulation = Simulation(verify(stream.program, self._features), views)
        return _Prepared(words, dict(bases), stream, simulation)
