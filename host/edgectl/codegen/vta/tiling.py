"""Chooses how a layer is cut into tiles that fit the accelerator's buffers, by estimated cycles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from math import prod

from edge_agent.vta.config import Config, Memory
from edgectl.codegen.vta.axis import Window
from edgectl.codegen.vta.buffers import Buffers, divide
from edgectl.codegen.vta.pipeline import (
    BYTE_WEIGHT,
    CYCLES_PER_STEP,
    CYCLES_PER_TILE,
    TileStep,
    Transfer,
    Work,
    list_cycles,
    play,
    transfer,
)
from edgectl.codegen.vta.problem import Problem
from edgectl.errors import CompileError

FINALISTS = 48
"""Tilings, the best by a closed formula, of which the pipeline is simulated."""
LARGEST_TRANSFER = 16384
"""Bytes of weights that one LOAD brings, about: others wait for the bus meanwhile."""
SIMULATED_STEPS = 300
"""Steps of a layer's pipeline that are simulated; more are taken to go on alike."""
SLOTS = ((2, 2, 1), (2, 1, 1), (1, 2, 1), (1, 1, 1), (3, 2, 1), (2, 2, 2), (2, 1, 2), (1, 2, 2), (3, 1, 1), (4, 2, 1))
"""Ways to divide INP, WGT and ACC that are tried."""


MOST_SLOTS = 32
"""Slots of one memory: each has micro-op lists of its own."""


@dataclass(frozen=True)
class Tiling:
    """A tile is `rows` x `columns` output pixels of `groups` groups of `outs` blocks, over `ins` blocks at a time.

    `weights_outer`: all pixels for one group of output blocks before the next group. Each buffer is divided into
    that many slots. `serpentine`: every other tile takes the input blocks in reverse, so that it begins with the
    weights that the one before ended with. `cycles` is the estimate by which tilings were compared, `reuse` and
    `residual_reuse` how often a micro-op list of products, and of residuals, serves.
    """

    rows: int
    columns: int
    groups: int
    outs: int
    ins: int
    weights_outer: bool
    inp_slots: int
    wgt_slots: int
    acc_slots: int
    serpentine: bool = False
    cycles: float = 0.0
    reuse: float = 1.0
    residual_reuse: float = 1.0

    @property
    def units(self) -> int:
        """Blocks of output channels in a tile."""
        return self.groups * self.outs


