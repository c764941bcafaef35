"""Local response normalisation: sums of squares over neighbouring channels, then a power of them."""

from __future__ import annotations

from tvm import te

from edgectl.codegen.cpu.lowering import Call, Expression, Lowering, Pattern, Reader, constant, in_order, keep, padded
from edgectl.codegen.cpu.lowerings.exponential import exponential, logarithm
from edgectl.operators.local_response import LocalResponseNorm


def _local_response_norm(call: Call, x: te.Tensor) -> Reader:
    operator = call.operator
    assert isinstance(operator, LocalResponseNorm)
    shape, zero = call.output.shape, constant(0, x.dtype)
    neighbour = te.reduce_axis((0, operator.size), "neighbour")

    def square(n: Expression, c: Expression, h: Expression, w: Expression) -> Expression:
        other = c + neighbour - operator.size // 2
        value = padded(lambda: x[n, other, h, w], ((other, shape[1]),), zero)
        return te.sum(value * value, axis=neighbour)

    sums = te.compute(shape, square, name="sums")
    bias, share = constant(operator.bias, x.dtype), constant(operator.alpha / operator.size, x.dtype)
    power = constant(-operator.beta, x.dtype)
    return lambda *i: x[i] * exponential(power * logarithm(bias + share * sums[i]))


LOWERINGS = {LocalResponseNorm: Lowering(Pattern.REDUCTION, _local_response_norm, keep, in_order)}
