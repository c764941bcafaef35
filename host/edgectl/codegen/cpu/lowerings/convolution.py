"""Direct convolution, in integers and in floating point, vectorised over output channels.

Output channels are computed in blocks. A tile of (pixels of a row, channels of a block) stays in registers over the
whole reduction; each step loads a pixel's channel, gives it to all lanes and multiplies it with as many output
channels. Weights are packed at compile time in the order in which this reads them. Where the image needs padding or
int8 needs widening, the rows that a task reads are copied first.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
from tvm import s_tir, te

from edgectl.codegen.cpu.layouts import PLANES, View, channel_block
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
from edgectl.codegen.cpu.lowerings import depthwise
from edgectl.codegen.cpu.lowerings.integer import requantize, rounding_shift
from edgectl.codegen.cpu.pairs import dot_pairs, has_pairs, pair, pairs_of
from edgectl.codegen.cpu.tasks import PARALLEL_WORK, row_tasks
from edgectl.operators.base import Operator, TensorType
from edgectl.operators.convolution import Convolution
from edgectl.operators.integer import IntegerConvolution

_LATENCY = 8
"""Accumulators that hide the latency of a multiply-add where two are issued per cycle."""
_SHARED_IMAGE_BYTES = 1 << 18
"""A copy of the image up to this size stays in the second-level cache while every output channel reads it."""


@dataclass(frozen=True)
class Tiling:
    """A convolution's extents and the register tile that computes it.

    `block` output channels (padded to whole blocks) are computed for `pixels` of a row, `vector` lanes at a time.
    Input channels of a group are read in blocks of `depth`, of which `read` exist (the rest makes up a pair).
    `width` is the accumulated width, the output's rounded up to whole tiles. `direct`: pixels are read where they are.
    `rows_per_task`: rows that one task computes for all channels; 0 where tasks are blocks of channels.
    """

    block: int
    blocks: int
    depth: int
    read: int
    depth_blocks: int
    pixels: int
    vectors: int
    vector: int
    width: int
    pairs: bool
    direct: bool
    rows_per_task: int


def tiling(call: Call) -> Tiling:
    operator = attributes(call.operator)
    _, channels, rows, columns = call.output.shape
    group_channels, kernel_rows, kernel_columns = call.inputs[1].shape[1:]
    integer = call.inputs[1].dtype == "int8"
    pairs = integer and has_pairs(call.target)
    block = output_block(call.output, operator.groups)
    read = channel_block(group_channels)
    read = group_channels if read == PLANES else read
    depth = read + read % 2 if pairs else read
    direct = not integer and not any(operator.padding)
    pixels, vectors = _tile(columns, block, call, pairs, whole=direct)
    if direct:
        free = _tile(columns, block, call, pairs, whole=False)
        direct = _cost(columns, pixels, vectors) <= 1.3 * _cost(columns, *free)
        pixels, vectors = (pixels, vectors) if direct else free
    in_rows = (rows - 1) * operator.strides[0] + kernel_rows
    in_columns = (columns - 1) * operator.strides[1] + kernel_columns
    image_bytes = call.inputs[0].shape[1] * in_rows * in_columns * (2 if integer else 4)
    weight_bytes = prod(call.inputs[1].shape) * (2 if integer else 4)
    blocks = -(-channels // block)
    by_rows = blocks == 1 or image_bytes > max(_SHARED_IMAGE_BYTES, weight_bytes / 4)
    return Tiling(
        block,
        blocks,
        depth,
        read,
        group_channels // read,
        pixels,
        vectors,
        min(block, call.target.lanes),
        -(-columns // pixels) * pixels,
        pairs,
        direct,
        row_tasks(rows, image_bytes) if by_rows else 0,
    )


def output_block(output: TensorType, groups: int) -> int:
    """Without groups, channels are padded to whole blocks; a block never spans two groups."""
    block = channel_block(output.shape[1] // groups)
    if block == PLANES and groups == 1:
        return 16 if output.shape[1] > 8 else 8
    return block


def _tile(columns: int, block: int, call: Call, pairs: bool, whole: bool) -> tuple[int, int]:
    """(pixels, vectors) of the cheapest tile that fits the registers; with `whole`, tiles divide the columns."""
    lanes, registers = min(block, call.target.lanes), call.target.vector_registers
    fitting = [
        (pixels, vectors)
        for vectors in (1, 2, 4)
        if block // lanes % vectors == 0
        for pixels in range(1, min(columns, registers) + 1)
        if pixels * vectors + vectors + 1 + pairs <= registers and (not whole or columns % pixels == 0)
    ]
    return min(fitting, key=lambda tile: (_cost(columns, *tile), -tile[1]))


def _cost(columns: int, pixels: int, vectors: int) -> float:
    """Multiply-adds or loads, whichever are more, per column and vector."""
    return -(-columns // pixels) * max(pixels * vectors, pixels + vectors, _LATENCY) / (columns * vectors)


def attributes(operator: Operator) -> Convolution | IntegerConvolution:
    assert isinstance(operator, Convolution | IntegerConvolution)
    return operator


def _pack_weights(call: Call, arrays: Arrays) -> Arrays:
    """(O, C, KH, KW) -> (O/block, C/depth, KH, KW, depth, block); int8 as int16, or (..., depth/2, block) pairs."""
    require_parameters(call, arrays, (1, 2))
    if depthwise.applies(call):
        return depthwise.pack_weights(call, arrays)
    weight, tile = arrays[1], tiling(call)
    assert weight is not None
    channels, _, *kernel = weight.shape
    packed = np.pad(weight, ((0, tile.blocks * tile.block - channels), (0, 0), (0, 0), (0, 0)))
    packed = packed.reshape(tile.blocks, tile.block, tile.depth_blocks, tile.read, *kernel).transpose(0, 2, 4, 5, 3, 1)
    if tile.pairs:
        packed = np.pad(packed, ((0, 0),) * 4 + ((0, tile.depth - tile.read), (0, 0)))
        packed = packed.reshape(*packed.shape[:4], tile.depth // 2, 2, tile.block).swapaxes(-1, -2)
        return arrays[0], pairs_of(packed), *arrays[2:]
    dtype = np.int16 if weight.dtype == np.int8 else weight.dtype
    return arrays[0], np.ascontiguousarray(packed, dtype), *arrays[2:]


def _accumulate(call: Call, x: View, weight: View, operand: str, total: str) -> Reader:
    """The sum of products as a reader over NCHW indices; operands are widened to `operand`, summed in `total`."""
    operator, tile = attributes(call.operator), tiling(call)
    (stride_rows, stride_columns), (top, left, _, _) = operator.strides, operator.padding
    (step_rows, step_columns) = operator.dilation
    batch, channels, height, columns = call.inputs[0].shape
    kernel_rows, kernel_columns = call.inputs[1].shape[2:]
    rows = call.output.shape[2]
    # A kernel of one pixel needs only the pixels at its strides.
    row_step = 1 if kernel_rows == 1 and not tile.direct else stride_rows
    column_step = 1 if kernel_columns == 1 and not tile.direct else stride_columns

    def pixel(n: Expression, block: Expression, h: Expression, w: Expression, c: Expression) -> Expression:
        row = h * (stride_rows // row_step) - top
        column = w * (stride_columns // column_step) - left
        bounds = [(row, height), (column, columns), *([(c, tile.read)] if tile.read < tile.depth else [])]
        return padded(lambda: x[n, block * tile.read + c, row, column], bounds, constant(0, x.dtype)).astype(operand)

    def source(n: Expression, block: Expression, h: Expression, w: Expression, c: Expression) -> Expression:
        if not tile.pairs:
            return pixel(n, block, h, w, c)
        return pair(pixel(n, block, h, w, c * 2), pixel(n, block, h, w, c * 2 + 1))

    depth_steps = tile.depth // 2 if tile.pairs else tile.depth
    if tile.direct:
        image = lambda n, block, h, w, c: x[n, block * tile.read + c, h, w]  # noqa: E731
    else:
        extents = (
            (rows - 1) * row_step + (kernel_rows - 1) * step_rows + 1,
            (tile.width - 1) * column_step + (kernel_columns - 1) * step_columns + 1,
        )
        copied = te.compute((batch, channels // tile.read, *extents, depth_steps), source, name="image")
        image = lambda *indices: copied[indices]  # noqa: E731
    block = te.reduce_axis((0, tile.depth_blocks), "block")
    row = te.reduce_axis((0, kernel_rows), "row")
    column = te.reduce_axis((0, kernel_columns), "column")
    depth = te.reduce_axis((0, depth_steps), "depth")
    blocks_per_group = tile.blocks // operator.groups

    def product(n: Expression, o: Expression, y: Expression, w: Expression, lane: Expression) -> Expression:
        first = te.indexdiv(o, blocks_per_group) * tile.depth_blocks if operator.groups > 1 else 0
        value = image(n, first + block, y * row_step + row * step_rows, w * column_step + column * step_columns, depth)
        factor = weight[o, block, row, column, depth, lane]
        step = dot_pairs(value, factor) if tile.pairs else value.astype(total) * factor.astype(total)
        return te.sum(step, axis=[block, row, column, depth])

    sums = te.compute((batch, tile.blocks, rows, tile.width, tile.block), product, name="sums")
    return lambda n, o, y, w: sums[n, te.indexdiv(o, tile.block), y, w, te.indexmod(o, tile.block)]


def _float(call: Call, x: View, weight: View, *bias: View) -> Reader:
    if depthwise.applies(call):
        sums = depthwise.accumulate(call, x, weight, "float32")
    else:
        sums = _accumulate(call, x, weight, "float32", "float32")
    return (lambda n, o, y, w: sums(n, o, y, w) + bias[0][o]) if bias else sums


def _integer(call: Call, x: View, weight: View, bias: View, *residual: View) -> Reader:
    operator = call.operator
    assert isinstance(operator, IntegerConvolution)
    if depthwise.applies(call):
        sums = depthwise.accumulate(call, x, weight, "int32")
    else:
        sums = _accumulate(call, x, weight, "int16", "int32")

    def read(n: Expression, o: Expression, y: Expression, w: Expression) -> Expression:
        value = sums(n, o, y, w) + bias[o]
        if residual:
            value = value + rounding_shift(residual[0][n, o, y, w].astype("int32"), -operator.residual_shift)
        return requantize(value, operator.shift, operator.low, operator.high)

    return read


def _schedule(call: Call, schedule: s_tir.Schedule) -> None:
    if depthwise.applies(call):
        depthwise.schedule(call, schedule)
        return
    tile = tiling(call)
    sums = schedule.get_sblock("sums")
    task, block = _tasks(call, schedule, tile)
    schedule.compute_at(sums, block, preserve_unit_loops=True)
    *_, y, x, lane, blocks, row, column, depth = schedule.get_loops(sums)
    wide, pixel = schedule.split(x, [None, tile.pixels], disable_predication=True)
    half, vectors, lanes = schedule.split(lane, [None, tile.vectors, tile.vector])
    schedule.reorder(half, y, wide, blocks, row, column, depth, pixel, vectors, lanes)
    copy = schedule.cache_write(sums, 0, "local")
    schedule.reverse_compute_at(copy, wide, preserve_unit_loops=True)
    _in_registers(schedule, schedule.get_loops(copy)[-2:], tile)
    if not tile.direct:
        image = schedule.get_sblock("image")
        if tile.rows_per_task:
            schedule.compute_at(image, task)
        if tile.depth in (4, 8, 16):
            schedule.vectorize(schedule.get_loops(image)[-1])
    schedule.unroll(pixel)
    schedule.unroll(vectors)
    schedule.vectorize(lanes)
    schedule.decompose_reduction(sums, blocks)


def _tasks(call: Call, schedule: s_tir.Schedule, tile: Tiling) -> tuple:
    """Orders the result's loops. Gives that of tasks and that of blocks of channels."""
    output = schedule.get_sblock(OUTPUT)
    if call.block == PLANES:
        n, channel, y, x = schedule.get_loops(output)
        o, lane = schedule.split(channel, [None, tile.block])
    else:
        n, o, y, x, lane = schedule.get_loops(output)
    work = prod(call.output.shape) * prod(call.inputs[1].shape[1:])
    if tile.rows_per_task:
        chunk, y = schedule.split(y, [None, tile.rows_per_task])
        schedule.reorder(n, chunk, o, *((lane, y, x) if call.block == PLANES else (y, x, lane)))
        task, block = schedule.fuse(n, chunk), o
    else:
        task = block = schedule.fuse(n, o)
        if call.block == PLANES:
            schedule.reorder(lane, y, x)
    if call.block != PLANES:
        schedule.vectorize(lane)
    if work >= PARALLEL_WORK:
        schedule.parallel(task)
    return task, block


def _in_registers(schedule: s_tir.Schedule, loops: list, tile: Tiling) -> None:
    pixels, lanes = loops
    vectors, lanes = schedule.split(lanes, [tile.vectors, tile.vector])
    schedule.unroll(pixels)
    schedule.unroll(vectors)
    schedule.vectorize(lanes)


def _block(output: TensorType, inputs: object, blocks: object, operator: Operator) -> int:
    groups = attributes(operator).groups
    return channel_block(output.shape[1] if groups == output.shape[1] else output.shape[1] // groups)


LOWERINGS = {
    Convolution: Lowering(Pattern.REDUCTION, _float, _pack_weights, _schedule, block=_block),
    IntegerConvolution: Lowering(Pattern.REDUCTION, _integer, _pack_weights, _schedule, block=_block),
}