def _parts(extent: int, size: int) -> int:
    return -(-extent // size)


def _splits(extent: int) -> list[int]:
    """Tile extents worth trying: for each number of parts, the smallest extent that needs no more parts."""
    return sorted({_parts(extent, parts) for parts in range(1, extent + 1)})


def _even_splits(extent: int) -> list[int]:
    """Divisors, since a smaller last part needs micro-ops of its own; any split where there are too few divisors."""
    divisors = [size for size in range(1, extent + 1) if extent % size == 0]
    return divisors if len(divisors) > 3 or extent < 4 else _splits(extent)


def buffers(problem: Problem, tiling: Tiling, config: Config) -> Buffers:
    """The areas of the on-chip memories under `tiling`."""
    slots = (tiling.inp_slots, tiling.wgt_slots, tiling.acc_slots)
    return divide(config, slots, tiling.units * problem.bias_blocks)


def _conv_extent(problem: Problem, tiling: Tiling) -> tuple[int, int]:
    """Rows and columns of the convolution that a tile needs at most."""
    if problem.pools is None:
        return tiling.rows, tiling.columns
    rows, columns = (
        min((extent - 1) * pool.stride + pool.kernel, pool.extent)
        for extent, pool in zip((tiling.rows, tiling.columns), problem.pools, strict=True)
    )
    return rows, columns


def in_rows(problem: Problem, tiling: Tiling) -> int:
    """Rows of an input tile on chip: with several tiles along the axis, padding above the image has a place too."""
    rows = _conv_extent(problem, tiling)[0]
    window = problem.rows
    if tiling.rows >= problem.out_size[0]:
        return problem.in_rows(rows)
    return ((rows - 1) * window.stride + (window.kernel - 1) * window.dilation) // problem.row_spacing + 1


def _weights(problem: Problem, tiling: Tiling) -> int:
    """Weight blocks of one step."""
    return 0 if problem.shared else tiling.units * tiling.ins * problem.taps


def _fits(problem: Problem, tiling: Tiling, config: Config) -> bool:
    areas = buffers(problem, tiling, config)
    inp = tiling.groups * tiling.ins * in_rows(problem, tiling)
    inp *= problem.in_columns(_conv_extent(problem, tiling)[1])
    wgt = _weights(problem, tiling)
    acc = tiling.units * problem.unit_accumulators(tiling.rows, tiling.columns)
    return inp <= areas.inp_slot and wgt <= areas.wgt_slot and acc <= areas.acc_slot


@dataclass(frozen=True)
class _Count:
    """How many tiles there are along each loop."""

    pixels: int
    channels: int
    steps: int


def _count(problem: Problem, tiling: Tiling) -> _Count:
    pixels = _parts(problem.out_size[0], tiling.rows) * _parts(problem.out_size[1], tiling.columns) * problem.outer
    channels = _parts(problem.groups, tiling.groups) * _parts(problem.outs, tiling.outs)
    return _Count(pixels, channels, _parts(problem.ins, tiling.ins))


def tile_work(problem: Problem, tiling: Tiling, config: Config) -> Work:
    """What an average tile asks of the modules."""
    count = _count(problem, tiling)
    tiles = count.pixels * count.channels
    rows, columns = _conv_extent(problem, tiling)
    outputs = problem.outer * problem.groups * problem.outs * problem.out_size[0] * problem.out_size[1]
    halo, pooled = 1.0, 0.0
    if problem.pools:
        halo = tiles * tiling.units * rows * columns / (outputs / prod(problem.out_size) * prod(problem.conv_size))
        taken = [(pool.kernel - 1) for pool in problem.pools]
        pooled = outputs * (taken[0] + taken[1] * problem.conv_size[0] / problem.out_size[0])
    convolved = halo * outputs / prod(problem.out_size)
    gemm = convolved * (problem.ins * problem.pairs + prod(problem.conv_size) * (2 if problem.bias_blocks else 1))
    residual = tiling.units * tiling.rows * tiling.columns if problem.residual else 0
    chunks = _parts(residual, buffers(problem, tiling, config).inp_slot)
    gemm += outputs if problem.residual else 0
    out = config.element_bytes(Memory.OUT)
    wgt = config.element_bytes(Memory.WGT)
    full = tiling.columns >= problem.out_size[1]
    wide = 4 if problem.wide else 1
    stores = tiling.units * (1 if full and not problem.pools else tiling.rows)
    in_row = tiling.ins * problem.taps * wgt
    return Work(
        inp=_input_transfer(problem, tiling, rows, columns, config),
        wgt=Transfer()
        if problem.shared
        else transfer(max(1.0, tiling.units * in_row / LARGEST_TRANSFER), tiling.units, in_row),
        bias=transfer(1, 1, tiling.units * problem.bias_blocks * wgt) if problem.bias_blocks else Transfer(),
        residual=transfer(1, tiling.units * (1 if full else tiling.rows) / chunks, residual / tiling.units * out)
        if chunks and full
        else transfer(tiling.units / chunks, residual / tiling.columns / chunks, tiling.columns * out)
        if chunks
        else Transfer(),
        residual_chunks=chunks,
        residual_elements=residual,
        store=transfer(4.0 if full else stores, stores * wide, outputs / tiles / stores * out),
        gemm=gemm / tiles,
        alu=(outputs * problem.tail + pooled) / tiles,
        outputs=outputs / tiles,
    )


def _input_transfer(problem: Problem, tiling: Tiling, rows: int, columns: int, config: Config) -> Transfer:
    """Of one step's input, as `load_input` brings it."""
    window, blocks, inp = problem.rows, tiling.groups * tiling.ins, config.element_bytes(Memory.INP)
    height = _parts(min(window.extent, (rows - 1) * window.stride + window.kernel), problem.row_spacing)
    width = problem.in_columns(columns)
    if problem.row_spacing > 1 or width < problem.columns.extent:
        return transfer(blocks, blocks * height, width * inp)
    edges = min(1.0, 2 * problem.outer / _parts(problem.out_size[0], tiling.rows)) if window.kernel > 1 else 0.0
    return transfer(1 + edges * (blocks - 1), blocks, height * width * inp)


def _formula(problem: Problem, tiling: Tiling, config: Config) -> float:
    """Cycles of the busiest module, transfers weighed a little: to tell hopeless tilings from good ones."""
    count, work = _count(problem, tiling), tile_work(problem, tiling, config)
    inputs = count.pixels * count.steps * (count.channels if problem.groups == 1 else _parts(problem.outs, tiling.outs))
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
        widths.append(_parts(widths[-1], 2))
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
    count = _count(problem, tiling)
    inputs = count.pixels * count.steps
    if not problem.shared and tiling.wgt_slots == 2:
        # All weights, or those of one group of output blocks while its pixels pass.
        for weights in sorted({count.channels * count.steps, count.steps}):
            variant = replace(tiling, wgt_slots=weights)
            if 2 < weights <= MOST_SLOTS and _fits(problem, variant, config):
                yield variant
        # Nearly all weights: as many slots as there is room for, what is in them used again from behind.
        slots = min(
            MOST_SLOTS, count.steps - 1, 2 * buffers(problem, tiling, config).wgt_slot // _weights(problem, tiling)
        )
        if count.channels == 1 < count.pixels and slots > 2:
            yield replace(tiling, wgt_slots=slots, serpentine=True)
    if tiling.inp_slots == 2 < inputs <= MOST_SLOTS and problem.groups == 1 and count.channels > 1:
        variant = replace(tiling, inp_slots=inputs)
        if _fits(problem, variant, config):
            yield variant


def _candidates(problem: Problem, config: Config) -> Iterator[Tiling]:
    narrow = False
    for slots in SLOTS:
        found = False
        for width in _widths(problem.out_size[1]):
            for height in _splits(problem.out_size[0]):
                fitting: dict[tuple[int, int], int] = {}
                for groups, outs, ins in _channels(problem):
                    if fitting.get((groups, outs), 0) == 3:
                        continue
                    tiling = Tiling(height, width, groups, outs, ins, True, *slots)
                    if _fits(problem, tiling, config):
                        for variant in (tiling, *_resident(problem, tiling, config)):
                            yield variant
                            count = _count(problem, variant)
                            if min(count.pixels, count.channels) > 1:
                                yield replace(variant, weights_outer=False)
                        fitting[groups, outs] = fitting.get((groups, outs), 0) + 1
                        found = True
        narrow = narrow or found
    if not narrow:
        for height in (1,):
            for groups, outs, ins in _channels(problem):
                tiling = Tiling(height, 1, groups, outs, ins, True, 1, 1, 1)
                if _fits(problem, tiling, config):
                    yield tiling


def _simulated(problem: Problem, tiling: Tiling, config: Config) -> Tiling:
    """`tiling` with the cycles that a simulation of its pipeline takes."""
    count, work = _count(problem, tiling), tile_work(problem, tiling, config)
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
        reuse=max(1.0, tiles * count.steps / lists),
        residual_reuse=max(1.0, tiles * work.residual_chunks / max(1, pieces)),
    )


