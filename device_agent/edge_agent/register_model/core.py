"""The registers of the four modules, and what writing them sets going."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from edge_agent.errors import AgentError
from edge_agent.hardware.core import (
    AUTO_RESTART,
    COMPUTE_BIASES,
    COMPUTE_DONE,
    COMPUTE_DONE_VALID,
    COMPUTE_MICRO_OPS,
    CONTROL,
    DONE,
    EXECUTING,
    FETCH_ADDRESS,
    FETCH_COUNT,
    IDLE,
    LOAD_INPUTS,
    LOAD_WEIGHTS,
    READY,
    START,
    STORE_OUTPUTS,
)
from edge_agent.register_model.machine import Machine
from edge_agent.register_model.quirks import Quirks
from edge_agent.register_model.stream import Stream
from edge_agent.vta.config import Memory
from edge_agent.vta.schedule import COMMAND_QUEUE_DEPTH
from edge_agent.vta.violation import Violation

logger = logging.getLogger(__name__)

BLOCKS = ("fetch", *EXECUTING)
_BASES = (
    (Memory.INP, "load", LOAD_INPUTS),
    (Memory.WGT, "load", LOAD_WEIGHTS),
    (Memory.UOP, "compute", COMPUTE_MICRO_OPS),
    (Memory.ACC, "compute", COMPUTE_BIASES),
    (Memory.ACC_8BIT, "compute", COMPUTE_BIASES),
    (Memory.OUT, "store", STORE_OUTPUTS),
)


class _Reset(Exception):
    """The core was reset while it ran."""


class ModelCore:
    """VTA behind its registers. Runs go on in a thread of their own, whoever reads meanwhile. Thread-safe."""

    def __init__(self, machine: Machine, quirks: Callable[[], Quirks] = Quirks) -> None:
        """`quirks` is asked at the beginning of each run."""
        self._machine = machine
        self._quirks = quirks
        self._changed = threading.Condition()
        self._executes = threading.Lock()
        self._resets = 0
        self.changes = 0
        """Grows whenever a register may have changed by itself."""
        self._put_back()

    def _put_back(self) -> None:
        """The state after programming."""
        self._control = dict.fromkeys(BLOCKS, IDLE)
        self._data: dict[tuple[str, int], int] = {}
        self._done, self._done_valid = 0, 0
        self._stuck = False
        self.changes += 1

    def reset(self) -> None:
        """As after programming; a run that is under way is abandoned."""
        with self._executes, self._changed:
            self._resets += 1
            self._put_back()
            self._changed.notify_all()

    def read(self, block: str, offset: int) -> int:
        """A register; reading clears what it clears."""
        with self._changed:
            value = self.peek(block, offset)
            if offset == CONTROL:
                self._control[block] &= ~DONE
            elif (block, offset) == ("compute", COMPUTE_DONE_VALID):
                self._done_valid = 0
            return value

    def peek(self, block: str, offset: int) -> int:
        """A register as reading would show it."""
        with self._changed:
            if offset == CONTROL:
                return self._control[block]
            if (block, offset) == ("compute", COMPUTE_DONE):
                return self._done
            if (block, offset) == ("compute", COMPUTE_DONE_VALID):
                return self._done_valid
            return self._data.get((block, offset), 0)

    def snapshot(self, offsets: Sequence[int]) -> Mapping[str, list[int]]:
        """Registers of all modules at one moment, as reading would show them."""
        with self._changed:
            return {block: [self.peek(block, offset) for offset in offsets] for block in BLOCKS}

    def write(self, block: str, offset: int, value: int) -> None:
        """Write a register; what cannot be written ignores it."""
        with self._changed:
            self.changes += 1
            if offset == CONTROL:
                self._control[block] = self._control[block] & ~AUTO_RESTART | value & AUTO_RESTART
                if value & START and not self._control[block] & START:
                    self._control[block] = self._control[block] & ~IDLE | START
                    if block == "fetch":
                        arguments = (self._resets, self.peek("fetch", FETCH_COUNT), self.peek("fetch", FETCH_ADDRESS))
                        threading.Thread(target=self._run, args=arguments, name="vta", daemon=True).start()
                self._changed.notify_all()
            elif (block, offset) not in (("compute", COMPUTE_DONE), ("compute", COMPUTE_DONE_VALID)):
                self._data[block, offset] = value & 0xFFFFFFFF

    def _run(self, resets: int, count: int, address: int) -> None:
        try:
            self._execute(resets, count, address)
        except _Reset:
            logger.info("a run was abandoned by a reset")
        except (AgentError, Violation) as error:
            # What hardware does with such a program is anybody's guess; to hang is likely, and is noticed.
            logger.error("the program at %#x breaks a rule: %s", address, error)
            self._stick(resets)
            self._fetched(resets)

    def _execute(self, resets: int, count: int, address: int) -> None:
        quirks = self._quirks()
        short = count <= COMMAND_QUEUE_DEPTH
        if short:  # all of it fits into the queues: fetch is done before anything has been executed
            self._fetched(resets)
        self._wait(resets, self._executing)
        if self._stuck:
            self._fetched(resets)
            return
        self._pause(resets, quirks.begin_seconds)
        if quirks.hang == "start":
            self._stick(resets)
            self._fetched(resets)
            return
        self._say_done(resets, 0)
        bases = {memory: self.peek(block, offset) for memory, block, offset in _BASES}
        with self._executes:
            self._wait(resets, lambda: True)
            _flip(self._machine, self._machine.execute(count, address, bases), quirks.flip)
        if not short:
            self._fetched(resets)
        if quirks.hang == "end":
            self._stick(resets)
            return
        self._pause(resets, quirks.done_seconds)
        self._say_done(resets, 1)

    def _executing(self) -> bool:
        """Whether the three modules take instructions, one after another."""
        return all(self._control[block] & AUTO_RESTART and self._control[block] & START for block in EXECUTING)

    def _fetched(self, resets: int) -> None:
        with self._changed:
            if self._resets == resets:
                self._control["fetch"] = self._control["fetch"] & ~START | DONE | IDLE | READY
                self.changes += 1

    def _say_done(self, resets: int, value: int) -> None:
        with self._changed:
            if self._resets != resets:
                raise _Reset
            self._done, self._done_valid = value, 1
            self.changes += 1
            self._changed.notify_all()

    def _stick(self, resets: int) -> None:
        with self._changed:
            self._stuck = self._stuck or self._resets == resets

    def _wait(self, resets: int, condition: Callable[[], bool], seconds: float | None = None) -> None:
        """Until a condition holds or `seconds` have passed. Raises _Reset."""
        with self._changed:
            self._changed.wait_for(lambda: self._resets != resets or condition(), seconds)
            if self._resets != resets:
                raise _Reset

    def _pause(self, resets: int, seconds: float) -> None:
        if seconds > 0:
            self._wait(resets, lambda: False, seconds)


def _flip(machine: Machine, stream: Stream, bits: int) -> None:
    """Flip bits of what the run has stored: one in each of as many bytes, evenly spread over the last region."""
    for region in reversed(stream.regions):
        if bits and region.stored:
            stored = machine.memory.view(region.begin, region.end)
            stored[np.linspace(0, len(stored) - 1, bits).astype(np.intp)] ^= np.uint8(1)
            return


class ModelBlock:
    """One module's registers for a driver in this process, with all that reading them does."""

    def __init__(self, core: ModelCore, name: str) -> None:
        self._core = core
        self._name = name

    def read(self, offset: int) -> int:
        return self._core.read(self._name, offset)

    def write(self, offset: int, value: int) -> None:
        self._core.write(self._name, offset, value)


def model_blocks(core: ModelCore) -> Mapping[str, ModelBlock]:
    """The registers of a core, by module."""
    return {name: ModelBlock(core, name) for name in BLOCKS}
