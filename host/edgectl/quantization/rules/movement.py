"""Operators that only move or select values: the scale stays."""

from __future__ import annotations

import numpy as np

from edgectl.graph import Node
from edgectl.operators.quantization import Requantize
from edgectl.operators.shape import Flatten
from edgectl.quantization.builder import MAXIMUM_SHIFT, Form, IntegerModelBuilder
from edgectl.quantization.scales import power_of_two_ratio


def same_scale(builder: IntegerModelBuilder, node: Node) -> bool:
    if node.inputs[0] not in builder.int8:
        return False
    x = builder.int8[node.inputs[0]]
    ratios = x.ratios
    if ratios is not None and isinstance(node.operator, Flatten):
        ratios = np.repeat(ratios, builder.types[node.name].shape[1] // len(ratios))
    builder.int8[node.name] = Form(builder.emit(node.name, node.operator, (x.name,), node.label), x.scale, ratios)
    return True


def concatenate(builder: IntegerModelBuilder, node: Node) -> bool:
    """Parts are brought to the coarsest scale that shows anything; most were made with one scale (common_scales)."""
    if not all(name in builder.int8 for name in node.inputs):
        return False
    forms = [builder.int8[name] for name in node.inputs]
    # Scales that are powers of two are up to twice as coarse as they must; a much finer one would cut off.
    limit = 2 * builder.largest(node.name) / 127
    scales = [form.scale for form in forms if limit / 8 <= form.scale <= limit]
    coarsest = max(scales, default=limit / 2 or max(form.scale for form in forms))
    parts = []
    for number, form in enumerate(forms):
        shift = power_of_two_ratio(coarsest, form.scale)
        name = form.name
        if shift is None or not 0 <= shift <= MAXIMUM_SHIFT:
            name = builder.rescaled(node.inputs[number], node, form, coarsest).name
        elif shift:
            name = builder.emit(builder.derived(node.name, f"part{number}"), Requantize(shift), (name,), node.label)
        parts.append(name)
    builder.int8[node.name] = Form(builder.emit(node.name, node.operator, tuple(parts), node.label), coarsest)
    return True