def _kinds(extent: int, size: int, window: Window) -> int:
    """How many kinds of tiles there are along an axis, each with micro-ops of its own: at the edges, smaller ones."""
    parts = _parts(extent, size)
    if parts == 1:
        return 1
    return min(parts, 1 + (window.kernel > 1) + (extent % size > 0))


def _order(problem: Problem, tiling: Tiling, count: _Count) -> Iterator[TileStep]:
    """The tiles in order of execution."""

    def inputs(channel: int) -> int:
        return channel // _parts(problem.outs, tiling.outs) if problem.groups > 1 else 0

    if tiling.weights_outer:
        return (TileStep(p, c, inputs(c)) for c in range(count.channels) for p in range(count.pixels))
    return (TileStep(p, c, inputs(c)) for p in range(count.pixels) for c in range(count.channels))


@lru_cache(maxsize=1024)
def choose_tiling(problem: Problem, config: Config) -> Tiling:
    """The tiling with the fewest estimated cycles. Raises CompileError where nothing fits."""
    scored = sorted(
        (
            (_formula(problem, tiling, config), number, tiling)
            for number, tiling in enumerate(_candidates(problem, config))
        ),
        key=lambda entry: entry[:2],
    )
    if not scored:
        raise CompileError(
            f"a window of {problem.rows.kernel} x {problem.columns.kernel} over {problem.columns.extent} columns does "
            f"not fit the buffers of {config.name}"
        )
    finalists = [_simulated(problem, tiling, config) for _, _, tiling in scored[:FINALISTS]]
    return min(finalists, key=lambda tiling: tiling.cycles)


def fits(problem: Problem, config: Config) -> bool:
    """Whether some tiling fits the buffers."""
    try:
        choose_tiling(problem, config)
    except CompileError:
        return False
    return True
