"""Convolutions, with the residual and the ReLU that follow, and dense layers."""

from __future__ import annotations

import math

import numpy as np

from edgectl.graph import Node
from edgectl.operators.convolution import Convolution
from edgectl.operators.elementwise import Binary
from edgectl.operators.integer import IntegerConvolution, IntegerDense
from edgectl.quantization.builder import MAXIMUM_SHIFT, MAXIMUM_SUM_SHIFT, Form, IntegerModelBuilder, upper_bound
from edgectl.quantization.scales import best_scale, power_of_two_ratio, quantized


def convolution(builder: IntegerModelBuilder, node: Node) -> bool:
    """Convolution [+ residual] [ReLU]: one IntegerConvolution."""
    operator = node.operator
    assert isinstance(operator, Convolution)
    x = builder.as_int8(node.inputs[0])
    weight = _absorbed(builder.model.parameters[node.inputs[1]], x.ratios, operator.groups)
    value, residual = node.name, None
    add = builder.only_reader(value)
    other = _residual(builder, add, value) if add is not None else None
    results = (value, other, add.name) if add is not None and other is not None else (value,)
    # A power of two, also where the division of an average is in the input's scale.
    finest = best_scale(weight, float(np.abs(weight).max()), 1 / x.scale) * x.scale
    scale = 2.0 ** round(math.log2(_reaching(builder, finest, MAXIMUM_SHIFT, *results)))
    weight_scale = scale / x.scale
    if add is not None and other is not None:
        form = builder.as_int8(other)
        ratio = power_of_two_ratio(form.scale, scale)
        if ratio is not None and -MAXIMUM_SHIFT <= ratio <= MAXIMUM_SHIFT:
            value, residual = add.name, (form, ratio)
    value, bound = builder.clip_after(value)
    out_scale, shift = builder.narrowed(value, scale)
    integer = IntegerConvolution(
        operator.strides,
        operator.padding,
        operator.dilation,
        operator.groups,
        shift,
        low=-127 if bound is None else 0,
        high=upper_bound(bound, out_scale),
        residual_shift=residual[1] if residual else 0,
    )
    inputs = [
        x.name,
        builder.constant(node, "weight_int8", quantized(weight, weight_scale)),
        builder.constant(node, "bias_int32", _bias(builder, node, scale, len(weight))),
    ]
    if residual is not None:
        inputs.append(residual[0].name)
    builder.int8[value] = Form(builder.emit(value, integer, tuple(inputs), node.label), out_scale)
    builder.fuse(node.name, value)
    return True


def dense(builder: IntegerModelBuilder, node: Node) -> bool:
    """Dense [ReLU]: an int32 accumulator, and int8 where a ReLU follows."""
    x = builder.as_int8(node.inputs[0])
    weight = _absorbed(builder.model.parameters[node.inputs[1]], x.ratios)
    finest = float(np.abs(weight).max()) / 127 * x.scale or 1.0
    scale = _reaching(builder, finest, MAXIMUM_SUM_SHIFT, node.name)
    weight_scale = scale / x.scale
    inputs = (
        x.name,
        builder.constant(node, "weight_int8", quantized(weight, weight_scale)),
        builder.constant(node, "bias_int32", _bias(builder, node, scale, len(weight))),
    )
    name = builder.emit(builder.derived(node.name, "int32"), IntegerDense(), inputs, node.label)
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


def _reaching(builder: IntegerModelBuilder, scale: float, shift: int, *results: str) -> float:
    """`scale` of an accumulator, or a coarser one where a right `shift` could not bring `results` into int8.

    Such weights are small beside a bias or a residual, or so many that their rounding averages out.
    """
    finest = max(builder.largest(value) for value in results) / (127 * 2.0**shift)
    return scale if scale >= finest else 2.0 ** math.ceil(math.log2(finest))


def _bias(builder: IntegerModelBuilder, node: Node, scale: float, channels: int) -> np.ndarray:
    if len(node.inputs) < 3:
        return np.zeros(channels, np.int32)
    bias = np.rint(builder.model.parameters[node.inputs[2]].astype(np.float64) / scale)
    return np.clip(bias, -(2**30), 2**30).astype(np.int32)
