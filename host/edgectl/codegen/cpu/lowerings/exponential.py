"""exp, tanh, erf and log as float32 arithmetic: vectorises everywhere and needs no libm. Softmax is built on them."""

from __future__ import annotations

from typing import Any

from tvm import te, tirx

from edgectl.codegen.cpu.lowering import (
    Call,
    Expression,
    Lowering,
    Pattern,
    Reader,
    bind,
    clip,
    constant,
    in_order,
    keep,
)
from edgectl.operators.activation import Softmax

# Polynomials and splitting of ln 2: the Cephes library's expf and tanhf (S. Moshier), relative error below 2e-7.
_EXP = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
_TANH = (-5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1)
_TANH_POLYNOMIAL_BELOW = 0.625
_ERF = (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)
_ERF_SCALE = 0.3275911
"""Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26: absolute error below 1.5e-7."""
_LN2 = 0.69314718055994531
_SQRT_HALF_PATTERN = 0x3F3504F3
"""The bits of the float32 number sqrt(1/2)."""
_LOG2_E = 1.44269504088896341
_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440e-4
_LOWEST, _HIGHEST = -87.3, 88.3
"""Where exp(x) stays a normal float32."""
_ROUNDER = 12582912.0
"""1.5 * 2**23: float32 numbers around it are the integers, so adding it rounds."""
_ROUNDER_PATTERN = 0x4B400000


def _horner(x: Expression, coefficients: tuple[float, ...]) -> Expression:
    result = constant(coefficients[0], "float32")
    for coefficient in coefficients[1:]:
        result = result * x + constant(coefficient, "float32")
    return result


def nearest_even(x: Expression) -> Expression:
    """float32 `x` (below 2**22 in magnitude) rounded to int32, ties to even, without a library call.

    The sum's last bit counts ones, so its pattern differs from the rounder's by the integer.
    """
    pattern = tirx.reinterpret("int32", x + constant(_ROUNDER, "float32"))
    return pattern - constant(_ROUNDER_PATTERN, "int32")


def exponential(x: Expression) -> Expression:
    """exp(x), saturating at the ends of float32's normal range."""

    def reduced(v: Expression) -> Expression:
        return bind(nearest_even(v * constant(_LOG2_E, "float32")), lambda n: scaled(v, n))

    def scaled(v: Expression, n: Expression) -> Expression:
        power = tirx.reinterpret("float32", (n + constant(127, "int32")) << constant(23, "int32"))
        whole = n.astype("float32")
        rest = (v - whole * constant(_LN2_HIGH, "float32")) - whole * constant(_LN2_LOW, "float32")
        return bind(rest, lambda r: (_horner(r, _EXP) * r * r + r + constant(1, "float32")) * power)

    return bind(clip(x, _LOWEST, _HIGHEST), reduced)


def hyperbolic_tangent(x: Expression) -> Expression:
    def pieces(v: Expression) -> Expression:
        one, two = constant(1, "float32"), constant(2, "float32")
        small = bind(v * v, lambda square: v + v * square * _horner(square, _TANH))
        large = one - two / (exponential(v * two) + one)
        return tirx.Select(te.abs(v) < constant(_TANH_POLYNOMIAL_BELOW, "float32"), small, large)

    return bind(x, pieces)


def error_function(x: Expression) -> Expression:
    """erf(x)."""

    def magnitude(z: Expression) -> Expression:
        one = constant(1, "float32")
        tail = bind(one / (one + constant(_ERF_SCALE, "float32") * z), lambda t: _horner(t, _ERF) * t)
        return one - tail * exponential(-(z * z))

    def signed(v: Expression) -> Expression:
        return bind(magnitude(te.abs(v)), lambda m: tirx.Select(v < constant(0, "float32"), -m, m))

    return bind(x, signed)


def logarithm(x: Expression) -> Expression:
    """ln(x) of positive normal numbers: x = 2**n * m, m in sqrt(1/2)..sqrt(2), gives n ln 2 + 2 artanh((m-1)/(m+1))."""

    def split(pattern: Expression) -> Expression:
        shift = constant(23, "int32")
        return bind((pattern - constant(_SQRT_HALF_PATTERN, "int32")) >> shift, lambda n: series(pattern, n, shift))

    def series(pattern: Expression, n: Expression, shift: Expression) -> Expression:
        one = constant(1, "float32")
        m = tirx.reinterpret("float32", pattern - (n << shift))
        artanh = bind(
            bind(m, lambda v: (v - one) / (v + one)),
            lambda u: bind(u * u, lambda square: u * _horner(square, (1 / 9, 1 / 7, 1 / 5, 1 / 3, 1.0))),
        )
        return n.astype("float32") * constant(_LN2, "float32") + constant(2, "float32") * artanh

    return bind(tirx.reinterpret("int32", x), split)


def _softmax(call: Call, x: te.Tensor) -> Reader:
    assert isinstance(call.operator, Softmax)
    shape = call.output.shape
    axis = call.operator.axis % len(shape)
    others = tuple(extent for position, extent in enumerate(shape) if position != axis)

    def whole(indices: tuple[Any, ...], along: Any) -> tuple[Any, ...]:
        return (*indices[:axis], along, *indices[axis:])

    def without(indices: tuple[Any, ...]) -> tuple[Any, ...]:
        return (*indices[:axis], *indices[axis + 1 :])

    first, second = te.reduce_axis((0, shape[axis]), "first"), te.reduce_axis((0, shape[axis]), "second")
    highest = te.compute(others, lambda *i: te.max(x[whole(i, first)], axis=first), name="highest")
    exponentials = te.compute(shape, lambda *i: exponential(x[i] - highest[without(i)]), name="exponentials")
    total = te.compute(others, lambda *i: te.sum(exponentials[whole(i, second)], axis=second), name="total")
    return lambda *i: exponentials[i] / total[without(i)]


LOWERINGS = {Softmax: Lowering(Pattern.REDUCTION, _softmax, keep, in_order)}
