"""Chooses how a convolution is cut into tiles that fit the accelerator's buffers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations
from math import prod

from edge_agent.vta.config import Config, Memory
from edgectl.codegen.vta.buffers import Buffers, divide
from edgectl.codegen.vta.loops import HAZARD_DISTANCE
from edgectl.codegen.vta.slots import Slots
from edgectl.errors import CompileError

BUS_BYTES_PER_CYCLE = 8
CYCLES_PER_LOAD = 70
"""Issue and latency of one DMA transfer: about 30 + 40 cycles."""
CYCLES_PER_TILE = 200
"""Instruction issue and loop re-entry of one tile's GEMM and ALU instructions, roughly."""
CYCLES_PER_MICRO_OP = 40
"""Weight of a micro-op: far above its one cycle of loading, since layers share UOP memory."""
FINALISTS = 200
"""Tilings, the best by cycles, of which micro-ops are counted."""


@dataclass(frozen=True)
class Problem:
    """The extents that decide a tiling, in blocks of channels and pixels."""

    in_blocks: int
    out_blocks: int
    in_size: tuple[int, int]
    out_size: tuple[int, int]
    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilation: tuple[int, int]
    residual: bool
    bias_blocks: int
    outer: int

    @property
    def row_step(self) -> int:
        """Input rows held on chip per output row: a kernel of height 1 skips the rows between."""
        return 1 if self.kernel[0] == 1 else self.strides[0]

    def in_rows(self, out_rows: int) -> int:
        return (out_rows - 1) * self.row_step + (self.kernel[0] - 1) * self.dilation[0] + 1

    def in_columns(self, out_columns: int) -> int:
        return (out_columns - 1) * self.strides[1] + (self.kernel[1] - 1) * self.dilation[1] + 1


@dataclass(frozen=True)
class Tiling:
    """A tile is `rows` x `columns` output pixels of `out_blocks`, accumulated over `in_blocks` at a time.

    `weights_outer`: all pixels for one group of output blocks before the next group. Each buffer is divided into
    that many slots; `cycles` is the estimate by which tilings were compared.
    """

    rows: int
    columns: int
    out_blocks: int
    in_blocks: int
    weights_outer: bool
    inp_slots: int
    wgt_slots: int
    acc_slots: int
    cycles: float


