"""Models that end elsewhere: in a softmax, or at an inner layer."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import replace

from edgectl.errors import UsageError
from edgectl.graph import Model, Node
from edgectl.operators.activation import Softmax

NEAREST = 3
"""Names that are suggested for one that does not exist."""
LISTED = 12
"""Names that are listed where none is like it."""


def with_softmax(model: Model) -> Model:
    """`model` with a softmax over axis 1 behind each output that is not one already; outputs keep their names.

    Raises UsageError where an output has no axis of classes.
    """
    types, producers = model.types(), model.producers()
    nodes, taken = list(model.nodes), {*model.inputs, *model.parameters, *producers}
    renamed: dict[str, str] = {}
    for name in model.outputs:
        if len(types[name].shape) < 2:
            raise UsageError(f"output '{name}' is {types[name]}: a softmax needs (N, classes)")
        if name in producers and not isinstance(producers[name].operator, Softmax):
            scores = f"{name}.scores"
            while scores in taken:
                scores += "_"
            renamed[name] = scores
    if not renamed:
        return model
    nodes = [
        replace(node, name=renamed.get(node.name, node.name), inputs=tuple(renamed.get(i, i) for i in node.inputs))
        for node in nodes
    ]
    nodes += [Node(name, Softmax(1), (scores,), "softmax") for name, scores in renamed.items()]
    return replace(model, nodes=tuple(nodes))


def up_to(model: Model, layer: str) -> Model:
    """`model` with one output, the result of the inner `layer`, called as in the model or in its source.

    Raises UsageError, with the nearest names, where there is no such layer.
    """
    by_name = {node.name: node.name for node in model.nodes}
    # A source's layer may be several nodes: its result is the last one's.
    by_source = {node.source: node.name for node in model.nodes if node.source}
    value = by_name.get(layer, by_source.get(layer))
    if value is None:
        raise UsageError(f"'{model.name}' has no layer '{layer}'; {_known(layer, list(by_source | by_name))}")
    return model.rebuilt(model.nodes, model.parameters, (value,))


def _known(layer: str, names: Sequence[str]) -> str:
    """The names that are most like `layer`, or else all of them as far as a message may be long."""
    containing = [name for name in names if layer in name]
    near = list(dict.fromkeys([*containing, *difflib.get_close_matches(layer, names, NEAREST, 0.5)]))[:NEAREST]
    if near:
        return f"nearest are {', '.join(near)}"
    rest = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return f"its layers are {', '.join(names[:LISTED])}{rest}"
