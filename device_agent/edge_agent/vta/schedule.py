"""Who runs when: fetch, command queues and dependence tokens of the three modules (vta-facts 3.1, 4).

The machine is a network of modules that read first-in first-out queues and block, so whether it deadlocks, and what
is ordered before what, does not depend on the modules' speeds; one simulated run decides both.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from edge_agent.vta.config import Memory
from edge_agent.vta.isa import Instruction, Load, Store
from edge_agent.vta.violation import Violation

COMMAND_QUEUE_DEPTH = 512
TOKEN_QUEUE_DEPTH = 1024
"""Entries of the queues of the Xilinx builds (vta-facts 4)."""
PORTABLE_TOKENS = 255
"""Tokens that wait at the same time, at most: Chisel's counters have 8 bits and lose what is beyond (vta-facts 3.9)."""


class Module(IntEnum):
    LOAD = 0
    COMPUTE = 1
    STORE = 2


_FLAGS = ("pop_prev", "pop_next", "push_prev", "push_next")
_QUEUES = tuple((source, target) for source in Module for target in Module if abs(source - target) == 1)
"""Who gives tokens to whom."""


def module_of(instruction: Instruction) -> Module:
    """The module that fetch hands an instruction to; order is kept inside a module only."""
    if isinstance(instruction, Store):
        return Module.STORE
    if isinstance(instruction, Load) and instruction.memory in (Memory.INP, Memory.WGT):
        return Module.LOAD
    return Module.COMPUTE


@dataclass(frozen=True)
class Schedule:
    """One legal order of execution, and what every legal order has in common.

    `order` int64 (n,): instruction indices. `module` int64 (n,): by instruction. `position` int64 (n,): the place of
    an instruction in its module's queue. `before` int64 (n, 3): how many instructions of each module have completed,
    in every legal order, when instruction i starts.
    """

    order: np.ndarray
    module: np.ndarray
    position: np.ndarray
    before: np.ndarray

    def check_token_counts(self, instructions: Sequence[Instruction]) -> None:
        """Raise Violation where, in some legal order, more tokens wait in a queue than every implementation can count.

        `instructions` are those of the schedule.
        """
        flags = {name: np.array([getattr(i, name) for i in instructions], bool) for name in _FLAGS}
        for source, target in _QUEUES:
            push, pop = ("push_prev", "pop_next") if target < source else ("push_next", "pop_prev")
            giving = np.flatnonzero((self.module == source) & flags[push])
            taken = np.concatenate([[0], np.cumsum(flags[pop][self.module == target])])
            # Only what is sure to have been taken when an instruction starts is gone when it gives a token.
            waiting = np.arange(1, len(giving) + 1) - taken[self.before[giving, target]]
            if len(giving) and waiting.max() > PORTABLE_TOKENS:
                raise Violation(
                    "token capacity",
                    f"up to {waiting.max()} tokens from {Module(source).name} to {Module(target).name} wait at the "
                    f"same time, counters of some implementations hold {PORTABLE_TOKENS}",
                    int(giving[np.argmax(waiting > PORTABLE_TOKENS)]),
                )


def schedule(instructions: Sequence[Instruction]) -> Schedule:
    """Run the queues and tokens.

    Raises Violation, with its instruction, on a deadlock, leftover tokens, or token flags that a module lacks.
    """
    run = _Run(instructions)
    run.finish()
    return Schedule(
        np.array(run.order, np.int64),
        np.array(run.modules, np.int64),
        np.array(run.positions, np.int64),
        np.array(run.before, np.int64).reshape(-1, 3),
    )


_Clock = tuple[int, int, int]


