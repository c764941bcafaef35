"""Searches the tiling of a layer with the fewest estimated cycles."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache

from edge_agent.vta.config import Config
from edgectl.codegen.vta.axis import Window
from edgectl.codegen.vta.pipeline import (
    BUS_BYTES_PER_CYCLE,
    BYTE_WEIGHT,
    CYCLES_PER_STEP,
    CYCLES_PER_TILE,
    TileStep,
    Work,
    list_cycles,
    play,
)
from edgectl.codegen.vta.problem import Problem
from edgectl.codegen.vta.tiling import (
    TileCount,
    Tiling,
    buffers,
    count_tiles,
    part_count,
    residual_chunks,
    tile_fits,
    weight_blocks,
)
from edgectl.codegen.vta.work import tile_work
from edgectl.errors import CompileError

FINALISTS = 48
"""Tilings, the best by a closed formula, of which the pipeline is simulated."""
SIMULATED_STEPS = 300
"""Steps of a layer's pipeline that are simulated; more are taken to go on alike."""
SLOTS = ((2, 2, 1), (2, 1, 1), (1, 2, 1), (1, 1, 1), (3, 2, 1), (2, 2, 2), (2, 1, 2), (1, 2, 2), (3, 1, 1), (4, 2, 1))
"""Ways to divide INP, WGT and ACC that are tried."""
MOST_SLOTS = 32
"""Slots of one memory: each has micro-op lists of its own."""


def _splits(extent: int) -> list[int]:
    """Tile extents worth trying: for each number of parts, the smallest extent that needs no more parts."""
    return sorted({part_count(extent, parts) for parts in range(1, extent + 1)})


def _even_splits(extent: int) -> list[int]:
    """Divisors, since a smaller last part needs micro-ops of its own; any split where there are too few divisors."""
    divisors = [size for size in range(1, extent + 1) if extent % size == 0]
    return divisors if len(divisors) > 3 or extent < 4 else _splits(extent)


def _formula(problem: Problem, tiling: Tiling, work: Work) -> float:
    """Cycles of the busiest module, transfers weighed a little: to tell hopeless tilings from good ones."""
    count = count_tiles(problem, tiling)
    inputs = (
        count.pixels * count.steps * (count.channels if problem.groups == 1 else part_count(problem.outs, tiling.outs))
    )
    if (count.pixels if tiling.weights_outer else 1) * count.steps <= tiling.inp_slots:
        inputs = count.pixels * count.steps * (count.channels if problem.groups > 1 else 1)
    stays = count.steps if tiling.weights_outer else count.channels * count.steps
    weights = count.channels * count.steps * (1 if stays <= tiling.wgt_slots else count.pixels)
    tiles = count.pixels * count.channels
    moved = tiles * work.store.cycles
    residuals = tiles * work.residual_chunks * work.residual.cycles
    compute = tiles * (work.gemm + 2 * work.alu + CYCLES_PER_TILE + CYCLES_PER_STEP * count.steps)
    # What has one slot is loaded while nothing is computed, unless it stays.
    for loads, cycles, slots in (
        (inputs, inputs * work.inp.cycles + residuals, tiling.inp_slots),
        (weights, weights * work.wgt.cycles, tiling.wgt_slots),
    ):
        moved += cycles
        if slots == 1 and loads > 1:
            compute += cycles
    return max(moved, compute) + BYTE_WEIGHT * moved


def _widths(extent: int) -> list[int]:
    """Full width, then halves down to about eight columns: narrow tiles waste bursts and halo."""
    widths = [extent]
    while widths[-1] > 8:
        widths.append(part_count(widths[-1], 2))
    return widths


def _channels(problem: Problem) -> Iterator[tuple[int, int, int]]:
    """(groups, outs, ins) of a tile: whole groups, or parts of one; the most input blocks first."""
    if problem.groups > 1:
        for groups in _even_splits(problem.groups):
            yield groups, problem.outs, problem.ins
    for outs in _even_splits(problem.outs):
        for ins in reversed(_even_splits(problem.ins)):
            yield 1, outs, ins


def _resident(problem: Problem, tiling: Tiling, config: Config) -> Iterator[Tiling]:
    """Variants of a double-buffered `tiling` in which weights or inputs stay for good."""
    count = count_tiles(problem, tiling)
    inputs = count.pixels * count.steps
    if not problem.shared and tiling.wgt_slots == 2:
        # All weights, or those of one group of output blocks while its pixels pass.
        for weights in sorted({count.channels * count.steps, count.steps}):
            variant = replace(tiling, wgt_slots=weights)
            if 2 < weights <= MOST_SLOTS and tile_fits(problem, variant, config):
                yield variant
        # Nearly all weights: as many slots as there is room for, what is in them used again from behind.
        slots = min(
            MOST_SLOTS, count.steps - 1, 2 * buffers(problem, tiling, config).wgt_slot // weight_blocks(problem, tiling)
        )
        if count.channels == 1 < count.pixels and slots > 2:
            yield replace(tiling, wgt_slots=slots, serpentine=True)
    if tiling.inp_slots == 2 < inputs <= MOST_SLOTS and problem.groups == 1 and count.channels > 1:
        variant = replace(tiling, inp_slots=inputs)
        if tile_fits(problem, variant, config):
            yield variant


