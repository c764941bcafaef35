"""Patches of an image, packed: for each row of patches, first the pixel rows they cover, then their tiles.

Operators fused in front (Quantize) are computed along whole pixel rows, which vectorises; in the order of a tile's
lanes it would not. Where patches overlap vertically, they are computed for each row of patches again.
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

    def pixel(n: Expression, step: Expression, row: Expression, c: Expression, column: Expression) -> Expression:
        h, w = step * step_rows + row - top, column - left
        return padded(lambda: x(n, c, h, w), ((h, height), (w, width)), zero)

    shape = (batch, operator.grid[0], patch_rows, channels, operator.extents()[1])
    rows = te.compute(shape, pixel, name="rows")

    def read(*indices: Expression) -> Expression:
        outer, blocks, row, column, sample, lane = indices
        channel = blocks * operator.block + lane
        position = te.indexdiv(channel, channels)
        value = rows[
            outer * operator.batch + sample,
            row,
            te.indexdiv(position, patch_columns),
            te.indexmod(channel, channels),
            column * step_columns + te.indexmod(position, patch_columns),
        ]
        return te.if_then_else(channel < channels * patch_rows * patch_columns, value, zero)

    return read


def _schedule(call: Call, schedule: s_tir.Schedule) -> None:
    output = schedule.get_sblock(OUTPUT)
    (rows,) = schedule.get_producers(output)
    outer, blocks, row, column, sample, lane = schedule.get_loops(output)
    schedule.reorder(outer, row, blocks, column, sample, lane)
    schedule.compute_at(rows, row, preserve_unit_loops=True)
    if call.output.shape[1] <= _UNROLLED_BLOCKS:
        schedule.unroll(blocks)
    schedule.unroll(lane)
    _peel_padding(call, schedule, schedule.get_loops(rows)[-1])


def _peel_padding(call: Call, schedule: s_tir.Schedule, columns: s_tir.schedule.LoopRV) -> None:
    """Padding left and right gets loops of its own: between them no column is tested, and LLVM vectorises."""
    operator, width = _attributes(call), call.inputs[0].shape[3]
    extent = operator.extents()[1]
    left = min(operator.padding[1], extent)
    inside = min(width, extent - left)
    parts = [part for part in (left, inside, extent - left - inside) if part > 0]
    if len(parts) > 1:
        schedule.loop_partition(columns, [*parts[:-1], None])


def _attributes(call: Call) -> PackPatches:
    assert isinstance(call.operator, PackPatches)
    return call.operator


LOWERINGS = {PackPatches: Lowering(Pattern.INJECTIVE, _pack, keep, _schedule)}
