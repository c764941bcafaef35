"""Elementwise functions of one value, however many operators they are made of: of int8, each is a table.

hard-swish, for example, is x * clip(x + 3, 0, 6) / 6: four operators that all are functions of x alone.
"""

from __future__ import annotations

from collections.abc import Set

import numpy as np

from edgectl.graph import Model, Node
from edgectl.operators.activation import Activation, Clip, Relu, Softmax
from edgectl.operators.elementwise import Binary, Scalar
from edgectl.operators.integer import EXTREMA

SUMS = ("add", *EXTREMA)
"""Functions of two tensors of one type that integers have without a table."""
PRODUCT = "multiply"
"""The other one, whose tensors may differ in scale and broadcast."""


def unary_roots(model: Model, apart: Set[str] = frozenset()) -> dict[str, str]:
    """For each operator that computes an elementwise function of one value alone: that value's name.

    Operators that begin with a value that integers hold anyway, a ReLU or a clip of it, are not among them unless
    something before them is. Nodes named `apart` are left out.
    """
    roots: dict[str, str] = {}
    for node in model.nodes:
        if node.name in apart or not isinstance(node.operator, Activation | Scalar | Binary):
            continue
        if isinstance(node.operator, Softmax) or any(name in model.parameters for name in node.inputs):
            continue
        found = {roots.get(name, name) for name in node.inputs}
        begins = found.issuperset(node.inputs)
        if len(found) == 1 and not (begins and _stays_integer(node)):
            roots[node.name] = found.pop()
    return roots


def _stays_integer(node: Node) -> bool:
    operator = node.operator
    return isinstance(operator, Relu | Clip) or (isinstance(operator, Binary) and operator.function in SUMS)


def unary_function(model: Model, root: str, value: str, x: np.ndarray) -> np.ndarray:
    """`value`, a function of `root` alone, where `root` is `x`."""
    known = {root: x}
    for node in model.nodes:
        if value in known:
            break
        if known.keys() >= set(node.inputs):
            known[node.name] = node.operator.evaluate(*(known[name] for name in node.inputs))
    return known[value]
