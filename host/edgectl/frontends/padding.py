"""Layers that only pad, joined with the layer that reads them."""

from __future__ import annotations

import math
from dataclasses import replace

from edgectl.graph import Model, Node
from edgectl.operators.base import Operator, Padding
from edgectl.operators.convolution import Convolution
from edgectl.operators.pooling import AveragePool, MaxPool
from edgectl.operators.shape import Pad


def with_absorbed_padding(model: Model) -> Model:
    """The same function, in which a convolution or pool pads by itself where it read a padded image.

    Exporters write padding that differs from side to side as a layer of its own; integers and the accelerator have it
    in the convolution.
    """
    pads = {node.name: node for node in model.nodes if isinstance(node.operator, Pad)}
    if not pads:
        return model
    return model.rebuilt((_absorbed(node, pads) for node in model.nodes), model.parameters, model.outputs)


def _absorbed(node: Node, pads: dict[str, Node]) -> Node:
    before = pads.get(node.inputs[0])
    if before is None or not isinstance(before.operator, Pad):
        return node
    operator = _with_padding(node.operator, before.operator)
    return node if operator is None else replace(node, operator=operator, inputs=(before.inputs[0], *node.inputs[1:]))


def _with_padding(operator: Operator, pad: Pad) -> Operator | None:
    if isinstance(operator, Convolution) and pad.value == 0:
        return replace(operator, padding=_sum(operator.padding, pad.padding))
    counted = isinstance(operator, AveragePool) and (operator.count_include_pad or not any(operator.padding))
    if isinstance(operator, AveragePool) and counted and pad.value == 0:
        return replace(operator, padding=_sum(operator.padding, pad.padding), count_include_pad=True)
    if isinstance(operator, MaxPool) and pad.value == -math.inf:
        return replace(operator, padding=_sum(operator.padding, pad.padding))
    return None


def _sum(a: Padding, b: Padding) -> Padding:
    top, left, bottom, right = (x + y for x, y in zip(a, b, strict=True))
    return top, left, bottom, right
