"""How a layer is cut into tiles, and what of a tile is on chip."""

from __future__ import annotations

from dataclasses import dataclass

from edge_agent.vta.config import Config
from edgectl.codegen.vta.buffers import Buffers, divide
from edgectl.codegen.vta.problem import Problem


@dataclass(frozen=True)
class Tiling:
    """A tile is `rows` x `columns` output pixels of `groups` groups of `outs` blocks, over `ins` blocks at a time.

    `weights_outer`: all pixels for one group of output blocks before the next group. Each buffer is divided into
    that many slots. `serpentine`: every other tile takes the input blocks in reverse, so that it begins with the
    weights that the one before ended with. `cycles`, and `nbytes` that are moved, without micro-ops, are estimates;
    `reuse` and `residual_reuse` say how often a micro-op list of products, and of residuals, serves.
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
    nbytes: float = 0.0
    reuse: float = 1.0
    residual_reuse: float = 1.0

    @property
    def units(self) -> int:
        """Blocks of output channels in a tile."""
        return self.groups * self.outs


def part_count(extent: int, size: int) -> int:
    """How many parts of `size` cover `extent`."""
    return -(-extent // size)


def buffers(problem: Problem, tiling: Tiling, config: Config) -> Buffers:
    """The areas of the on-chip memories under `tiling`."""
    slots = (tiling.inp_slots, tiling.wgt_slots, tiling.acc_slots)
    return divide(config, slots, tiling.units * problem.bias_blocks)


def conv_extent(problem: Problem, tiling: Tiling) -> tuple[int, int]:
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
    rows = conv_extent(problem, tiling)[0]
    window = problem.rows
    if tiling.rows >= problem.out_size[0]:
        return problem.in_rows(rows)
    return ((rows - 1) * window.stride + (window.kernel - 1) * window.dilation) // problem.row_spacing + 1


def weight_blocks(problem: Problem, tiling: Tiling) -> int:
    """Weight blocks of one step."""
    return 0 if problem.shared else tiling.units * tiling.ins * problem.taps


def tile_fits(problem: Problem, tiling: Tiling, config: Config) -> bool:
    """Whether a tile, and what it needs beside, fits the slots."""
    areas = buffers(problem, tiling, config)
    inp = tiling.groups * tiling.ins * in_rows(problem, tiling)
    inp *= problem.in_columns(conv_extent(problem, tiling)[1])
    wgt = weight_blocks(problem, tiling)
    acc = tiling.units * problem.unit_accumulators(tiling.rows, tiling.columns)
    return inp <= areas.inp_slot and wgt <= areas.wgt_slot and acc <= areas.acc_slot


@dataclass(frozen=True)
class TileCount:
    """How many tiles there are along each loop."""

    pixels: int
    channels: int
    steps: int


def count_tiles(problem: Problem, tiling: Tiling) -> TileCount:
    """Pixels, output channels and steps over input channels, each in tiles."""
    pixels = (
        part_count(problem.out_size[0], tiling.rows) * part_count(problem.out_size[1], tiling.columns) * problem.outer
    )
    channels = part_count(problem.groups, tiling.groups) * part_count(problem.outs, tiling.outs)
    return TileCount(pixels, channels, part_count(problem.ins, tiling.ins))


def residual_chunks(problem: Problem, tiling: Tiling, config: Config) -> int:
    """In how many pieces a tile's residual is loaded, each into an input slot."""
    if not problem.residual:
        return 0
    return part_count(tiling.units * tiling.rows * tiling.columns, buffers(problem, tiling, config).inp_slot)
