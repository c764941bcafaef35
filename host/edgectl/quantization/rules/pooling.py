"""Averages: sums whose division moves into the scale."""

from __future__ import annotations

from edgectl.graph import Node
from edgectl.operators.integer import IntegerPoolSum, IntegerWindowSum
from edgectl.operators.pooling import AveragePool
from edgectl.quantization.builder import Form, IntegerModelBuilder


def global_average(builder: IntegerModelBuilder, node: Node) -> bool:
    if node.inputs[0] not in builder.int8:
        return False
    x = builder.int8[node.inputs[0]]
    height, width = builder.types[node.inputs[0]].shape[2:]
    name = builder.emit(builder.derived(node.name, "sum"), IntegerPoolSum(), (x.name,), node.label)
    builder.accumulated(node.name, Form(name, x.scale / (height * width), x.ratios))
    return True


def average(builder: IntegerModelBuilder, node: Node) -> bool:
    operator = node.operator
    assert isinstance(operator, AveragePool)
    if node.inputs[0] not in builder.int8:
        return False
    x = builder.int8[node.inputs[0]]
    window = IntegerWindowSum(operator.kernel, operator.strides, operator.padding)
    name = builder.emit(builder.derived(node.name, "sum"), window, (x.name,), node.label)
    builder.accumulated(node.name, Form(name, x.scale / (operator.kernel[0] * operator.kernel[1]), x.ratios))
    return True
