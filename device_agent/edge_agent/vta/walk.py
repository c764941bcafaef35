"""Which elements a GEMM or ALU instruction touches, execution by execution."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from edge_agent.vta.config import Config
from edge_agent.vta.isa import Alu, Gemm, decode_micro_ops

MAXIMUM_EXECUTIONS = 1 << 22
"""Micro-op executions of one instruction that are accepted: far above any useful one, and a bound on memory."""

RAW_DISTANCE = 3
"""An element may be updated again this many executions later at the earliest (vta-facts 3.8)."""


@dataclass(frozen=True, eq=False)
class Walk:
    """The indices of each micro-op execution, in order: `dst`, `src`, `wgt` int64 (n,). ALU has no `wgt`."""

    dst: np.ndarray
    src: np.ndarray
    wgt: np.ndarray

    @cached_property
    def dst_set(self) -> np.ndarray:
        return np.unique(self.dst)

    @cached_property
    def src_set(self) -> np.ndarray:
        return np.unique(self.src)

    @cached_property
    def wgt_set(self) -> np.ndarray:
        return np.unique(self.wgt)

    @cached_property
    def dst_recurs(self) -> int:
        """The first execution that updates an element which one of the two before it updated, or -1."""
        return _first_within(self.dst, self.dst)

    @cached_property
    def src_recurs(self) -> int:
        """The first execution that reads, as ACC[src], an element which one of the two before it updated, or -1."""
        return _first_within(self.src, self.dst)


def _first_within(used: np.ndarray, updated: np.ndarray) -> int:
    found = [
        int(hits[0]) + distance
        for distance in range(1, RAW_DISTANCE)
        if len(hits := np.flatnonzero(used[distance:] == updated[:-distance]))
    ]
    return min(found, default=-1)


def _expand(base: np.ndarray, iter_out: int, iter_in: int, factor_out: int, factor_in: int) -> np.ndarray:
    outer = np.arange(iter_out, dtype=np.int64)[:, None, None] * factor_out
    inner = np.arange(iter_in, dtype=np.int64)[None, :, None] * factor_in
    return (outer + inner + base).ravel()


class WalkTable:
    """Makes walks and keeps them: instructions of a program repeat the same few."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._walks: dict[tuple[object, ...], Walk] = {}

    def walk(self, instruction: Gemm | Alu, micro_ops: np.ndarray) -> Walk:
        """The walk over `micro_ops`, uint32: those in [uop_bgn, uop_end). At most MAXIMUM_EXECUTIONS, the caller's
        check.
        """
        loops = (instruction.iter_out, instruction.iter_in)
        factors = [
            (instruction.dst_factor_out, instruction.dst_factor_in),
            (instruction.src_factor_out, instruction.src_factor_in),
        ]
        if isinstance(instruction, Gemm):
            factors.append((instruction.wgt_factor_out, instruction.wgt_factor_in))
        key = (isinstance(instruction, Gemm), micro_ops.tobytes(), loops, *factors)
        if key not in self._walks:
            bases = decode_micro_ops(micro_ops, self._config)
            dst, src, *wgt = (_expand(base, *loops, *factor) for base, factor in zip(bases, factors, strict=False))
            self._walks[key] = Walk(dst, src, wgt[0] if wgt else np.zeros(0, np.int64))
        return self._walks[key]
