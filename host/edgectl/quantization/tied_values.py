"""Values whose scale must be a power of two, because others of another scale meet them."""

from __future__ import annotations

from collections.abc import Mapping

from edgectl.graph import Model, Node
from edgectl.operators.activation import Clip
from edgectl.operators.convolution import Convolution
from edgectl.operators.elementwise import Binary
from edgectl.operators.pooling import AveragePool, GlobalPool
from edgectl.operators.shape import Concatenate
from edgectl.quantization.suitability import MOVEMENTS
from edgectl.quantization.unary_chains import PRODUCT, SUMS


def tied_values(model: Model, unary_roots: Mapping[str, str]) -> frozenset[str]:
    """What concatenations, and additions and extrema that no convolution takes over, join, and all that is connected
    with it by operators that keep scales or only sum up, or multiply two values. A function of one value
    (`unary_roots`) is a table, which has any scale.

    The scale of a convolution's result that takes over an addition follows that of what it adds, so these go together.
    """
    parents: dict[str, str] = {}

    def root(value: str) -> str:
        while (parent := parents.setdefault(value, value)) != value:
            value = parent
        return value

    order = {node.name: number for number, node in enumerate(model.nodes)}
    producers, consumers = model.producers(), model.consumers()

    def taken_over(node: Node) -> bool:
        """Whether the operand that is computed last is a convolution's, for this addition alone."""
        last = max(node.inputs, key=lambda name: order.get(name, -1))
        added = isinstance(node.operator, Binary) and node.operator.function == "add"
        convolved = last in producers and isinstance(producers[last].operator, Convolution)
        return added and convolved and len(consumers[last]) == 1 and last not in model.outputs

    met: list[str] = []
    for node in model.nodes:
        if node.name in unary_roots:
            continue
        function = node.operator.function if isinstance(node.operator, Binary) else ""
        if isinstance(node.operator, Concatenate) or function in SUMS:
            if not taken_over(node):
                met.append(node.name)
        elif function != PRODUCT and not isinstance(node.operator, (*MOVEMENTS, Clip, AveragePool, GlobalPool)):
            continue
        for name in node.inputs:
            if name not in model.parameters:
                parents[root(name)] = root(node.name)
    tied = {root(value) for value in met}
    return frozenset(value for value in tuple(parents) if root(value) in tied)
