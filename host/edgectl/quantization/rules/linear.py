"""Convolutions, with the residual and the ReLU that follow, and dense layers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edgectl.graph import Node
from edgectl.operators.convolution import Convolution
from edgectl.operators.elementwise import Binary
from edgectl.operators.integer import IntegerConvolution, IntegerDense
from edgectl.quantization.builder import MAXIMUM_SHIFT, MAXIMUM_SUM_SHIFT, Form, IntegerModelBuilder, upper_bound
from edgectl.quantization.fitting import LARGEST_BIAS, LinearLayer
from edgectl.quantization.scales import best_scale, power_of_two_ratio, quantized

PRODUCTS = 2**29
"""How large a sum of products may become. A bias is at most twice that, a residual 2**22: together they fit int32."""


def convolution(builder: IntegerModelBuilder, node: Node) -> bool:
    """Convolution [+ residual] [ReLU]: one IntegerConvolution."""
    operator = node.operator
    assert isinstance(operator, Convolution)
    x = builder.as_int8(node.inputs[0])
    weight = _absorbed(builder.model.parameters[node.inputs[1]], x.ratios, operator.groups)
    total = node.name
    add = builder.only_reader(total)
    other = _residual(builder, add, total) if add is not None else None
    residual = None
    if add is not None and other is not None:
        form = builder.as_int8(other)
        scales = _scales(builder, node, weight, x.scale, (total, add.name), builder.clip_after(add.name)[0], form.scale)
        ratio = power_of_two_ratio(form.scale, scales.accumulator)
        if ratio is not None and abs(ratio) <= MAXIMUM_SHIFT:
            total, residual = add.name, (form, ratio)
    value, bound = builder.clip_after(total)
    if residual is None:
        scales = _scales(builder, node, weight, x.scale, (total,), value)
    integer = IntegerConvolution(
        operator.strides,
        operator.padding,
        operator.dilation,
        operator.groups,
        scales.shift,
        low=-127 if bound is None else 0,
        high=upper_bound(bound, scales.out),
        residual_shift=residual[1] if residual else 0,
    )
    inputs = [x.name, *_constants(builder, node, total, weight, x.scale, scales.accumulator)]
    if residual is not None:
        inputs.append(residual[0].name)
    builder.int8[value] = Form(builder.emit(value, integer, tuple(inputs), node.label), scales.out)
    builder.fuse(node.name, value)
    return True


def dense(builder: IntegerModelBuilder, node: Node) -> bool:
    """Dense [ReLU]: an int32 accumulator, and int8 where a ReLU follows."""
    x = builder.as_int8(node.inputs[0])
    weight = _absorbed(builder.model.parameters[node.inputs[1]], x.ratios)
    finest = float(np.abs(weight).max()) / 127 * x.scale or 1.0
    scale = _safe(_reaching(builder, finest, MAXIMUM_SUM_SHIFT, node.name), weight, x.scale)
    name = builder.derived(node.name, "int32")
    inputs = (x.name, *_constants(builder, node, node.name, weight, x.scale, scale))
    builder.emit(name, IntegerDense(), inputs, node.label)
    value, bound = builder.clip_after(node.name)
    if bound is None:
        builder.accumulated(value, Form(name, scale))
    else:
        builder.int8[value] = builder.requantize(value, Form(name, scale), bound)
        builder.fuse(node.name, value)
    return True


def _residual(builder: IntegerModelBuilder, add: Node, value: str) -> str | None:
    """What `add` adds to `value`, if that is ready and of the same type."""
    if not isinstance(add.operator, Binary) or add.operator.function != "add":
        return None
    other = add.inputs[1] if add.inputs[0] == value else add.inputs[0]
    fits = other != value and not builder.is_constant(other) and builder.types[other] == builder.types[value]
    return other if builder.is_ready(other) and fits else None


def _absorbed(weight: np.ndarray, ratios: np.ndarray | None, groups: int = 1) -> np.ndarray:
    """`weight` (O, C/groups, ...) for an input whose units are worth `ratios` (C) times as much."""
    if ratios is None:
        return weight
    by_group = weight.astype(np.float64).reshape(groups, len(weight) // groups, weight.shape[1], -1)
    return (by_group * ratios.reshape(groups, 1, -1, 1)).reshape(weight.shape)


@dataclass(frozen=True)
class _Scales:
    """What one unit of the accumulator and of the result is worth; result = accumulator * 2**shift."""

    accumulator: float
    out: float
    shift: int


def _scales(
    builder: IntegerModelBuilder,
    node: Node,
    weight: np.ndarray,
    x_scale: float,
    sums: tuple[str, ...],
    value: str,
    unit: float | None = None,
) -> _Scales:
    """For a convolution that adds up to `sums` and narrows to `value`, whose scale is a power of two times `unit`.

    The result's scale comes first, as nothing makes up for a bad one; the weights' is a power of two from it.
    """
    out = builder.chosen_scale(value, unit)
    unit = out / x_scale
    exponent = power_of_two_ratio(best_scale(weight, float(np.abs(weight).max()), unit), unit)
    assert exponent is not None
    accumulator = _safe(_reaching(builder, out * 2.0**exponent, MAXIMUM_SHIFT, *sums), weight, x_scale)
    if builder.largest(node.inputs[0]) == 0:
        # Weights of what never was anything but 0 must not make the bias coarse.
        accumulator = min(accumulator, out)
    shift = power_of_two_ratio(out, accumulator)
    assert shift is not None
    # Left shifts end where the hardware's do: a finer scale would show nothing that the accumulator holds.
    shift = max(shift, -MAXIMUM_SHIFT)
    if shift > MAXIMUM_SHIFT:
        accumulator, shift = accumulator * 2.0 ** (shift - MAXIMUM_SHIFT), MAXIMUM_SHIFT
    return _Scales(accumulator, accumulator * 2.0**shift, shift)


def _reaching(builder: IntegerModelBuilder, scale: float, shift: int, *results: str) -> float:
    """`scale` of an accumulator, or a coarser one, by a power of two, where a right `shift` could not bring `results`
    into int8.

    Such weights are small beside a bias or a residual, or so many that their rounding averages out.
    """
    finest = max(builder.largest(value) for value in results) / (127 * 2.0**shift)
    return scale if scale >= finest else scale * 2.0 ** math.ceil(math.log2(finest / scale))


def _safe(scale: float, weight: np.ndarray, x_scale: float) -> float:
    """`scale` of an accumulator, or a coarser one, by a power of two, where products could use more than a quarter of
    int32; they would have to be some 33,000 of the largest."""
    rows = np.abs(weight.reshape(len(weight), -1).astype(np.float64)).sum(axis=1).max()
    products = 127 * rows * x_scale / scale
    return scale if products <= PRODUCTS else scale * 2.0 ** math.ceil(math.log2(products / PRODUCTS))


def _constants(
    builder: IntegerModelBuilder, node: Node, total: str, weight: np.ndarray, x_scale: float, scale: float
) -> tuple[str, str]:
    """The names of the weights and the bias of `node`, which adds up to the value `total` in units of `scale`."""
    exact = weight / (scale / x_scale)
    bias = np.zeros(len(weight), np.int32)
    if len(node.inputs) > 2:
        rounded = np.rint(builder.model.parameters[node.inputs[2]].astype(np.float64) / scale)
        bias = np.clip(rounded, -LARGEST_BIAS, LARGEST_BIAS).astype(np.int32)
    name = builder.constant(node, "weight_int8", quantized(exact, 1.0))
    builder.layers[name] = LinearLayer(exact, builder.seen[total].means / scale)
    return name, builder.constant(node, "bias_int32", bias)
