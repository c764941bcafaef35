"""Depthwise convolution: each channel with weights of its own, vectorised over channels, a row of pixels at a time."""

from __future__ import annotations

from math import prod

import numpy as np
from tvm import s_tir, te

from edgectl.codegen.cpu.layouts import PLANES, View, channel_block
from edgectl.codegen.cpu.lowering import OUTPUT, Arrays, Call, Expression, Reader, constant, padded
from edgectl.codegen.cpu.tasks import PARALLEL_WORK
from edgectl.operators.convolution import Convolution
from edgectl.operators.integer import IntegerConvolution

_PIXELS = 7


def applies(call: Call) -> bool:
    """Whether every group is one channel in and one out."""
    operator = call.operator
    assert isinstance(operator, Convolution | IntegerConvolution)
    return operator.groups > 1 and call.inputs[1].shape[:2] == (operator.groups, 1)


def _block(call: Call) -> int:
    """Channels are padded to whole blocks."""
    block = channel_block(call.output.shape[1])
    return 8 if block == PLANES else block


def pack_weights(call: Call, arrays: Arrays) -> Arrays:
    """(C, 1, KH, KW) -> (C/block, KH, KW, block); int8 as int16."""
    weight, block = arrays[1], _block(call)
    assert weight is not None
    channels, _, *kernel = weight.shape
    packed = np.pad(weight[:, 0], ((0, -channels % block), (0, 0), (0, 0)))
    packed = packed.reshape(-1, block, *kernel).transpose(0, 2, 3, 1)
    dtype = np.int16 if weight.dtype == np.int8 else weight.dtype
    return arrays[0], np.ascontiguousarray(packed, dtype), *arrays[2:]


def accumulate(call: Call, x: View, weight: View, total: str) -> Reader:
    """The sum of products as a reader over NCHW indices."""
    operator, block = call.operator, _block(call)
    assert isinstance(operator, Convolution | IntegerConvolution)
    (stride_rows, stride_columns), (top, left, bottom, right) = operator.strides, operator.padding
    (step_rows, step_columns) = operator.dilation
    batch, channels, height, width = call.inputs[0].shape
    kernel_rows, kernel_columns = call.inputs[1].shape[2:]
    rows, columns = call.output.shape[2:]
    operand = "int16" if total == "int32" else total
    blocks = -(-channels // block)

    def source(n: Expression, b: Expression, h: Expression, w: Expression, lane: Expression) -> Expression:
        bounds = [(h - top, height), (w - left, width)]
        if channels % block:
            bounds.append((b * block + lane, channels))
        pixel = padded(lambda: x[n, b * block + lane, h - top, w - left], bounds, constant(0, x.dtype))
        return pixel.astype(operand)

    image = te.compute((batch, blocks, height + top + bottom, width + left + right, block), source, name="image")
    row, column = te.reduce_axis((0, kernel_rows), "row"), te.reduce_axis((0, kernel_columns), "column")
    sums = te.compute(
        (batch, blocks, rows, columns, block),
        lambda n, b, y, w, lane: te.sum(
            image[n, b, y * stride_rows + row * step_rows, w * stride_columns + column * step_columns, lane].astype(
                total
            )
            * weight[b, row, column, lane].astype(total),
            axis=[row, column],
        ),
        name="sums",
    )
    return lambda n, c, y, w: sums[n, te.indexdiv(c, block), y, w, te.indexmod(c, block)]


def schedule(call: Call, schedule: s_tir.Schedule) -> None:
    """A task is a block of channels; its image stays in the nearest caches."""
    block, output, sums = _block(call), schedule.get_sblock(OUTPUT), schedule.get_sblock("sums")
    if call.block == PLANES:
        n, channel, y, x = schedule.get_loops(output)
        b, lane = schedule.split(channel, [None, block])
    else:
        n, b, y, x, lane = schedule.get_loops(output)
        schedule.vectorize(lane)
    task = schedule.fuse(n, b)
    schedule.compute_at(sums, task, preserve_unit_loops=True)
    schedule.compute_at(schedule.get_sblock("image"), task, preserve_unit_loops=True)
    schedule.vectorize(schedule.get_loops(schedule.get_sblock("image"))[-1])
    *_, y, x, lane, row, column = schedule.get_loops(sums)
    columns = call.output.shape[3]
    pixels = max(count for count in range(1, _PIXELS + 1) if columns % count == 0)
    wide, pixel = schedule.split(x, [None, pixels])
    schedule.reorder(y, wide, row, column, pixel, lane)
    copy = schedule.cache_write(sums, 0, "local")
    schedule.reverse_compute_at(copy, wide, preserve_unit_loops=True)
    *_, pixel_copy, lane_copy = schedule.get_loops(copy)
    schedule.unroll(pixel_copy)
    schedule.vectorize(lane_copy)
    schedule.unroll(pixel)
    schedule.vectorize(lane)
    if prod(call.output.shape) * prod(call.inputs[1].shape[2:]) >= PARALLEL_WORK:
        schedule.parallel(task)
    schedule.decompose_reduction(sums, row)
