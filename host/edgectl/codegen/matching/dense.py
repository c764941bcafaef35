"""IntegerDense: a convolution whose kernel is the whole image."""

from __future__ import annotations

from typing import Any

from edgectl.codegen.matching.context import Candidate, Context
from edgectl.codegen.vta.layers import Layer
from edgectl.codegen.vta.packing import pack_weight
from edgectl.graph import Node
from edgectl.operators.shape import Flatten


def match_dense(context: Context, node: Node) -> Candidate:
    """A dense layer, on what a Flatten flattened where there is one; narrowed to int8 at once where it is only that."""
    weight, bias = context.constant(node.inputs[1]), context.constant(node.inputs[2], "biases")
    value = context.source(node.inputs[0])
    if value in context.producers and isinstance(context.producers[value].operator, Flatten):
        inner = context.source(context.producers[value].inputs[0])
        value = inner if len(context.types[inner].shape) == 4 else value
    x = context.activation(value)
    name, covers, tail = context.narrowed(node)
    kernel = (x.height, x.width)
    options: dict[str, Any] = tail
    layer = Layer(
        name=name,
        x=x,
        out=context.activation(name),
        weight=pack_weight(weight.reshape(len(weight), x.channels, *kernel), 1, 1, context.config.block),
        bias=bias,
        kernel=kernel,
        covers=covers,
        **options,
    )
    return context.accepted(layer, (value,))
