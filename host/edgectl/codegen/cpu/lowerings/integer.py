"""Integer elementwise operators and those between floating point and integers: bit-exact with `evaluate`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from tvm import tirx

from edgectl.codegen.cpu.lowering import (
    Arrays,
    Call,
    Expression,
    Lowering,
    Pattern,
    Prepare,
    Reader,
    along_channels,
    as_operands,
    clip,
    constant,
    keep,
    require_parameters,
    wide,
)
from edgectl.codegen.cpu.lowerings.exponential import nearest_even
from edgectl.operators.integer import IntegerAdd, IntegerAffine, IntegerExtremum, IntegerMultiply
from edgectl.operators.lookup import LOWEST, Lookup
from edgectl.operators.quantization import Dequantize, Quantize, Requantize


def rounding_shift(value: Expression, shift: int) -> Expression:
    """operators.quantization.rounding_shift of an int32 expression."""
    if shift > 0:
        return (value + constant(1 << (shift - 1), "int32")) >> constant(shift, "int32")
    return value << constant(-shift, "int32") if shift else value


def requantize(value: Expression, shift: int, low: int, high: int) -> Expression:
    """operators.quantization.requantize of an int32 expression."""
    return clip(rounding_shift(value, shift), low, high).astype("int8")


def _quantize(operator: Quantize, x: Expression, inverse: Expression, *offset: Expression) -> Expression:
    """Clipping before rounding gives the same integers, and keeps the product apart from the next addition: a fused
    multiply-add would round only once."""
    product = (x - offset[0] if offset else x) * inverse
    return nearest_even(clip(product, -127, 127)).astype("int8")


def _quantization(call: Call, arrays: Arrays) -> Arrays:
    """x -> x, inverses and, where there are any, offsets, shaped to broadcast over x."""
    assert isinstance(call.operator, Quantize)
    shape = (1, -1) + (1,) * (len(call.output.shape) - 2)
    numbers = [call.operator.inverses, *([call.operator.offsets] if call.operator.offsets else [])]
    return arrays[0], *(np.array(values, np.float32).reshape(shape) for values in numbers)


def _dequantize(operator: Dequantize, x: Expression) -> Expression:
    return x.astype("float32") * constant(operator.scale, "float32")


def _extremum(operator: IntegerExtremum, a: Expression, b: Expression) -> Expression:
    extremum = tirx.max if operator.function == "maximum" else tirx.min
    chosen = extremum(rounding_shift(wide(a), -operator.a_shift), rounding_shift(wide(b), -operator.b_shift))
    return requantize(chosen, operator.shift, operator.low, operator.high)


def _add(operator: IntegerAdd, a: Expression, b: Expression) -> Expression:
    total = rounding_shift(wide(a), -operator.a_shift) + rounding_shift(wide(b), -operator.b_shift)
    return requantize(total, operator.shift, operator.low, operator.high)


def _multiply(operator: IntegerMultiply, a: Expression, b: Expression) -> Expression:
    return requantize(wide(a) * wide(b), operator.shift, operator.low, operator.high)


def _lookup(call: Call, x: Reader, table: Reader) -> Reader:
    return lambda *indices: table(wide(x(*indices)) - constant(LOWEST, "int32"))


def _affine(operator: IntegerAffine, x: Expression, multiplier: Expression, offset: Expression) -> Expression:
    return requantize(wide(x) * multiplier + offset, operator.shift, operator.low, operator.high)


def _per_channel(call: Call, arrays: Arrays) -> Arrays:
    """Shapes (C) arrays to broadcast over NCHW."""
    require_parameters(call, arrays, (1, 2))
    return tuple(array if array is None else array.reshape(1, -1, 1, 1) for array in arrays)


def _elementwise(compute: Callable[..., Expression], prepare: Prepare = keep) -> Lowering:
    return Lowering(Pattern.ELEMENTWISE, compute, prepare, along_channels, block=as_operands)


LOWERINGS = {
    Quantize: _elementwise(_quantize, _quantization),
    Dequantize: _elementwise(_dequantize),
    Requantize: _elementwise(lambda operator, x: requantize(wide(x), operator.shift, operator.low, operator.high)),
    IntegerAdd: _elementwise(_add),
    IntegerExtremum: _elementwise(_extremum),
    IntegerMultiply: _elementwise(_multiply),
    IntegerAffine: _elementwise(_affine, _per_channel),
    Lookup: Lowering(Pattern.INJECTIVE, _lookup, keep, along_channels, block=as_operands),
}
