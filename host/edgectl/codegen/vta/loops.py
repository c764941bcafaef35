"""Expresses a nest of affine loops as GEMM or ALU instructions: two hardware loops around a list of micro-ops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import permutations

import numpy as np

from edge_agent.vta.config import Config, Memory
from edge_agent.vta.isa import encode_micro_ops

REENTRY_CYCLES = 8
"""What one more pass through the micro-op list costs, beside its micro-ops."""
PREFERRED_MICRO_OPS = 56
"""Lists up to this length are taken to save passes; longer ones only where nothing shorter works."""
HAZARD_DISTANCE = 3
"""Two updates of one accumulator element must be at least this many micro-ops apart (vta-facts 3.8)."""


@dataclass(frozen=True)
class Dimension:
    """A loop of `extent` steps; each step moves the three indices by `dst`, `src` and `wgt`."""

    extent: int
    dst: int
    src: int
    wgt: int

    @property
    def reduces(self) -> bool:
        return self.dst == 0


@dataclass(frozen=True)
class Base:
    """The indices at the first step."""

    dst: int
    src: int
    wgt: int


@dataclass(frozen=True)
class Nest:
    """One instruction: hardware loops `outer` and `inner` around `micro_ops` (encoded)."""

    outer: Dimension
    inner: Dimension
    micro_ops: bytes


ONCE = Dimension(1, 0, 0, 0)


def _indices(dimensions: Sequence[Dimension], base: Base) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """dst, src and wgt over all steps, the last dimension fastest."""
    results = []
    for which in ("dst", "src", "wgt"):
        index = np.array([getattr(base, which)])
        for dimension in dimensions:
            index = (index[:, None] + np.arange(dimension.extent) * getattr(dimension, which)).ravel()
        results.append(index)
    return results[0], results[1], results[2]


def _hazard(dimensions: Sequence[Dimension]) -> bool:
    """Whether the walk updates an element twice within the hazard distance."""
    dst = _indices(dimensions, Base(0, 0, 0))[0]
    return any(bool((dst[k:] == dst[:-k]).any()) for k in range(1, min(HAZARD_DISTANCE, len(dst))))


@lru_cache(maxsize=65536)
def nests(dimensions: tuple[Dimension, ...], base: Base, config: Config) -> tuple[Nest, ...]:
    """Instructions that walk `dimensions` (any order, each accumulator element updated once per reduction step).

    One instruction where two hardware loops and a hazard-free micro-op list suffice, else one per step of a reduction.
    """
    real = tuple(d for d in dimensions if d.extent > 1)
    # Reductions go outside, so that neighbouring micro-ops update different elements.
    ordered = sorted(real, key=lambda d: not d.reduces)
    best: tuple[tuple[float, int], Dimension, Dimension, list[Dimension]] | None = None
    for outer, inner in permutations((*ordered, ONCE, ONCE), 2):
        rest = list(ordered)
        for loop in (outer, inner):
            if loop is not ONCE:
                rest.remove(loop)
        length = int(np.prod([d.extent for d in rest], dtype=np.int64))
        if length > config.depth(Memory.UOP) // 4:
            continue
        passes = outer.extent * inner.extent
        score = (max(0, length - PREFERRED_MICRO_OPS) * 1e6 + passes * REENTRY_CYCLES + length, passes)
        if (best is None or score < best[0]) and not _hazard((outer, inner, *rest)):
            best = (score, outer, inner, rest)
    if best is not None:
        _, outer, inner, rest = best
        return (Nest(outer, inner, encode_micro_ops(*_indices(rest, base), config).tobytes()),)
    step = min((d for d in ordered if d.reduces), key=lambda d: d.extent)
    others = list(ordered)
    others.remove(step)
    result: list[Nest] = []
    for k in range(step.extent):
        moved = replace(base, dst=base.dst, src=base.src + k * step.src, wgt=base.wgt + k * step.wgt)
        result += nests(tuple(others), moved, config)
    return tuple(result)