class _Run:
    def __init__(self, instructions: Sequence[Instruction]) -> None:
        self.instructions = instructions
        self.modules = [int(module_of(instruction)) for instruction in instructions]
        self.positions = [0] * len(instructions)
        self.before: list[_Clock] = [(0, 0, 0)] * len(instructions)
        self.order: list[int] = []
        self.clocks: list[_Clock] = [(0, 0, 0)] * 3
        self.commands: list[deque[int]] = [deque(), deque(), deque()]
        # A token carries the clock of the instruction that pushed it.
        self.tokens: dict[tuple[int, int], deque[_Clock]] = {
            (module, neighbour): deque()
            for module in range(3)
            for neighbour in (module - 1, module + 1)
            if 0 <= neighbour <= 2
        }

    def finish(self) -> None:
        for index, module in enumerate(self.modules):
            self._check_flags(index)
            if len(self.commands[module]) >= COMMAND_QUEUE_DEPTH:
                self._advance()
                if len(self.commands[module]) >= COMMAND_QUEUE_DEPTH:
                    head = self.commands[module][0]
                    raise Violation(
                        "deadlock",
                        f"the {Module(module).name} queue holds its "
                        f"{COMMAND_QUEUE_DEPTH} instructions and none can start: fetch waits with "
                        f"instruction {index}, so what would push the missing token is never fetched; "
                        f"{self._missing(head)}",
                        head,
                    )
            self.commands[module].append(index)
        self._advance()
        blocked = [queue[0] for queue in self.commands if queue]
        if blocked:
            first = min(blocked)
            raise Violation("deadlock", self._missing(first), first)
        for (source, target), queue in self.tokens.items():
            if queue:
                clock = queue[0][source]
                left = next(
                    i
                    for i, (m, p) in enumerate(zip(self.modules, self.positions, strict=True))
                    if m == source and p == clock - 1
                )
                raise Violation(
                    "token balance",
                    f"{len(queue)} tokens from {Module(source).name} to "
                    f"{Module(target).name} are left over, the first is this instruction's; nothing "
                    "clears them before the next run",
                    left,
                )

    def _check_flags(self, index: int) -> None:
        instruction, module = self.instructions[index], self.modules[index]
        for neighbour, pop, push, side in (
            (module - 1, instruction.pop_prev, instruction.push_prev, "prev"),
            (module + 1, instruction.pop_next, instruction.push_next, "next"),
        ):
            if (pop or push) and (module, neighbour) not in self.tokens:
                raise Violation(
                    "token flags",
                    f"{'pop' if pop else 'push'}_{side} on an instruction of the "
                    f"{Module(module).name} module, which has no such neighbour",
                    index,
                )

    def _sides(self, index: int) -> tuple[list[int], list[int]]:
        """The modules that an instruction takes tokens from and gives tokens to."""
        instruction, module = self.instructions[index], self.modules[index]
        pops = [module - 1] * instruction.pop_prev + [module + 1] * instruction.pop_next
        pushes = [module - 1] * instruction.push_prev + [module + 1] * instruction.push_next
        return pops, pushes

    def _advance(self) -> None:
        """Execute whatever can be executed."""
        progress = True
        while progress:
            progress = False
            for module, queue in enumerate(self.commands):
                while queue and self._execute(queue[0], module):
                    queue.popleft()
                    progress = True

    def _execute(self, index: int, module: int) -> bool:
        pops, pushes = self._sides(index)
        if not all(self.tokens[source, module] for source in pops):
            return False
        if any(len(self.tokens[module, target]) >= TOKEN_QUEUE_DEPTH for target in pushes):
            return False
        load, compute, store = self.clocks[module]
        for source in pops:
            token = self.tokens[source, module].popleft()
            load, compute, store = max(load, token[0]), max(compute, token[1]), max(store, token[2])
        self.before[index] = (load, compute, store)
        self.positions[index] = (load, compute, store)[module]
        self.order.append(index)
        done = (load + (module == 0), compute + (module == 1), store + (module == 2))
        self.clocks[module] = done
        for target in pushes:
            self.tokens[module, target].append(done)
        return True

    def _missing(self, index: int) -> str:
        module = self.modules[index]
        pops, pushes = self._sides(index)
        for source in pops:
            if not self.tokens[source, module]:
                return (
                    f"it waits for a token from {Module(source).name} that never comes, after "
                    f"{len(self.order)} of {len(self.instructions)} instructions"
                )
        full = next(target for target in pushes if len(self.tokens[module, target]) >= TOKEN_QUEUE_DEPTH)
        return f"the queue of {TOKEN_QUEUE_DEPTH} tokens to {Module(full).name} is full and nobody takes one"
