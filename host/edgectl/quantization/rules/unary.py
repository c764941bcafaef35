"""Functions of one int8 value: a table."""

from __future__ import annotations

import numpy as np

from edgectl.graph import Node
from edgectl.operators.lookup import ENTRIES, LOWEST, Lookup
from edgectl.operators.quantization import Dequantize, Quantize
from edgectl.quantization.builder import Form, IntegerModelBuilder
from edgectl.quantization.unary_chains import unary_function


def table(builder: IntegerModelBuilder, node: Node) -> bool:
    """The last operator of a function of one value, all of it; those before the last are in its table."""
    root = builder.suitability.unary_roots[node.name]
    if not builder.suitability.ends_function(node):
        return True
    x, scale = builder.as_int8(root), builder.chosen_scale(node.name)
    integers = np.arange(LOWEST, LOWEST + ENTRIES, dtype=np.int16)
    with np.errstate(all="ignore"):
        values = unary_function(builder.model, root, node.name, Dequantize(x.scale).evaluate(integers))
    # No processor agrees with another on the integer of what is no number.
    entries = Quantize((1.0 / scale,)).evaluate(np.nan_to_num(values, nan=0.0).reshape(1, ENTRIES))[0]
    name = builder.emit(node.name, Lookup(), (x.name, builder.constant(node, "table", entries)), node.label)
    builder.int8[node.name] = Form(name, scale)
    return True
