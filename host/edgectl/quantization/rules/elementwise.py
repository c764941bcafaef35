"""Additions that no convolution took over, and the ReLUs that nothing before took over."""

from __future__ import annotations

from edgectl.graph import Node
from edgectl.operators.integer import IntegerAdd
from edgectl.operators.quantization import Requantize
from edgectl.quantization.builder import MAXIMUM_SHIFT, Form, IntegerModelBuilder, upper_bound
from edgectl.quantization.scales import power_of_two_ratio


def add(builder: IntegerModelBuilder, node: Node) -> bool:
    """Addition of two int8 tensors [ReLU]."""
    a, b = node.inputs
    first, second = builder.as_int8(a), builder.as_int8(b)
    ratio = power_of_two_ratio(first.scale, second.scale)
    if ratio is None or abs(ratio) > MAXIMUM_SHIFT:
        return False
    value, bound = builder.clip_after(node.name)
    unit = min(first.scale, second.scale)
    scale, shift = builder.narrowed(value, unit)
    integer = IntegerAdd(
        max(ratio, 0), max(-ratio, 0), shift, low=-127 if bound is None else 0, high=upper_bound(bound, scale)
    )
    builder.int8[value] = Form(builder.emit(value, integer, (first.name, second.name), node.label), scale)
    builder.fuse(node.name, value)
    return True


def relu(builder: IntegerModelBuilder, node: Node) -> bool:
    if node.inputs[0] not in builder.int8:
        return False
    x = builder.int8[node.inputs[0]]
    name = builder.emit(node.name, Requantize(0, 0, 127), (x.name,), node.label)
    builder.int8[node.name] = Form(name, x.scale, x.ratios)
    return True
