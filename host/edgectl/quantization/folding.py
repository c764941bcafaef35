"""Folds batch normalisation into the convolution or dense layer before it."""

from __future__ import annotations

import numpy as np

from edgectl.graph import Model, Node
from edgectl.operators.batch_norm import BatchNorm
from edgectl.operators.convolution import Convolution
from edgectl.operators.dense import Dense


def fold_batch_norm(model: Model) -> Model:
    """The same function with fewer BatchNorm nodes. A folded node keeps the convolution's name for its parameters and
    takes over the BatchNorm's output name, so readers of either side stay valid."""
    producers, consumers = model.producers(), model.consumers()
    parameters = dict(model.parameters)
    replaced: dict[str, Node] = {}
    dropped: set[str] = set()
    for node in model.nodes:
        if not isinstance(node.operator, BatchNorm) or node.inputs[0] not in producers:
            continue
        before = producers[node.inputs[0]]
        constant = all(name in parameters for name in (*before.inputs[1:], *node.inputs[1:]))
        alone = len(consumers[before.name]) == 1 and before.name not in model.outputs
        if not isinstance(before.operator, Convolution | Dense) or not constant or not alone:
            continue
        scale, offset = node.operator.affine(*(parameters[name].astype(np.float64) for name in node.inputs[1:]))
        weight = parameters[before.inputs[1]]
        bias = parameters[before.inputs[2]].astype(np.float64) if len(before.inputs) > 2 else np.zeros(len(weight))
        names = (f"{before.name}.folded_weight", f"{before.name}.folded_bias")
        shape = (-1,) + (1,) * (weight.ndim - 1)
        parameters[names[0]] = (weight * scale.reshape(shape)).astype(np.float32)
        parameters[names[1]] = (bias * scale + offset).astype(np.float32)
        dropped.add(before.name)
        replaced[node.name] = Node(node.name, before.operator, (before.inputs[0], *names), before.label)
    nodes = [replaced.get(node.name, node) for node in model.nodes if node.name not in dropped]
    return model.rebuilt(nodes, parameters, model.outputs)
