"""Patches of an image, packed: for each row of patches, first the pixel rows they cover, then their tiles.

Operators fused in front (Quantize) are computed along whole pixel rows, which vectorises; in the order of a tile's
lanes it would not. Where patches overlap vertically, they are computed for each row of patches again. Look-ups
(QuantizePixels), which no vector does, are made as the lanes need them.
"""

from __future__ import annotations

from tvm import s_tir, te

from edgectl.codegen.cpu.lowering import OUTPUT, Call, Expression, Lowering, Pattern, Reader, constant, keep, padded
from edgectl.operators.patches import PackPatches

_UNROLLED_BLOCKS = 16
"""Up to so many tiles per patch, each gets code of its own, in which a lane's pixel is a constant."""


def _pack(call: Call, x: Reader) -> Reader:
    operator, zero = _attributes(call), constant(0, call.output.dtype)
    (patch_rows, patch_columns), (step_rows, step_columns) = operator.patch, operator.steps
    batch, channels, height, width = call.inputs[0].shape
    top, left = operator.padding

    def pixel(n: Expression, step: Expression, row: Expression, c: Expression, w: Expression) -> Expression:
        h = step * step_rows + row - top
        return padded(lambda: x(n, c, h, w), ((h, height),), zero)

    rows = te.compute((batch, operator.grid[0], patch_rows, channels, width), pixel, name="rows")

    def read(*indices: Expression) -> Expression:
        outer, blocks, row, column, sample, lane = indices
        channel = blocks * operator.block + lane
        position = te.indexdiv(channel, channels)
        w = column * step_columns + te.indexmod(position, patch_columns) - left
        place = (
            outer * operator.batch + sample,
            row,
            te.indexdiv(position, patch_columns),
            te.indexmod(channel, channels),
            w,
        )
        return padded(lambda: rows[place], ((channel, channels * patch_rows * patch_columns), (w, width)), zero)

    return read


def _schedule(call: Call, schedule: s_tir.Schedule) -> None:
    output = schedule.get_sblock(OUTPUT)
    (rows,) = schedule.get_producers(output)
    outer, blocks, row, column, sample, lane = schedule.get_loops(output)
    schedule.reorder(outer, row, blocks, column, sample, lane)
    if direct := _reads_pixels(schedule, rows):
        schedule.compute_inline(rows)
    else:
        schedule.compute_at(rows, row, preserve_unit_loops=True)
        _vectorize(schedule, schedule.get_loops(rows)[-1], call.target.vector_bytes)
    if call.output.shape[1] <= _UNROLLED_BLOCKS:
        schedule.unroll(blocks)
    schedule.unroll(lane)
    for loop, axis in ((column, 1), (row, 0)) if direct else ((column, 1),):
        extent = call.output.shape[2 + axis]
        first, last = _inside(call, axis)
        partitioned(schedule, loop, (first, last - first, extent - last))


def _reads_pixels(schedule: s_tir.Schedule, rows: s_tir.schedule.SBlockRV) -> bool:
    """Whether pixels are looked up in front: scalar loads, which rows of their own would only add to."""
    return any(region.source.ty.dtype == "uint8" for region in schedule.get(rows).reads)


def _vectorize(schedule: s_tir.Schedule, loop: s_tir.schedule.LoopRV, lanes: int) -> None:
    """In whole vectors, and the rest one by one.

    LLVM itself makes no vectors of floating point for NEON, which takes denormal numbers for zero.
    """
    extent = int(schedule.get(loop).extent)
    if extent >= lanes:
        whole, *_ = partitioned(schedule, loop, (extent // lanes * lanes, extent % lanes))
        _, inner = schedule.split(whole, [None, lanes])
        schedule.vectorize(inner)


def _inside(call: Call, axis: int) -> tuple[int, int]:
    """The rows (axis 0) or columns (1) of patches [first, last) that lie within the image: they need no test."""
    operator, count = _attributes(call), call.output.shape[2 + axis]
    before, step = operator.padding[axis], operator.steps[axis]
    first = min(-(-before // step), count)
    last = (call.inputs[0].shape[2 + axis] + before - operator.patch[axis]) // step + 1
    return first, max(first, min(last, count))


def partitioned(
    schedule: s_tir.Schedule, loop: s_tir.schedule.LoopRV, extents: tuple[int, ...]
) -> list[s_tir.schedule.LoopRV]:
    """The loop as consecutive ones of those extents; none of extent 0."""
    some = [extent for extent in extents if extent]
    return schedule.loop_partition(loop, [*some[:-1], None]) if len(some) > 1 else [loop]


def _attributes(call: Call) -> PackPatches:
    assert isinstance(call.operator, PackPatches)
    return call.operator


LOWERINGS = {PackPatches: Lowering(Pattern.INJECTIVE, _pack, keep, _schedule)}
