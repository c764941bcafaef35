"""Elementwise operators in floating point."""

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
    along_channels,
    as_operands,
    bind,
    clip,
    constant,
    dtype_of,
    keep,
    require_parameters,
)
from edgectl.codegen.cpu.lowerings.exponential import error_function, exponential, hyperbolic_tangent
from edgectl.errors import CompileError
from edgectl.operators.activation import Clip, Erf, LeakyRelu, Relu, Sigmoid, Tanh
from edgectl.operators.batch_norm import BatchNorm
from edgectl.operators.elementwise import Binary, Scalar

_FUNCTIONS = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "divide": lambda a, b: a / b,
    "maximum": tirx.max,
    "minimum": tirx.min,
}


def _function(name: str, a: Expression, b: Expression) -> Expression:
    left, right = dtype_of(a), dtype_of(b)
    if left != right or (name == "divide" and not left.startswith("float")):
        raise CompileError(f"elementwise {name} of {left} and {right} is not supported; convert the operands first")
    return _FUNCTIONS[name](a, b)


def _scalar(operator: Scalar, x: Expression) -> Expression:
    value = constant(operator.value, dtype_of(x))
    return _function(operator.function, value, x) if operator.reverse else _function(operator.function, x, value)


def _leaky_relu(operator: LeakyRelu, x: Expression) -> Expression:
    zero, slope = constant(0, dtype_of(x)), constant(operator.slope, dtype_of(x))
    return bind(x, lambda v: tirx.Select(v > zero, v, v * slope))


def _sigmoid(operator: Sigmoid, x: Expression) -> Expression:
    one = constant(1, dtype_of(x))
    return one / (one + exponential(-x))


def _fold_statistics(call: Call, arrays: Arrays) -> Arrays:
    """x and four statistics -> x, scale, offset, the latter shaped to broadcast over x."""
    require_parameters(call, arrays, range(1, 5))
    assert isinstance(call.operator, BatchNorm)
    gamma, beta, mean, variance = (array for array in arrays[1:] if array is not None)
    shape = (1, -1) + (1,) * (len(call.output.shape) - 2)
    scale, offset = call.operator.affine(gamma, beta, mean, variance)
    return arrays[0], scale.astype(np.float32).reshape(shape), offset.astype(np.float32).reshape(shape)


def _elementwise(compute: Callable[..., Expression], prepare: Prepare = keep, repeats: bool = False) -> Lowering:
    return Lowering(Pattern.ELEMENTWISE, compute, prepare, along_channels, repeats, as_operands)


LOWERINGS = {
    Relu: _elementwise(lambda operator, x: tirx.max(x, constant(0, dtype_of(x)))),
    Clip: _elementwise(lambda operator, x: clip(x, operator.low, operator.high)),
    LeakyRelu: _elementwise(_leaky_relu, repeats=True),
    Sigmoid: _elementwise(_sigmoid, repeats=True),
    Tanh: _elementwise(lambda operator, x: hyperbolic_tangent(x), repeats=True),
    Erf: _elementwise(lambda operator, x: error_function(x), repeats=True),
    BatchNorm: _elementwise(lambda operator, x, scale, offset: x * scale + offset, _fold_statistics),
    Binary: _elementwise(lambda operator, a, b: _function(operator.function, a, b)),
    Scalar: _elementwise(_scalar),
}
