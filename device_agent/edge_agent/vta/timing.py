"""Predicts how long a program takes, by replaying its instructions against what each module and the bus can do.

Base rules are vta-facts 9: a GEMM micro-op takes 1 cycle, an ALU micro-op 2, a DMA transfer the beats of its bytes on
the one bus that all modules share. The other costs are parameters; their defaults are estimates, so what comes out is a
prediction and is labelled as one everywhere.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import numpy as np

from edge_agent.vta.config import Config, Memory
from edge_agent.vta.isa import Opcode, layout, opcodes
from edge_agent.vta.program import Program
from edge_agent.vta.replay import Timing, Trace, Wait, Work, replay
from edge_agent.vta.schedule import Module

__all__ = ["Parameters", "Sensitivity", "Timing", "Trace", "Wait", "predict", "sensitivity", "serial_cycles", "trace"]

MICRO_OP_PORT_BYTES = 4
"""The port that loads micro-ops is 32 bits wide."""
GEMM_CYCLES = 1
ALU_CYCLES = 2
"""Of one micro-op."""


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
class Sensitivity:
    """Predicted cycles where one parameter, at `value`, is half of that (rounded down, at least 1) or twice that."""

    parameter: str
    value: int
    halved: int
    doubled: int


DEFAULT_PARAMETERS = Parameters()


def predict(program: Program, bus_bytes: int, parameters: Parameters = DEFAULT_PARAMETERS) -> Timing:
    """Replay a valid program on a bus of `bus_bytes` per cycle.

    Modules run in parallel and in order, wait for their tokens, and share the bus first come, first served; fetch
    hands out instructions in order and blocks on a full command queue.
    """
    return trace(program, bus_bytes, parameters).timing


def trace(program: Program, bus_bytes: int, parameters: Parameters = DEFAULT_PARAMETERS) -> Trace:
    """What `predict` replays, instruction by instruction: when each ran, and what its module waited for."""
    return replay(_Stream(program).work(bus_bytes, parameters), parameters.fetch)


def serial_cycles(program: Program, bus_bytes: int, parameters: Parameters = DEFAULT_PARAMETERS) -> int:
    """Cycles of a program in which nothing overlaps: an upper bound of `predict`, and much quicker to compute."""
    work = _Stream(program).work(bus_bytes, parameters)
    return int((work.before + work.beats + work.after).sum()) + parameters.fetch * len(program.instructions)


def sensitivity(
    program: Program, bus_bytes: int, parameters: Parameters = DEFAULT_PARAMETERS
) -> tuple[Sensitivity, ...]:
    """Predicted cycles of a valid program with each of `parameters` in turn halved and doubled."""
    stream = _Stream(program)

    def cycles(name: str, value: int) -> int:
        changed = replace(parameters, **{name: value})
        return replay(stream.work(bus_bytes, changed), changed.fetch).timing.cycles

    return tuple(
        Sensitivity(name, value, cycles(name, max(1, value // 2)), cycles(name, 2 * value))
        for name, value in asdict(parameters).items()
    )


class _Stream:
    """A program's instructions as columns int64 (n,), by field; 0 where an instruction has no such field."""

    def __init__(self, program: Program) -> None:
        self._config = Config.parse(program.config)
        self._words = program.instructions
        self._kinds = opcodes(self._words)

    def _column(self, name: str, *kinds: Opcode) -> np.ndarray:
        column = np.zeros(len(self._words), np.int64)
        for kind in kinds:
            rows = self._kinds == kind
            column[rows] = layout(kind, self._config)[name].extract(self._words[rows])
        return column

    def work(self, bus_bytes: int, parameters: Parameters) -> Work:
        """What each instruction costs."""
        load, store = self._kinds == Opcode.LOAD, self._kinds == Opcode.STORE
        memory = np.where(store, Memory.OUT, self._column("memory", Opcode.LOAD))
        module = np.full(len(self._words), Module.COMPUTE, np.int64)
        module[store] = Module.STORE
        module[load & ((memory == Memory.INP) | (memory == Memory.WGT))] = Module.LOAD
        latency, beats, padding = self._transfers(memory, bus_bytes, parameters)
        flags = (self._column(name, *Opcode) != 0 for name in ("pop_prev", "pop_next", "push_prev", "push_next"))
        before = parameters.instruction + latency + self._execution(parameters.loop_entry)
        return Work(module, before, beats, padding, *flags)

    def _execution(self, loop_entry: int) -> np.ndarray:
        """Cycles of the micro-ops of GEMM and ALU instructions."""
        names = ("iter_out", "iter_in", "uop_bgn", "uop_end")
        outer, inner, begin, end = (self._column(name, Opcode.GEMM, Opcode.ALU) for name in names)
        per_micro_op = np.where(self._kinds == Opcode.ALU, ALU_CYCLES, GEMM_CYCLES)
        return outer * inner * (loop_entry + (end - begin) * per_micro_op)

    def _transfers(
        self, memory: np.ndarray, bus_bytes: int, parameters: Parameters
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Latency, beats and padding of LOAD and STORE, cycles; zero where nothing is moved."""
        rows, columns = (self._column(name, Opcode.LOAD, Opcode.STORE) for name in ("y_size", "x_size"))
        pads = ("y_pad_0", "y_pad_1", "x_pad_0", "x_pad_1")
        above, below, left, right = (self._column(name, Opcode.LOAD) for name in pads)
        written = (above + rows + below) * (left + columns + right)
        padding = np.where(columns > 0, written - rows * columns, 0)
        element = np.array([self._config.element_bytes(kind) for kind in Memory])[memory]
        width = np.where(memory == Memory.UOP, MICRO_OP_PORT_BYTES, bus_bytes)
        beats = -(-columns * element // width)
        # Hardware copies row by row. What needs no bytes (a no-op, another kind of instruction) has no columns, so no
        # beats and no bursts.
        bursts = rows * -(-beats // parameters.burst_beats)
        return bursts * parameters.burst_latency, rows * beats, padding
