"""Operators that move values: an output element is one input element, or padding."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from tvm import te

from edgectl.codegen.cpu.lowering import (
    Call,
    Expression,
    Lowering,
    Pattern,
    Reader,
    along_channels,
    as_operands,
    constant,
    in_order,
    keep,
    padded,
)
from edgectl.operators.layout import Pack, Unpack
from edgectl.operators.shape import Concatenate, Flatten, Pad, Reshape, Slice, Transpose, Upsample


def _reshape(call: Call, x: Reader) -> Reader:
    """The batch axis stays first, so only the other axes are renumbered."""
    source, result = call.inputs[0].shape[1:], call.output.shape[1:]

    def read(n: Expression, *indices: Expression) -> Expression:
        flat = _flat(indices, result)
        return x(n, *_unflat(flat, source))

    return read


def _flat(indices: Sequence[Expression], shape: Sequence[int]) -> Expression:
    position = constant(0, "int32")
    for index, extent in zip(indices, shape, strict=True):
        position = position * extent + index
    return position


def _unflat(position: Expression, shape: Sequence[int]) -> list[Expression]:
    inner = [int(np.prod(shape[axis + 1 :], dtype=np.int64)) for axis in range(len(shape))]
    return [te.indexmod(te.indexdiv(position, below), extent) for below, extent in zip(inner, shape, strict=True)]


def _transpose(call: Call, x: Reader) -> Reader:
    axes = call.operator.attributes()["axes"]
    return lambda *indices: x(*(indices[axes.index(axis)] for axis in range(len(axes))))


def _upsample(call: Call, x: Reader) -> Reader:
    rows, columns = call.operator.attributes()["scale"]
    return lambda n, c, h, w: x(n, c, te.indexdiv(h, rows), te.indexdiv(w, columns))


def _concatenate(call: Call, *parts: Reader) -> Reader:
    axis = call.operator.attributes()["axis"] % len(call.output.shape)
    extents = [part.shape[axis] for part in call.inputs]
    starts = [sum(extents[:position]) for position in range(len(parts))]

    def read(*indices: Expression) -> Expression:
        def shifted(position: int) -> Expression:
            return parts[position](*indices[:axis], indices[axis] - starts[position], *indices[axis + 1 :])

        value = shifted(len(parts) - 1)
        for position in reversed(range(len(parts) - 1)):
            value = te.if_then_else(indices[axis] < starts[position + 1], shifted(position), value)
        return value

    return read


def _slice(call: Call, x: Reader) -> Reader:
    assert isinstance(call.operator, Slice)
    axis, start, step = call.operator.axis, call.operator.start, call.operator.step
    return lambda *indices: x(*indices[:axis], indices[axis] * step + start, *indices[axis + 1 :])


def _pad(call: Call, x: Reader) -> Reader:
    assert isinstance(call.operator, Pad)
    top, left, _, _ = call.operator.padding
    height, width = call.inputs[0].shape[2:]
    fill = constant(call.operator.value, call.output.dtype)

    def read(n: Expression, c: Expression, row: Expression, column: Expression) -> Expression:
        bounds = ((row - top, height), (column - left, width))
        return padded(lambda: x(n, c, row - top, column - left), bounds, fill)

    return read


def tiles(x: Reader, shape: Sequence[int], batch: int, block: int, dtype: str) -> Reader:
    """operators.layout.to_tiles of a tensor of `shape`."""
    channels = shape[1]

    def read(*indices: Expression) -> Expression:
        outer, blocks, row, column, sample, lane = indices
        channel, image = blocks * block + lane, outer * batch + sample
        pixel = (row, column) if len(shape) == 4 else ()
        if channels % block == 0:
            return x(image, channel, *pixel)
        return padded(lambda: x(image, channel, *pixel), ((channel, channels),), constant(0, dtype))

    return read


def from_tiles(x: Reader, batch: int, block: int) -> Reader:
    """operators.layout.from_tiles of tiles (batch, block)."""

    def read(n: Expression, c: Expression, *pixel: Expression) -> Expression:
        row, column = pixel or (0, 0)
        return x(
            te.indexdiv(n, batch), te.indexdiv(c, block), row, column, te.indexmod(n, batch), te.indexmod(c, block)
        )

    return read


def _pack(call: Call, x: Reader) -> Reader:
    assert isinstance(call.operator, Pack)
    return tiles(x, call.inputs[0].shape, call.operator.batch, call.operator.block, call.output.dtype)


def _unpack(call: Call, x: Reader) -> Reader:
    return from_tiles(x, *call.inputs[0].shape[4:])


def _injective(compute: Callable[..., Reader]) -> Lowering:
    return Lowering(Pattern.INJECTIVE, compute, keep, in_order)


LOWERINGS = {
    Flatten: _injective(_reshape),
    Reshape: _injective(_reshape),
    Transpose: _injective(_transpose),
    Concatenate: Lowering(Pattern.INJECTIVE, _concatenate, keep, along_channels, block=as_operands),
    Slice: _injective(_slice),
    Pad: _injective(_pad),
    Upsample: _injective(_upsample),
    Pack: _injective(_pack),
    Unpack: _injective(_unpack),
}
