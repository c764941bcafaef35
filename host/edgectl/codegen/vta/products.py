"""The products of one step of a tile, as the cheapest set of GEMM instructions."""

from __future__ import annotations

from functools import lru_cache

from edge_agent.vta.config import Config, Memory
from edgectl.codegen.vta.axis import Axis, Range, by_output, by_pairs, by_tap, product
from edgectl.codegen.vta.collector import Collector, Span
from edgectl.codegen.vta.loops import LONGEST_LIST, Dimension, Region, cost
from edgectl.codegen.vta.tile import Tile


def multiply(
    assembler: Collector,
    tile: Tile,
    ins: Range,
    acc: int,
    inp: int,
    wgt: int,
    inp_span: Span,
    wgt_span: Span,
    reuse: float,
) -> None:
    """Accumulate input blocks `ins` of a tile whose operands begin at `inp` and `wgt`, into ACC from `acc` on.

    Pairs of an output and a tap that meet padding are left out, not multiplied by zeros.
    """
    problem = tile.problem
    count, plane = ins[1] - ins[0], tile.in_rows * tile.in_width
    taps = 0 if problem.shared else problem.taps
    dimensions = (
        Dimension(count, 0, plane, taps),
        Dimension(tile.out_count, tile.unit_elements, 0, count * taps),
        Dimension(tile.group_count, tile.out_count * tile.unit_elements, count * plane, tile.out_count * count * taps),
    )
    scale = (tile.conv_width, tile.in_width, problem.columns.kernel)
    regions = _regions(tile.row_axis, tile.column_axis, scale, dimensions, problem.shared, assembler.config, reuse)
    span = (acc, acc + tile.units * tile.unit_elements)
    for region in regions:
        assembler.multiply(region.moved(acc, inp, wgt), span, inp_span, wgt_span, reuse)


@lru_cache(maxsize=8192)
def _regions(
    rows: Axis,
    columns: Axis,
    scale: tuple[int, int, int],
    dimensions: tuple[Dimension, ...],
    shared: bool,
    config: Config,
    reuse: float,
) -> tuple[Region, ...]:
    """The cheapest way to walk both axes: pairs listed one by one, or loops over taps or over outputs."""
    best: tuple[Region, ...] = ()
    cheapest = float("inf")
    row_ways = (by_tap, by_output, by_pairs) if rows.window.kernel > 1 else (by_tap,)
    column_ways = (by_pairs, by_tap) if columns.window.kernel > 1 else (by_tap,)
    for row_way in row_ways:
        for column_way in column_ways:
            parts = [(r, c) for r in row_way(rows) for c in column_way(columns)]
            if any(len(r.starts) * len(c.starts) > config.depth(Memory.UOP) // LONGEST_LIST for r, c in parts):
                continue
            regions = tuple(_joined(r, c, scale, dimensions, shared) for r, c in parts)
            cycles = sum(cost(region, config, reuse) for region in regions)
            if cycles < cheapest:
                best, cheapest = regions, cycles
    return best


def _joined(
    rows: Region, columns: Region, scale: tuple[int, int, int], dimensions: tuple[Dimension, ...], shared: bool
) -> Region:
    region = product(rows, columns, scale)
    if shared:
        region = Region(
            tuple((dst, src, 0) for dst, src, _ in region.starts),
            tuple(Dimension(d.extent, d.dst, d.src, 0) for d in region.dimensions),
        )
    return Region(region.starts, region.dimensions + dimensions)
