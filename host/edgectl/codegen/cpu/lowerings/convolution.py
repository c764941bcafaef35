"""Direct convolution, in integers and in floating point, vectorised over the output's width.

The input is copied once, padded, widened and split into its column phases (column w of phase p is column
w * stride + p), so that a stride does not break vector loads. Weights are packed at compile time in the order in which
the innermost loops read them. A tile of (output channels, rows, columns) stays in registers over the whole reduction.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tvm import s_tir, te

from edgectl.codegen.cpu.lowering import (
    OUTPUT,
    Arrays,
    Call,
    Expression,
    Lowering,
    Pattern,
    Reader,
    constant,
    padded,
    require_parameters,
)
from edgectl.codegen.cpu.lowerings.integer import requantize, rounding_shift
from edgectl.operators.base import Operator
from edgectl.operators.convolution import Convolution
from edgectl.operators.integer import IntegerConvolution

_ACCUMULATORS = {16: 8, 32: 16}
"""Vector registers to accumulate in, by how many the processor has; the others hold operands."""
_UNROLLED_KERNEL_WIDTH = 11


@dataclass(frozen=True)
class Tiling:
    """A convolution's extents and the register tile that computes it.

    `flat`: a pointwise convolution without stride or padding, whose image is one row of all its pixels. `width` is the
    accumulated width, the output's rounded up to whole tiles.
    """

    batch: int
    channels: int
    groups: int
    group_channels: int
    kernel: tuple[int, int]
    rows: int
    columns: int
    width: int
    tile_channels: int
    tile_rows: int
    tile_columns: int
    flat: bool

    @property
    def whole(self) -> bool:
        """Tiles divide the output, so that it can be written tile by tile."""
        return self.width == self.columns and not self.flat


def tiling(call: Call) -> Tiling:
    """Choose the register tile: the widest useful vectors, then output channels, then rows."""
    operator = _attributes(call.operator)
    batch, channels, rows, columns = call.output.shape
    _, group_channels, kernel_rows, kernel_columns = call.inputs[1].shape
    flat = (kernel_rows, kernel_columns) == (1, 1) and operator.strides == (1, 1) and not any(operator.padding)
    if flat:
        rows, columns = 1, rows * columns
    lanes, budget = call.target.lanes, _ACCUMULATORS[call.target.vector_registers]
    tile_columns = _tile_columns(columns, lanes)
    budget = max(1, budget * lanes // max(tile_columns, lanes))
    tile_channels = _largest_divisor(channels // operator.groups, budget)
    tile_rows = _largest_divisor(rows, budget // tile_channels)
    width = -(-columns // tile_columns) * tile_columns
    return Tiling(
        batch,
        channels,
        operator.groups,
        group_channels,
        (kernel_rows, kernel_columns),
        rows,
        columns,
        width,
        tile_channels,
        tile_rows,
        tile_columns,
        flat,
    )


def _tile_columns(columns: int, lanes: int) -> int:
    """The tile width that wastes the fewest vector lanes; the wider one of two equals, up to two vectors."""

    def efficiency(tile: int) -> tuple[float, int]:
        vectors = -(-columns // tile) * max(tile, lanes)
        return columns / vectors, tile

    widths = [tile for tile in (4, 8, 16, 32) if tile <= 2 * lanes]
    return max(widths, key=efficiency)


def _largest_divisor(value: int, limit: int) -> int:
    return max(divisor for divisor in range(1, max(1, min(value, limit)) + 1) if value % divisor == 0)


def _attributes(operator: Operator) -> Convolution | IntegerConvolution:
    assert isinstance(operator, Convolution | IntegerConvolution)
    return operator


def _pack_weights(call: Call, arrays: Arrays) -> Arrays:
    """(O, C, KH, KW) -> (O/tile, C, KH, KW, tile); int8 becomes int16, which processors multiply into int32."""
    require_parameters(call, arrays, (1, 2))
    weight = arrays[1]
    assert weight is not None
    tile = tiling(call).tile_channels
    packed = weight.reshape(-1, tile, *weight.shape[1:]).transpose(0, 2, 3, 4, 1)
    dtype = np.int16 if weight.dtype == np.int8 else weight.dtype
    return arrays[0], np.ascontiguousarray(packed, dtype), *arrays[2:]


def _accumulate(call: Call, x: te.Tensor, weight: te.Tensor, operand: str, total: str) -> Reader:
    """The sum of products as a reader over NCHW indices; operands are widened to `operand`, summed in `total`."""
    operator, tile = _attributes(call.operator), tiling(call)
    (stride_rows, stride_columns), (top, left, _, _) = operator.strides, operator.padding
    (step_rows, step_columns) = operator.dilation
    kernel_rows, kernel_columns = tile.kernel
    _, in_channels, height, columns = call.inputs[0].shape
    phases = min(stride_columns, (kernel_columns - 1) * step_columns + 1)
    reach = (kernel_columns - 1) * step_columns // stride_columns

    def source(n: Expression, c: Expression, h: Expression, p: Expression, w: Expression) -> Expression:
        if tile.flat:
            pixel = padded(
                lambda: x[n, c, te.indexdiv(w, columns), te.indexmod(w, columns)],
                ((w, height * columns),),
                constant(0, x.dtype),
            )
        else:
            row, column = h - top, w * stride_columns + p - left
            pixel = padded(lambda: x[n, c, row, column], ((row, height), (column, columns)), constant(0, x.dtype))
        return pixel.astype(operand)

    padded_rows = (tile.rows - 1) * stride_rows + (kernel_rows - 1) * step_rows + 1
    image = te.compute((tile.batch, in_channels, padded_rows, phases, tile.width + reach), source, name="image")
    channel = te.reduce_axis((0, tile.group_channels), "channel")
    row = te.reduce_axis((0, kernel_rows), "row")
    column = te.reduce_axis((0, kernel_columns), "column")
    per_group = tile.channels // tile.groups

    def product(n: Expression, o: Expression, y: Expression, w: Expression) -> Expression:
        offset = column * step_columns
        pixel = image[
            n,
            te.indexdiv(o, per_group) * tile.group_channels + channel if tile.groups > 1 else channel,
            y * stride_rows + row * step_rows,
            te.indexmod(offset, stride_columns),
            w + te.indexdiv(offset, stride_columns),
        ]
        factor = weight[te.indexdiv(o, tile.tile_channels), channel, row, column, te.indexmod(o, tile.tile_channels)]
        return te.sum(pixel.astype(total) * factor.astype(total), axis=[channel, row, column])

    sums = te.compute((tile.batch, tile.channels, tile.rows, tile.width), product, name="sums")
    if tile.flat:
        return lambda n, o, y, w: sums[n, o, 0, y * call.output.shape[3] + w]
    return lambda n, o, y, w: sums[n, o, y, w]


def _float(call: Call, x: te.Tensor, weight: te.Tensor, *bias: te.Tensor) -> Reader:
    sums = _accumulate(call, x, weight, "float32", "float32")
    return (lambda n, o, y, w: sums(n, o, y, w) + bias[0][o]) if bias else sums


def _integer(call: Call, x: te.Tensor, weight: te.Tensor, bias: te.Tensor, *residual: te.Tensor) -> Reader:
    sums, operator = _accumulate(call, x, weight, "int16", "int32"), call.operator
    assert isinstance(operator, IntegerConvolution)

    def read(n: Expression, o: Expression, y: Expression, w: Expression) -> Expression:
        value = sums(n, o, y, w) + bias[o]
        if residual:
            value = value + rounding_shift(residual[0][n, o, y, w].astype("int32"), -operator.residual_shift)
        return requantize(value, operator.shift, operator.low, operator.high)

    return read


def _schedule(call: Call, schedule: s_tir.Schedule) -> None:
    tile = tiling(call)
    sums = schedule.get_sblock("sums")
    if tile.whole:
        n, o, y, x = schedule.get_loops(schedule.get_sblock(OUTPUT))
        outer, inner = _split(schedule, o, y, x, tile)
        schedule.reorder(n, *outer, *inner)
        _in_registers(schedule, inner)
        schedule.compute_at(sums, outer[-1], preserve_unit_loops=True)
        *inner_sums, channel, row, column = schedule.get_loops(sums)[-6:]
    else:
        n, o, y, x, channel, row, column = schedule.get_loops(sums)
        outer, inner_sums = _split(schedule, o, y, x, tile)
        schedule.reorder(n, *outer, *inner_sums, channel, row, column)
        copy = schedule.cache_write(sums, 0, "local")
        schedule.reverse_compute_at(copy, outer[-1], preserve_unit_loops=True)
        _in_registers(schedule, schedule.get_loops(copy)[-3:])
    schedule.reorder(channel, row, column, *inner_sums)
    _in_registers(schedule, inner_sums)
    if tile.kernel[1] <= _UNROLLED_KERNEL_WIDTH:
        schedule.unroll(column)
    schedule.decompose_reduction(sums, channel)


def _split(schedule: s_tir.Schedule, o: object, y: object, x: object, tile: Tiling) -> tuple[list, list]:
    """Outer and inner loops of the register tile."""
    pairs = [
        schedule.split(loop, [None, size])
        for loop, size in ((o, tile.tile_channels), (y, tile.tile_rows), (x, tile.tile_columns))
    ]
    return [outer for outer, _ in pairs], [inner for _, inner in pairs]


def _in_registers(schedule: s_tir.Schedule, loops: list) -> None:
    channels, rows, columns = loops
    schedule.unroll(channels)
    schedule.unroll(rows)
    schedule.vectorize(columns)


LOWERINGS = {
    Convolution: Lowering(Pattern.REDUCTION, _float, _pack_weights, _schedule),
    IntegerConvolution: Lowering(Pattern.REDUCTION, _integer, _pack_weights, _schedule),
}
