"""int32 tensors from and to packed planes of their bytes."""

from __future__ import annotations

from edgectl.codegen.cpu.lowering import Call, Expression, Lowering, Pattern, Reader, constant, in_order, keep, wide
from edgectl.codegen.cpu.lowerings.layout import from_tiles, tiles
from edgectl.operators.planes import PLANES, JoinPlanes, SplitPlanes


def _split(call: Call, x: Reader) -> Reader:
    assert isinstance(call.operator, SplitPlanes)
    value = tiles(x, call.inputs[0].shape, call.operator.batch, call.operator.block, "int32")
    return lambda plane, *indices: (value(*indices) >> (plane * 8)).astype("int8")


def _join(call: Call, x: Reader) -> Reader:
    def value(*indices: Expression) -> Expression:
        total = constant(0, "int32")
        for plane in range(PLANES):
            total = total | (wide(x(plane, *indices).astype("uint8")) << constant(8 * plane, "int32"))
        return total

    return from_tiles(value, *call.inputs[0].shape[5:])


LOWERINGS = {
    SplitPlanes: Lowering(Pattern.INJECTIVE, _split, keep, in_order),
    JoinPlanes: Lowering(Pattern.INJECTIVE, _join, keep, in_order, repeats=True),
}