def candidates(problem: Problem, config: Config) -> Iterator[Tiling]:
    """All tilings that are worth an estimate and fit."""
    found = False
    # For each shape of output and each division of the buffers, the three largest numbers of input blocks.
    fitting: Counter[tuple[int, ...]] = Counter()
    for width in _widths(problem.out_size[1]):
        for height in _splits(problem.out_size[0]):
            for groups, outs, ins in _channels(problem):
                for slots in SLOTS:
                    key = (width, height, groups, outs, *slots)
                    tiling = Tiling(height, width, groups, outs, ins, True, *slots)
                    if fitting[key] == 3 or not tile_fits(problem, tiling, config):
                        continue
                    fitting[key] += 1
                    found = True
                    yield from _orders(problem, tiling, config)
    if not found:
        narrow = (Tiling(1, 1, *channels, True, 1, 1, 1) for channels in _channels(problem))
        yield from (tiling for tiling in narrow if tile_fits(problem, tiling, config))


def _orders(problem: Problem, tiling: Tiling, config: Config) -> Iterator[Tiling]:
    """`tiling` and variants of it, with weights or with pixels outside."""
    count = count_tiles(problem, tiling)
    for variant in (tiling, *_resident(problem, tiling, config)):
        yield variant
        if min(count.pixels, count.channels) > 1:
            yield replace(variant, weights_outer=False)


def _simulated(problem: Problem, tiling: Tiling, work: Work) -> Tiling:
    """`tiling` with the cycles that a simulation of its pipeline takes."""
    count = count_tiles(problem, tiling)
    tiles = count.pixels * count.channels
    slots = (tiling.inp_slots, tiling.wgt_slots, tiling.acc_slots)
    order = _order(problem, tiling, count)
    played = play(work, order, tiles, count.steps, slots, tiling.serpentine, SIMULATED_STEPS)
    kinds = _kinds(problem.out_size[0], tiling.rows, problem.rows) * _kinds(
        problem.out_size[1], tiling.columns, problem.columns
    )
    lists = kinds * played.combinations
    pieces = kinds * played.residual_combinations
    return replace(
        tiling,
        cycles=played.cycles
        + list_cycles((work.gemm - work.residual_elements) * tiles, lists)
        + list_cycles(work.residual_elements * tiles, pieces),
        nbytes=played.nbytes,
        reuse=max(1.0, tiles * count.steps / lists),
        residual_reuse=max(1.0, tiles * work.residual_chunks / max(1, pieces)),
    )


def _kinds(extent: int, size: int, window: Window) -> int:
    """How many kinds of tiles there are along an axis, each with micro-ops of its own: at the edges, smaller ones."""
    parts = part_count(extent, size)
    if parts == 1:
        return 1
    return min(parts, 1 + (window.kernel > 1) + (extent % size > 0))


def _order(problem: Problem, tiling: Tiling, count: TileCount) -> Iterator[TileStep]:
    """The tiles in order of execution."""

    def inputs(channel: int) -> int:
        return channel // part_count(problem.outs, tiling.outs) if problem.groups > 1 else 0

    if tiling.weights_outer:
        return (TileStep(p, c, inputs(c)) for c in range(count.channels) for p in range(count.pixels))
    return (TileStep(p, c, inputs(c)) for p in range(count.pixels) for c in range(count.channels))


class _Works:
    """What tiles ask of the modules, remembered: most tilings differ in their slots only."""

    def __init__(self, problem: Problem, config: Config) -> None:
        self._problem, self._config = problem, config
        self._known: dict[tuple[int, ...], Work] = {}

    def of(self, tiling: Tiling) -> Work:
        chunks = residual_chunks(self._problem, tiling, self._config)
        key = (tiling.rows, tiling.columns, tiling.groups, tiling.outs, tiling.ins, chunks)
        if key not in self._known:
            self._known[key] = tile_work(self._problem, tiling, self._config)
        return self._known[key]


def cost(tiling: Tiling) -> float:
    """By what tilings are compared: estimated cycles, and a price for each byte moved."""
    return tiling.cycles + BYTE_WEIGHT * tiling.nbytes / BUS_BYTES_PER_CYCLE


@lru_cache(maxsize=1024)
def finalists(problem: Problem, config: Config) -> tuple[Tiling, ...]:
    """The tilings that were compared by simulation, the cheapest first; none where nothing fits."""
    works = _Works(problem, config)
    scored = sorted(
        (
            (_formula(problem, tiling, works.of(tiling)), number, tiling)
            for number, tiling in enumerate(candidates(problem, config))
        ),
        key=lambda entry: entry[:2],
    )
    simulated = [_simulated(problem, tiling, works.of(tiling)) for _, _, tiling in scored[:FINALISTS]]
    return tuple(sorted(simulated, key=cost))


def choose_tiling(problem: Problem, config: Config) -> Tiling:
    """The tiling that costs least. Raises CompileError where nothing fits."""
    compared = finalists(problem, config)
    if not compared:
        raise CompileError(
            f"a window of {problem.rows.kernel} x {problem.columns.kernel} over {problem.columns.extent} columns does "
            f"not fit the buffers of {config.name}"
        )
    return compared[0]


def fits(problem: Problem, config: Config) -> bool:
    """Whether some tiling fits the buffers."""
    return next(candidates(problem, config), None) is not None
