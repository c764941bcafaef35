"""Averages: sums whose division moves into the scale."""

from __future__ import annotations

from edgectl.graph import Node
from edgectl.operators.integer import IntegerPoolSum, IntegerWindowSum
from edgectl.operators.pooling import AveragePool, GlobalPool
from edgectl.quantization.builder import Form, IntegerModelBuilder


def global_average(builder: IntegerModelBuilder, node: Node) -> bool:
    operator = node.operator
    assert isinstance(operator, GlobalPool)
    if operator.mode != "average" or not builder.is_integer(node.inputs[0]):
        return False
    x = builder.as_int8(node.inputs[0])
    height, width = builder.types[node.inputs[0]].shape[2:]
    name = builder.emit(builder.derived(node.name, "sum"), IntegerPoolSum(), (x.name,), node.label)
    builder.int32[node.name] = Form(name, x.scale / (height * width))
    return True


def average(builder: IntegerModelBuilder, node: Node) -> bool:
    """Sums over windows, where all windows have the same divisor."""
    operator = node.operator
    assert isinstance(operator, AveragePool)
    uniform = not any(operator.ceil_padding) and (operator.count_include_pad or not any(operator.padding))
    if not builder.is_integer(node.inputs[0]) or not uniform:
        return False
    x = builder.as_int8(node.inputs[0])
    window = IntegerWindowSum(operator.kernel, operator.strides, operator.padding)
    name = builder.emit(builder.derived(node.name, "sum"), window, (x.name,), node.label)
    builder.int32[node.name] = Form(name, x.scale / (operator.kernel[0] * operator.kernel[1]))
    return True
