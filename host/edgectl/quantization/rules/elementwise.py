"""Additions, products, maxima and minima of two tensors; ReLUs and clips that nothing before took over."""

from __future__ import annotations

from edgectl.graph import Node
from edgectl.operators.activation import Clip
from edgectl.operators.elementwise import Binary
from edgectl.operators.integer import IntegerAdd, IntegerExtremum, IntegerMultiply
from edgectl.operators.quantization import Requantize
from edgectl.quantization.builder import MAXIMUM_SHIFT, Form, IntegerModelBuilder, upper_bound
from edgectl.quantization.scales import power_of_two_ratio
from edgectl.quantization.suitability import PRODUCT

FEW_STEPS = 32
"""Limits of fewer steps are rounded by more than a hundredth or so."""


def binary(builder: IntegerModelBuilder, node: Node) -> bool:
    """Sum, product, maximum or minimum of two int8 tensors [ReLU]."""
    assert isinstance(node.operator, Binary)
    function = node.operator.function
    if function == PRODUCT:
        return _product(builder, node)
    first, second = (builder.as_int8(name) for name in node.inputs)
    ratio = power_of_two_ratio(first.scale, second.scale)
    if ratio is None or abs(ratio) > MAXIMUM_SHIFT:
        # An extremum is the same of operands that are cut off at its own range; a sum needs them whole.
        shown = node.inputs if function == "add" else ()
        needed = max(builder.largest(name) for name in (*shown, node.name)) / 127
        # Scales that are powers of two are up to twice as coarse as they must. A coarser one would show nothing of the
        # finer operand.
        scales = [form.scale for form in (first, second) if form.scale <= 2 * needed]
        scale = max(scales, default=needed or max(first.scale, second.scale))
        first, second = (
            form if form.scale == scale else builder.rescaled(value, node, form, scale)
            for value, form in zip(node.inputs, (first, second), strict=True)
        )
        ratio = 0
    value, bound = builder.clip_after(node.name)
    unit = min(first.scale, second.scale)
    scale, shift = builder.narrowed(value, unit)
    shifts = (max(ratio, 0), max(-ratio, 0), shift, -127 if bound is None else 0, upper_bound(bound, scale))
    integer = IntegerAdd(*shifts) if function == "add" else IntegerExtremum(function, *shifts)
    builder.int8[value] = Form(builder.emit(value, integer, (first.name, second.name), node.label), scale)
    builder.fuse(node.name, value)
    return True


def _product(builder: IntegerModelBuilder, node: Node) -> bool:
    """Of tensors that are int8 already; one may be a number for each channel, as a gate is."""
    if not all(name in builder.int8 for name in node.inputs):
        return False
    first, second = (builder.as_int8(name) for name in node.inputs)
    value, bound = builder.clip_after(node.name)
    scale, shift = builder.narrowed(value, first.scale * second.scale)
    integer = IntegerMultiply(shift, -127 if bound is None else 0, upper_bound(bound, scale))
    builder.int8[value] = Form(builder.emit(value, integer, (first.name, second.name), node.label), scale)
    builder.fuse(node.name, value)
    return True


def clip(builder: IntegerModelBuilder, node: Node) -> bool:
    """Limits of a value that is int8 already, rounded to its scale, or to a finer one where that has few steps."""
    operator = node.operator
    assert isinstance(operator, Clip)
    if node.inputs[0] not in builder.int8:
        return False
    x = builder.int8[node.inputs[0]]
    if x.ratios is not None:
        return False
    scale = x.scale
    if 0 < max(abs(operator.low), abs(operator.high)) < FEW_STEPS * x.scale:
        scale = min(x.scale, max(builder.chosen_scale(node.name, x.scale), x.scale * 2.0**-MAXIMUM_SHIFT))
    low, high = (round(min(max(limit / scale, -127.0), 127.0)) for limit in (operator.low, operator.high))
    shift = power_of_two_ratio(scale, x.scale)
    assert shift is not None
    name = builder.emit(node.name, Requantize(shift, low, high), (x.name,), node.label)
    builder.int8[node.name] = Form(name, scale)
    return True


def relu(builder: IntegerModelBuilder, node: Node) -> bool:
    if node.inputs[0] not in builder.int8:
        return False
    x = builder.int8[node.inputs[0]]
    name = builder.emit(node.name, Requantize(0, 0, 127), (x.name,), node.label)
    builder.int8[node.name] = Form(name, x.scale, x.ratios)
    return True