def _splits(extent: int) -> list[int]:
    """Tile extents worth trying: for each number of parts, the smallest extent that needs no more parts."""
    return sorted({-(-extent // parts) for parts in range(1, extent + 1)})


def _even_splits(extent: int) -> list[int]:
    """Divisors, since a smaller last part needs micro-ops of its own; any split where there are too few divisors."""
    divisors = [size for size in range(1, extent + 1) if extent % size == 0]
    return divisors if len(divisors) > 3 or extent < 4 else _splits(extent)


def buffers(problem: Problem, tiling: Tiling, config: Config) -> Buffers:
    """The areas of the on-chip memories under `tiling`."""
    residual = tiling.out_blocks * tiling.rows * tiling.columns if problem.residual else 0
    slots = (tiling.inp_slots, tiling.wgt_slots, tiling.acc_slots)
    return divide(config, slots, residual, tiling.out_blocks * problem.bias_blocks)


def _fits(problem: Problem, tiling: Tiling, config: Config) -> bool:
    inp = tiling.in_blocks * problem.in_rows(tiling.rows) * problem.in_columns(tiling.columns)
    wgt = tiling.in_blocks * tiling.out_blocks * problem.kernel[0] * problem.kernel[1]
    acc = tiling.out_blocks * tiling.rows * tiling.columns
    areas = buffers(problem, tiling, config)
    return inp <= areas.inp_slot and wgt <= areas.wgt_slot and acc <= areas.acc_slot


def _cycles(problem: Problem, tiling: Tiling, config: Config) -> float:
    """Estimated cycles of the layer: the busiest module if all buffers are doubled, else load and compute in turn."""
    row_tiles = -(-problem.out_size[0] // tiling.rows)
    column_tiles = -(-problem.out_size[1] // tiling.columns)
    pixels = row_tiles * column_tiles * problem.outer
    outs = -(-problem.out_blocks // tiling.out_blocks)
    ins = -(-problem.in_blocks // tiling.in_blocks)
    extra = int(problem.residual)

    inp_stays = pixels * ins <= tiling.inp_slots if tiling.weights_outer else ins <= tiling.inp_slots
    wgt_stays = ins <= tiling.wgt_slots if tiling.weights_outer else outs * ins <= tiling.wgt_slots
    inp_passes = 1 if inp_stays else outs
    wgt_passes = 1 if wgt_stays else pixels

    height = min(problem.in_size[0], problem.in_rows(tiling.rows))
    width = min(problem.in_size[1], problem.in_columns(tiling.columns))
    inp_elements = inp_passes * pixels * problem.in_blocks * height * width
    out_elements = problem.outer * problem.out_blocks * problem.out_size[0] * problem.out_size[1]
    wgt_elements = wgt_passes * problem.out_blocks * problem.in_blocks * problem.kernel[0] * problem.kernel[1]
    loads = inp_passes * pixels * problem.in_blocks + wgt_passes * outs * ins + extra * pixels * problem.out_blocks
    load = (
        (inp_elements + extra * out_elements) * config.element_bytes(Memory.INP)
        + wgt_elements * config.element_bytes(Memory.WGT)
    ) / BUS_BYTES_PER_CYCLE + loads * CYCLES_PER_LOAD
    gemm = out_elements * (problem.in_blocks * problem.kernel[0] * problem.kernel[1] + 1 + extra)
    compute = gemm + (6 + problem.bias_blocks) * out_elements + pixels * outs * ins * CYCLES_PER_TILE
    store = out_elements * config.element_bytes(Memory.OUT) / BUS_BYTES_PER_CYCLE + pixels * outs * CYCLES_PER_LOAD
    overlap = (
        (tiling.inp_slots > 1 or inp_stays)
        and (tiling.wgt_slots > 1 or wgt_stays)
        and (tiling.acc_slots > 1 or pixels * outs == 1)
    )
    first = load / max(1, pixels * outs * ins)
    # Bytes break ties between tilings that are bound by compute.
    return (max(load + store, compute) + first if overlap else load + compute + store) + 0.2 * (load + store)


def _widths(extent: int) -> list[int]:
    """Full width, then halves down to about eight columns: narrow tiles waste bursts and halo."""
    widths = [extent]
    while widths[-1] > 8:
        widths.append(-(-widths[-1] // 2))
    return widths


def _candidates(problem: Problem, config: Config) -> Iterator[Tiling]:
    for inp_slots, wgt_slots, acc_slots in ((2, 2, 2), (1, 2, 2), (2, 1, 2), (3, 2, 2), (1, 1, 1)):
        for width in _widths(problem.out_size[1]) + ([1] if acc_slots == 1 else []):
            for height in _splits(problem.out_size[0]):
                for out_blocks in _even_splits(problem.out_blocks):
                    fitting = 0
                    for in_blocks in reversed(_even_splits(problem.in_blocks)):
                        tiling = Tiling(
                            height, width, out_blocks, in_blocks, True, inp_slots, wgt_slots, acc_slots, 0.0
                        )
                        if _fits(problem, tiling, config):
                            yield tiling
                            yield replace(tiling, weights_outer=False)
                            fitting += 1
                        if fitting == 3:
                            break


def _micro_ops(problem: Problem, tiling: Tiling, config: Config) -> int:
    """Estimated micro-ops of the layer: those of one GEMM for each combination of buffer slots that occurs."""
    reductions = [*problem.kernel, tiling.in_blocks]
    outputs = [tiling.rows, tiling.columns, tiling.out_blocks]
    product = prod(reductions) * prod(outputs)
    shortest = product
    for first, second in combinations(range(6), 2):
        extents = reductions + outputs
        loops = extents[first] * extents[second]
        distinct = prod(extent for i, extent in enumerate(outputs, 3) if i not in (first, second))
        if distinct >= HAZARD_DISTANCE or product == loops * distinct:
            shortest = min(shortest, product // loops)
    return shortest * len(_slot_combinations(problem, tiling))


def _slot_combinations(problem: Problem, tiling: Tiling) -> set[tuple[int, int, int]]:
    """Which (ACC, INP, WGT) slots meet in a GEMM, over the first tiles."""
    pixels = range(-(-problem.out_size[0] // tiling.rows) * -(-problem.out_size[1] // tiling.columns) * problem.outer)
    groups = range(-(-problem.out_blocks // tiling.out_blocks))
    steps = range(-(-problem.in_blocks // tiling.in_blocks))
    order = (
        ((p, g) for g in groups for p in pixels) if tiling.weights_outer else ((p, g) for p in pixels for g in groups)
    )
    inp, wgt = Slots(1, tiling.inp_slots), Slots(1, tiling.wgt_slots)
    met = set()
    for number, (pixel, group) in zip(range(8), order, strict=False):
        for step in steps:
            met.add((number % tiling.acc_slots, inp.take((pixel, step))[0], wgt.take((group, step))[0]))
    return met


@lru_cache(maxsize=1024)
def choose_tiling(problem: Problem, config: Config) -> Tiling:
    """The tiling with the fewest estimated cycles, micro-ops counted. Raises CompileError where nothing fits."""
    costed = [(_cycles(problem, tiling, config), tiling) for tiling in _candidates(problem, config)]
    if not costed:
        raise CompileError(
            f"a convolution with kernel {problem.kernel} over {problem.in_size[1]} columns does not fit the buffers of "
            f"{config.name}"
        )
    costed.sort(key=lambda pair: pair[0])
    best, cycles = None, float("inf")
    for base, tiling in costed[:FINALISTS]:
        total = base + CYCLES_PER_MICRO_OP * _micro_ops(problem, tiling, config)
        if total < cycles:
            best, cycles = tiling, total
    assert best is not None
    return replace(best, cycles=cycles)
