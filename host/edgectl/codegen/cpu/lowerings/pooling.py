"""Pooling: windows reduced down their columns first, then along the resulting rows."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
from tvm import s_tir, te

from edgectl.codegen.cpu.layouts import PLANES
from edgectl.codegen.cpu.lowering import (
    OUTPUT,
    Arrays,
    Call,
    Expression,
    Lowering,
    Pattern,
    Reader,
    as_operands,
    constant,
    keep,
    padded,
)
from edgectl.codegen.cpu.tasks import PARALLEL_ELEMENTS
from edgectl.operators.base import Padding
from edgectl.operators.integer import IntegerPoolSum, IntegerWindowSum
from edgectl.operators.pooling import AveragePool, GlobalPool, MaxPool

_Combine = Callable[..., Any]


def _windows(
    call: Call,
    x: te.Tensor,
    kernel: tuple[int, int],
    strides: tuple[int, int],
    padding: Padding,
    combine: _Combine,
    fill: Expression,
    dtype: str,
) -> Reader:
    """`combine` over windows of `x`, in `dtype`, with `fill` outside the image."""
    top, left, bottom, right = padding
    batch, channels, height, width = call.inputs[0].shape
    rows, columns = call.output.shape[2:]
    if call.block != PLANES:
        return _blocked_windows(call, x, kernel, strides, padding, combine, fill, dtype)
    image: Reader = x.__getitem__
    if any(padding):
        framed = te.compute(
            (batch, channels, height + top + bottom, width + left + right),
            lambda n, c, h, w: padded(lambda: x[n, c, h - top, w - left], ((h - top, height), (w - left, width)), fill),
            name="image",
        )
        image = framed.__getitem__
    row, column = te.reduce_axis((0, kernel[0]), "row"), te.reduce_axis((0, kernel[1]), "column")
    down = te.compute(
        (batch, channels, rows, width + left + right),
        lambda n, c, y, w: combine(image((n, c, y * strides[0] + row, w)).astype(dtype), axis=row),
        name="down",
    )
    along = te.compute(
        (batch, channels, rows, columns),
        lambda n, c, y, w: combine(down[n, c, y, w * strides[1] + column], axis=column),
        name="along",
    )
    return lambda n, c, y, w: along[n, c, y, w]


def _blocked_windows(
    call: Call,
    x: te.Tensor,
    kernel: tuple[int, int],
    strides: tuple[int, int],
    padding: Padding,
    combine: _Combine,
    fill: Expression,
    dtype: str,
) -> Reader:
    """The same where lanes are channels: each window at once."""
    block, (batch, channels, rows, columns) = call.block, call.output.shape
    height, width = call.inputs[0].shape[2:]
    row, column = te.reduce_axis((0, kernel[0]), "row"), te.reduce_axis((0, kernel[1]), "column")

    def window(n: Expression, b: Expression, y: Expression, w: Expression, lane: Expression) -> Expression:
        h, v = y * strides[0] + row - padding[0], w * strides[1] + column - padding[1]
        bounds = ((h, height), (v, width)) if any(padding) else ()
        pixel = padded(lambda: x[n, b * block + lane, h, v], bounds, fill) if bounds else x[n, b * block + lane, h, v]
        return combine(pixel.astype(dtype), axis=[row, column])

    windows = te.compute((batch, channels // block, rows, columns, block), window, name="windows")
    return lambda n, c, y, w: windows[n, te.indexdiv(c, block), y, w, te.indexmod(c, block)]


def _max_pool(call: Call, x: te.Tensor) -> Reader:
    operator, lowest = call.operator, te.min_value(x.dtype)
    assert isinstance(operator, MaxPool)
    return _windows(call, x, operator.kernel, operator.strides, operator.padding, te.max, lowest, x.dtype)


def _window_sum(call: Call, x: te.Tensor) -> Reader:
    operator, zero = call.operator, constant(0, x.dtype)
    assert isinstance(operator, IntegerWindowSum)
    return _windows(call, x, operator.kernel, operator.strides, operator.padding, te.sum, zero, "int32")


def _divisors(call: Call, arrays: Arrays) -> Arrays:
    """Adds how many pixels each window counts."""
    assert isinstance(call.operator, AveragePool)
    return arrays[0], call.operator.divisors(*call.inputs[0].shape[2:]).astype(np.float32)


def _average_pool(call: Call, x: te.Tensor, divisors: te.Tensor) -> Reader:
    operator, zero = call.operator, constant(0, x.dtype)
    assert isinstance(operator, AveragePool)
    sums = _windows(call, x, operator.kernel, operator.strides, operator.full_padding, te.sum, zero, x.dtype)
    return lambda n, c, y, w: sums(n, c, y, w) / divisors[y, w]


def _whole(call: Call, x: te.Tensor, combine: _Combine, dtype: str) -> Reader:
    """`combine` over all pixels."""
    height, width = call.inputs[0].shape[2:]
    return _windows(call, x, (height, width), (1, 1), (0, 0, 0, 0), combine, constant(0, x.dtype), dtype)


def _global_pool(call: Call, x: te.Tensor) -> Reader:
    assert isinstance(call.operator, GlobalPool)
    if call.operator.mode == "max":
        return _whole(call, x, te.max, x.dtype)
    sums, pixels = _whole(call, x, te.sum, x.dtype), call.inputs[0].shape[2] * call.inputs[0].shape[3]
    return lambda *indices: sums(*indices) / constant(pixels, x.dtype)


def _schedule(call: Call, schedule: s_tir.Schedule) -> None:
    """Channel by channel, so that the intermediate rows stay in the first-level cache."""
    if call.block != PLANES:
        _schedule_blocked(call, schedule)
        return
    channel = schedule.get_loops(schedule.get_sblock(OUTPUT))[1]
    along = schedule.get_sblock("along")
    schedule.compute_at(along, channel, preserve_unit_loops=True)
    down = schedule.get_sblock("down")
    schedule.compute_at(down, channel, preserve_unit_loops=True)
    *_, wide, row = schedule.get_loops(down)
    schedule.reorder(row, wide)
    if call.inputs[0].shape[3] > call.output.shape[3] > 1:  # a small window, not the whole row
        schedule.unroll(schedule.get_loops(along)[-1])
    if isinstance(call.operator, MaxPool | AveragePool | IntegerWindowSum) and any(call.operator.padding):
        schedule.compute_at(schedule.get_sblock("image"), channel)
    batches, channels, *_ = schedule.get_loops(schedule.get_sblock(OUTPUT))
    if prod(call.inputs[0].shape) >= PARALLEL_ELEMENTS:
        schedule.parallel(schedule.fuse(batches, channels))


def _schedule_blocked(call: Call, schedule: s_tir.Schedule) -> None:
    windows, output = schedule.get_sblock("windows"), schedule.get_sblock(OUTPUT)
    n, b, _, x, lane = schedule.get_loops(output)
    schedule.vectorize(lane)
    schedule.compute_at(windows, x, preserve_unit_loops=True)
    *_, lane, row, column = schedule.get_loops(windows)
    schedule.reorder(row, column, lane)
    schedule.vectorize(lane)
    if prod(call.inputs[0].shape) >= PARALLEL_ELEMENTS:
        schedule.parallel(schedule.fuse(n, b))
    schedule.decompose_reduction(windows, row)


LOWERINGS = {
    MaxPool: Lowering(Pattern.REDUCTION, _max_pool, keep, _schedule, block=as_operands),
    AveragePool: Lowering(Pattern.REDUCTION, _average_pool, _divisors, _schedule, block=as_operands),
    GlobalPool: Lowering(Pattern.REDUCTION, _global_pool, keep, _schedule),
    IntegerPoolSum: Lowering(Pattern.REDUCTION, lambda call, x: _whole(call, x, te.sum, "int32"), keep, _schedule),
    IntegerWindowSum: Lowering(Pattern.REDUCTION, _window_sum, keep, _schedule, block=as_operands),
}
