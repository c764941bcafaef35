"""Expresses a nest of loops as GEMM or ALU instructions: two hardware loops around a list of micro-ops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from edge_agent.vta.config import Config, Memory
from edge_agent.vta.isa import encode_micro_ops

REENTRY_CYCLES = 8
"""What one more pass through the micro-op list costs, beside its micro-ops."""
INSTRUCTION_CYCLES = 32
"""What one more instruction costs."""
MICRO_OP_CYCLES = 3.0
"""What a micro-op of a new list costs: a cycle of loading, and bytes that should stay few."""
HAZARD_DISTANCE = 3
"""Two updates of one accumulator element must be at least this many micro-ops apart (vta-facts 3.8)."""
LONGEST_LIST = 16
"""A list takes at most this part of UOP memory, so that several stay resident."""

MOST_CHOICES = 200
"""Ways to loop that are tried, the cheapest first, until one is free of hazards."""

Step = tuple[int, int, int]
"""What one step moves, or where one step is: dst, src and wgt."""


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
class Region:
    """All steps of `dimensions` from each of the `starts`: what a GEMM or ALU operation walks."""

    starts: tuple[Step, ...]
    dimensions: tuple[Dimension, ...]

    def moved(self, dst: int, src: int, wgt: int) -> Region:
        return Region(tuple((d + dst, s + src, w + wgt) for d, s, w in self.starts), self.dimensions)

    @property
    def size(self) -> int:
        return len(self.starts) * int(np.prod([d.extent for d in self.dimensions], dtype=np.int64))


@dataclass(frozen=True)
class Nest:
    """One instruction: hardware loops `outer` and `inner` around `micro_ops` (encoded)."""

    outer: Dimension
    inner: Dimension
    micro_ops: bytes


ONCE = Dimension(1, 0, 0, 0)


@dataclass(frozen=True)
class _Plan:
    """How a region becomes instructions: steps (n, 3) of each list, and the two loops around all of them."""

    lists: tuple[np.ndarray, ...]
    outer: Dimension
    inner: Dimension
    cycles: float


def nests(region: Region, config: Config, reuse: float = 1.0) -> tuple[Nest, ...]:
    """Instructions that walk `region`, no accumulator element updated twice within the hazard distance.

    `reuse` is how often the same lists serve: the longer a list, the fewer passes, but the more micro-ops to load.
    """
    base = region.starts[0]
    return _encoded(region.moved(-base[0], -base[1], -base[2]), base, config, _rounded(reuse))


def cost(region: Region, config: Config, reuse: float) -> float:
    """Cycles of `region` as `nests` expresses it, beside one for each step."""
    base = region.starts[0]
    return _plan(region.moved(-base[0], -base[1], -base[2]), config, _rounded(reuse)).cycles


def _rounded(reuse: float) -> float:
    """To a power of two, so that similar regions share plans."""
    return float(2.0 ** np.round(np.log2(max(reuse, 1.0))))


@lru_cache(maxsize=16384)
def _encoded(region: Region, base: Step, config: Config, reuse: float) -> tuple[Nest, ...]:
    plan = _plan(region, config, reuse)
    lists = ((steps + np.array(base)).T for steps in plan.lists)
    return tuple(
        Nest(plan.outer, plan.inner, encode_micro_ops(dst, src, wgt, config).tobytes()) for dst, src, wgt in lists
    )


@dataclass(frozen=True)
class _Loop:
    """A hardware loop over `extent` pieces, each `inside` steps long, of dimension `number` (-1: no loop)."""

    number: int
    extent: int
    inside: int


@lru_cache(maxsize=16384)
def _plan(region: Region, config: Config, reuse: float) -> _Plan:
    dimensions = [d for d in region.dimensions if d.extent > 1]
    loops = [_Loop(-1, 1, 1)]
    for number, dimension in enumerate(dimensions):
        extent = dimension.extent
        loops += [_Loop(number, extent // inside, inside) for inside in range(1, extent) if extent % inside == 0]
    total = region.size
    longest = config.depth(Memory.UOP) // LONGEST_LIST
    choices = []
    for first, outer in enumerate(loops):
        for second, inner in enumerate(loops):
            if outer.number == inner.number >= 0:
                continue
            passes = outer.extent * inner.extent
            length = total // passes
            if length <= longest:
                score = INSTRUCTION_CYCLES + passes * REENTRY_CYCLES + length * MICRO_OP_CYCLES / reuse
                choices.append((score, first, second))
    choices.sort()
    for score, first, second in choices[:MOST_CHOICES]:
        chosen = loops[first], loops[second]
        outer_loop, inner_loop = (_looped(dimensions, loop) for loop in chosen)
        inside = {loop.number: loop.inside for loop in chosen}
        rest = [replace(d, extent=inside.get(number, d.extent)) for number, d in enumerate(dimensions)]
        steps = _steps(region.starts, rest)
        if not _hazard(steps[:, 0], outer_loop, inner_loop):
            return _Plan((steps,), outer_loop, inner_loop, score)
    return _by_rounds(region, config)


def _looped(dimensions: Sequence[Dimension], loop: _Loop) -> Dimension:
    if loop.number < 0:
        return ONCE
    d, n = dimensions[loop.number], loop.inside
    return Dimension(loop.extent, d.dst * n, d.src * n, d.wgt * n)


def _steps(starts: Sequence[Step], dimensions: Sequence[Dimension]) -> np.ndarray:
    """All steps (n, 3): reductions outside, other dimensions inside, so that neighbours update different elements."""
    steps = np.zeros((1, 3), np.int64)
    reductions = [d for d in dimensions if d.reduces]
    others = [d for d in dimensions if not d.reduces]

    def along(d: Dimension) -> np.ndarray:
        return np.arange(d.extent)[:, None] * np.array([d.dst, d.src, d.wgt])

    for offsets in (*map(along, reductions), np.array(starts, np.int64), *map(along, others)):
        steps = (steps[:, None] + offsets).reshape(-1, 3)
    return steps


def _hazard(dst: np.ndarray, outer: Dimension, inner: Dimension) -> bool:
    """Whether walking the list `dst` in two loops updates an element twice within the hazard distance."""
    reach = HAZARD_DISTANCE - 1
    if any(bool((dst[k:] == dst[:-k]).any()) for k in range(1, min(reach, len(dst) - 1) + 1)):
        return True
    moves = (np.arange(outer.extent)[:, None] * outer.dst + np.arange(inner.extent) * inner.dst).ravel()
    if len(dst) < 2 * reach:
        walk = (moves[:, None] + dst).ravel()
        return any(bool((walk[k:] == walk[:-k]).any()) for k in range(1, min(reach, len(walk) - 1) + 1))
    step = np.unique(np.diff(moves))
    return any(bool((dst[-before] == dst[after] + step).any()) for before, after in ((1, 0), (1, 1), (2, 0)))


def _by_rounds(region: Region, config: Config) -> _Plan:
    """Each element once per list: for reductions into fewer elements than the hazard distance."""
    steps = _steps(region.starts, region.dimensions)
    order = np.argsort(steps[:, 0], kind="stable")
    ordered = steps[order, 0]
    first = np.searchsorted(ordered, ordered)
    rounds = np.empty(len(steps), np.int64)
    rounds[order] = np.arange(len(steps)) - first
    limit = config.depth(Memory.UOP) // LONGEST_LIST
    lists = []
    for number in range(int(rounds.max()) + 1):
        members = steps[rounds == number]
        lists += [members[begin : begin + limit] for begin in range(0, len(members), limit)]
    cycles = sum(INSTRUCTION_CYCLES + REENTRY_CYCLES + len(members) * MICRO_OP_CYCLES for members in lists)
    return _Plan(tuple(lists), ONCE, ONCE, cycles)
