"""Functions of one int8 value: a table."""

from __future__ import annotations

import numpy as np

from edgectl.graph import Node
from edgectl.operators.quantization import Dequantize
from edgectl.quantization.builder import EVERY_INT8, IntegerModelBuilder
from edgectl.quantization.unary_chains import unary_function


def table(builder: IntegerModelBuilder, node: Node) -> bool:
    """The last operator of a function of one value, all of it; those before the last are in its table."""
    root = builder.suitability.unary_roots[node.name]
    if not builder.suitability.ends_function(node):
        return True
    x, scale = builder.as_int8(root), builder.chosen_scale(node.name)
    with np.errstate(all="ignore"):
        values = unary_function(builder.model, root, node.name, Dequantize(x.scale).evaluate(EVERY_INT8))
        # What is no number has no integer that processors agree on.
        numbers = np.where(np.isnan(values), 0, values)
        builder.int8[node.name] = builder.looked_up(node.name, node, x, numbers, scale)
    return True
