"""Predicts how long a program takes, by replaying its instructions against what each module and the bus can do.

Base rules are vta-facts 9: a GEMM micro-op takes 1 cycle, an ALU micro-op 2, a DMA transfer the beats of its bytes on
the one bus that all modules share. The other costs are parameters; their defaults are estimates, so what comes out is a
prediction and is labelled as one everywhere.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from edge_agent.vta.config import Config, Memory
from edge_agent.vta.isa import Alu, Finish, Gemm, Instruction, Load, Store, decode_stream
from edge_agent.vta.program import Program
from edge_agent.vta.schedule import COMMAND_QUEUE_DEPTH, Module, module_of

MICRO_OP_PORT_BYTES = 4
"""The port that loads micro-ops is 32 bits wide."""


@dataclass(frozen=True)
class Parameters:
    """Costs in cycles that the hardware's description leaves open.

    `loop_entry`: each pass through the micro-op list. `instruction`: each instruction, once. `burst_latency`: each DMA
    burst, of at most `burst_beats` beats. `fetch`: each instruction fetched.
    """

    loop_entry: int = 8
    instruction: int = 30
    burst_latency: int = 40
    burst_beats: int = 256
    fetch: int = 2


@dataclass(frozen=True)
class Timing:
    """Predicted `cycles` of one run, and the cycles that each module was busy (the rest it waited)."""

    cycles: int
    load_busy: int
    compute_busy: int
    store_busy: int

    def seconds(self, clock_hz: int) -> float:
        return self.cycles / clock_hz


DEFAULT_PARAMETERS = Parameters()


def predict(program: Program, bus_bytes: int, parameters: Parameters = DEFAULT_PARAMETERS) -> Timing:
    """Replay a valid program on a bus of `bus_bytes` per cycle.

    Modules run in parallel and in order, wait for their tokens, and share the bus first come, first served; fetch
    hands out instructions in order and blocks on a full command queue.
    """
    config = Config.parse(program.config)
    return _Replay(decode_stream(program.instructions, config), config, bus_bytes, parameters).run()


class _Replay:
    def __init__(
        self, instructions: Sequence[Instruction], config: Config, bus_bytes: int, parameters: Parameters
    ) -> None:
        self._config, self._bus_bytes, self._parameters = config, bus_bytes, parameters
        self._queues: dict[Module, deque[tuple[Instruction, int]]] = {module: deque() for module in Module}
        self._pending = deque(instructions)
        self._tokens: dict[tuple[Module, Module], deque[int]] = {
            (a, b): deque() for a in Module for b in Module if abs(a - b) == 1
        }
        self._free = dict.fromkeys(Module, 0)
        self._busy = dict.fromkeys(Module, 0)
        self._fetched = 0
        self._bus_free = 0

    def run(self) -> Timing:
        end = 0
        self._fetch(0)
        while ready := self._earliest():
            start, module = ready
            instruction, _ = self._queues[module].popleft()
            for source in self._sources(instruction, module):
                self._tokens[source, module].popleft()
            finish = self._execute(instruction, start)
            self._busy[module] += finish - start
            self._free[module] = finish
            for target in self._targets(instruction, module):
                self._tokens[module, target].append(finish)
            end = max(end, finish)
            self._fetch(start)
        return Timing(end, self._busy[Module.LOAD], self._busy[Module.COMPUTE], self._busy[Module.STORE])

    def _fetch(self, now: int) -> None:
        """Hand out instructions until one's queue is full; `now` is when room was made."""
        while self._pending:
            module = module_of(self._pending[0])
            if len(self._queues[module]) >= COMMAND_QUEUE_DEPTH:
                self._fetched = max(self._fetched, now)
                return
            self._fetched += self._parameters.fetch
            self._queues[module].append((self._pending.popleft(), self._fetched))

    def _earliest(self) -> tuple[int, Module] | None:
        """The module whose next instruction can start first, and when; None when nothing is left or can run."""
        candidates: list[tuple[int, Module]] = []
        for module, queue in self._queues.items():
            if not queue:
                continue
            instruction, fetched = queue[0]
            waits = [self._tokens[source, module] for source in self._sources(instruction, module)]
            if all(waits):
                heapq.heappush(candidates, (max(self._free[module], fetched, *(wait[0] for wait in waits)), module))
        return candidates[0] if candidates else None

    @staticmethod
    def _sources(instruction: Instruction, module: Module) -> list[Module]:
        return [Module(module + step) for step, flag in ((-1, instruction.pop_prev), (1, instruction.pop_next)) if flag]

    @staticmethod
    def _targets(instruction: Instruction, module: Module) -> list[Module]:
        return [
            Module(module + step) for step, flag in ((-1, instruction.push_prev), (1, instruction.push_next)) if flag
        ]

    def _execute(self, instruction: Instruction, start: int) -> int:
        """When an instruction that starts at `start` is done."""
        parameters = self._parameters
        begin = start + parameters.instruction
        if isinstance(instruction, Gemm | Alu):
            passes = instruction.iter_out * instruction.iter_in
            per_micro_op = 2 if isinstance(instruction, Alu) else 1
            micro_ops = instruction.uop_end - instruction.uop_bgn
            return begin + passes * (parameters.loop_entry + micro_ops * per_micro_op)
        if isinstance(instruction, Load | Store) and instruction.x_size:
            return self._transfer(instruction, begin)
        assert isinstance(instruction, Load | Store | Finish)
        return begin

    def _transfer(self, instruction: Load | Store, begin: int) -> int:
        memory = instruction.memory if isinstance(instruction, Load) else Memory.OUT
        element = self._config.element_bytes(memory)
        width = MICRO_OP_PORT_BYTES if memory is Memory.UOP else self._bus_bytes
        rows, columns = instruction.y_size, instruction.x_size
        if rows == 1 or instruction.x_stride == columns:
            rows, columns = 1, rows * columns
        beats = -(-columns * element // width)
        bursts = rows * -(-beats // self._parameters.burst_beats)
        # Latency is the module's own wait; only beats occupy the bus.
        data = max(begin + bursts * self._parameters.burst_latency, self._bus_free)
        self._bus_free = data + rows * beats
        padded = (instruction.x_pad_0 + instruction.x_pad_1) * instruction.y_size
        return self._bus_free + padded
