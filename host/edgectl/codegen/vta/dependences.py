"""Turns what instructions read and write into dependence tokens.

The three modules run in parallel and in order; a token from one to its neighbour says "everything I did up to here is
done". For each new instruction we know the latest conflicting instruction of the other modules; a token is added only
if what earlier tokens imply (vector clocks) does not already order the two. Tokens between two modules are anonymous,
but since both the pushing and the popping instructions come in increasing order, the k-th push meets the k-th pop.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edge_agent.vta.config import Config, Memory
from edge_agent.vta.schedule import Module

Area = tuple[Memory, int, int]
"""[begin, end) of an on-chip memory."""
Clock = tuple[int, int, int]
"""Per module, the latest instruction known to be complete (-1: none)."""


class Dependences:
    """Accumulates instructions in stream order and decides their token flags."""

    def __init__(self, config: Config) -> None:
        self._knowledge: list[Clock] = [(-1, -1, -1)] * 3
        self._clocks: list[Clock] = []
        self._modules: list[Module] = []
        self.flags: list[set[str]] = []
        """Per instruction, the names of its set token flags."""
        depths = {memory: config.depth(memory) for memory in (Memory.INP, Memory.WGT, Memory.OUT)}
        self._writer: dict[Memory, np.ndarray] = {
            memory: np.full(depth, -1, np.int64) for memory, depth in depths.items()
        }
        self._reader: dict[Memory, np.ndarray] = {
            memory: np.full(depth, -1, np.int64) for memory, depth in depths.items()
        }
        self._stored: dict[int, np.ndarray] = {}

    @property
    def count(self) -> int:
        return len(self._modules)

    def add(self, module: Module) -> int:
        """Append an instruction of `module`; returns its index."""
        index = self.count
        self._modules.append(module)
        self.flags.append(set())
        self._clocks.append(self._knowledge[module])
        self._advance(index)
        return index

    def knows(self, module: Module, other: int) -> bool:
        """Whether `module`'s next instruction is already ordered after instruction `other`."""
        return other < 0 or self._modules[other] == module or self._knowledge[module][self._modules[other]] >= other

    def wait(self, index: int, other: int) -> None:
        """Order instruction `index`, the latest of all, after `other` of a neighbouring module."""
        module = self._modules[index]
        if self.knows(module, other):
            return
        source = self._modules[other]
        if abs(source - module) != 1:
            raise AssertionError("load and store have no direct tokens; go through compute")
        self.flags[other].add("push_next" if module > source else "push_prev")
        self.flags[index].add("pop_prev" if module > source else "pop_next")
        mine, theirs = self._knowledge[module], self._clocks[other]
        self._knowledge[module] = (max(mine[0], theirs[0]), max(mine[1], theirs[1]), max(mine[2], theirs[2]))
        self._advance(index)

    def _advance(self, index: int) -> None:
        module = self._modules[index]
        clock = list(self._knowledge[module])
        clock[module] = index
        self._knowledge[module] = (clock[0], clock[1], clock[2])
        self._clocks[index] = self._knowledge[module]

    def access(self, index: int, reads: Sequence[Area] = (), writes: Sequence[Area] = ()) -> None:
        """Instruction `index`, the latest of all, reads and overwrites these areas: order it after what conflicts."""
        conflicts = [int(self._writer[memory][begin:end].max()) for memory, begin, end in reads]
        conflicts += [int(self._reader[memory][begin:end].max()) for memory, begin, end in writes]
        # The latest of each module stands for the earlier ones; an instruction can take one token from each.
        for module in Module:
            theirs = [other for other in conflicts if other >= 0 and self._modules[other] == module]
            if theirs:
                self.wait(index, max(theirs))
        for memory, begin, end in reads:
            self._reader[memory][begin:end] = index
        for memory, begin, end in writes:
            self._writer[memory][begin:end] = index

    def stored(self, index: int, tensor: int, first: int, rows: int, columns: int, stride: int) -> None:
        """STORE `index` writes `rows` of `columns` elements, `stride` apart, of DRAM tensor `tensor`."""
        last = first + (rows - 1) * stride + columns
        known = self._stored.get(tensor, np.empty(0, np.int64))
        if len(known) < last:
            known = np.concatenate([known, np.full(last - len(known), -1, np.int64)])
            self._stored[tensor] = known
        for row in range(rows):
            known[first + row * stride : first + row * stride + columns] = index

    def latest_store(self, tensor: int, first: int, rows: int, columns: int, stride: int) -> int:
        """The latest STORE that wrote one of these elements, -1 if none did."""
        known = self._stored.get(tensor)
        if known is None:
            return -1
        begins = (first + row * stride for row in range(rows))
        return max(int(known[begin : begin + columns].max(initial=-1)) for begin in begins)

    def latest(self, module: Module) -> int:
        """The latest instruction of `module`, -1 if none."""
        return self._knowledge[module][module]
