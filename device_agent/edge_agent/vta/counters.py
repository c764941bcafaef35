"""The seven counters of the reference simulator, computed from instructions (programs are static)."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from edge_agent.vta.config import Config, Memory
from edge_agent.vta.isa import Opcode, layout, opcodes


@dataclass(frozen=True)
class Counters:
    """Bytes moved by stream and operations done, per run. Names and meaning: vta-facts 5.1.

    `gemm_counter` counts micro-op executions of GEMMs without reset, `alu_counter` those of ALU instructions.
    """

    inp_load_nbytes: int = 0
    wgt_load_nbytes: int = 0
    acc_load_nbytes: int = 0
    uop_load_nbytes: int = 0
    out_store_nbytes: int = 0
    gemm_counter: int = 0
    alu_counter: int = 0

    def __add__(self, other: Counters) -> Counters:
        return Counters(**{name: value + getattr(other, name) for name, value in asdict(self).items()})

    def as_dict(self) -> dict[str, int]:
        return asdict(self)


_LOADS = [
    (Memory.INP, "inp_load_nbytes", Memory.INP),
    (Memory.WGT, "wgt_load_nbytes", Memory.WGT),
    (Memory.ACC, "acc_load_nbytes", Memory.ACC),
    (Memory.ACC_8BIT, "acc_load_nbytes", Memory.ACC),
    (Memory.UOP, "uop_load_nbytes", Memory.UOP),
]
"""Memory type, counter, and the memory whose element bytes it counts."""


def count(instructions: np.ndarray, config: Config) -> Counters:
    """The counters of one run of a stream uint64 (n, 2), as the reference simulator counts (vta-facts 5.1).

    Padding moves no bytes. ACC_8BIT loads count as ACC's element bytes although a quarter of that is moved.
    """
    kinds = opcodes(instructions)
    totals: dict[str, int] = {}

    def columns(opcode: Opcode, *names: str) -> list[np.ndarray]:
        fields = layout(opcode, config)
        return [fields[name].extract(instructions[kinds == opcode]) for name in names]

    memory, y_size, x_size = columns(Opcode.LOAD, "memory", "y_size", "x_size")
    for which, name, counted_as in _LOADS:
        elements = int((y_size * x_size)[memory == which].sum())
        totals[name] = totals.get(name, 0) + elements * config.element_bytes(counted_as)
    y_size, x_size = columns(Opcode.STORE, "y_size", "x_size")
    totals["out_store_nbytes"] = int((y_size * x_size).sum()) * config.element_bytes(Memory.OUT)
    walk = ("iter_out", "iter_in", "uop_bgn", "uop_end")
    iter_out, iter_in, begin, end, reset = columns(Opcode.GEMM, *walk, "reset")
    totals["gemm_counter"] = int((iter_out * iter_in * np.maximum(end - begin, 0) * (1 - reset)).sum())
    iter_out, iter_in, begin, end = columns(Opcode.ALU, *walk)
    totals["alu_counter"] = int((iter_out * iter_in * np.maximum(end - begin, 0)).sum())
    return Counters(**totals)
