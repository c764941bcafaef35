"""What is known about every element of the memories while a program is checked: who wrote and read it, and when.

The time of an access by the k-th instruction of a module is k + 1; 0 means never. A module works in order, so the
latest access of each module is all that has to be kept.
"""

from __future__ import annotations

import numpy as np

from edge_agent.vta.config import Config, Memory
from edge_agent.vta.program import Program
from edge_agent.vta.schedule import Module, Schedule
from edge_agent.vta.violation import Violation


class ElementState:
    """The state that executing a program changes, with times and validity in place of data."""

    def __init__(self, program: Program, config: Config, schedule: Schedule) -> None:
        self.program = program
        self.config = config
        self.schedule = schedule
        self._queues = [np.flatnonzero(schedule.module == module) for module in Module]
        self._before = schedule.before.tolist()
        self._times = (schedule.position + 1).tolist()

        def times(memory: Memory) -> np.ndarray:
            return np.zeros(config.depth(memory), np.int64)

        def flags(memory: Memory) -> np.ndarray:
            return np.zeros(config.depth(memory), bool)

        # INP and WGT are written by load and read by compute.
        self.loaded = {memory: times(memory) for memory in (Memory.INP, Memory.WGT)}
        self.used = {memory: times(memory) for memory in (Memory.INP, Memory.WGT)}
        # OUT is written by compute and read by store; ACC and UOP are compute's own.
        self.out_written, self.out_read = times(Memory.OUT), times(Memory.OUT)
        self.out_valid = flags(Memory.OUT)
        self.acc_valid = flags(Memory.ACC)
        self.micro_ops = np.zeros(config.depth(Memory.UOP), np.uint32)
        self.micro_op_valid = flags(Memory.UOP)
        # DRAM is written by store and read by load and compute.
        counts = [tensor.nbytes // config.element_bytes(tensor.memory) for tensor in program.tensors]
        self.stored = [np.zeros(count, np.int64) for count in counts]
        self.dram_read = {
            module: [np.zeros(count, np.int64) for count in counts] for module in (Module.LOAD, Module.COMPUTE)
        }

    def time(self, index: int) -> int:
        """The time of an access by instruction `index`."""
        return self._times[index]

    def unordered(self, index: int, module: Module, times: np.ndarray) -> int | None:
        """An instruction of `module` that made one of the accesses at `times` and may run before or after `index`."""
        latest = int(times.max(initial=0))
        return None if latest <= self._before[index][module] else int(self._queues[module][latest - 1])

    def require_before(self, index: int, module: Module, times: np.ndarray, rule: str, what: str) -> None:
        """Raise Violation unless `module`'s accesses at `times` have completed, in every order, when `index` starts."""
        culprit = self.unordered(index, module, times)
        if culprit is not None:
            raise Violation(rule, f"{what} instruction {culprit}, and no token orders the two")

    def require_feature(self, feature: str, what: str) -> None:
        """Raise Violation unless the program declares `feature`."""
        if feature not in self.program.features:
            raise Violation("feature", f"{what} needs the board feature {feature}, which the program does not declare")

    def overwrite_out(self, index: int, elements: np.ndarray | slice, valid: bool) -> None:
        """OUT `elements` change: to the result of an operation, or to what must not be stored (not `valid`)."""
        self.require_before(
            index,
            Module.STORE,
            self.out_read[elements],
            "out overwritten",
            "it overwrites OUT elements that are also stored by",
        )
        self.out_written[elements] = self.time(index)
        self.out_valid[elements] = valid
