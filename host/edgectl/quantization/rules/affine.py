"""Batch normalisations that no convolution took over."""

from __future__ import annotations

import numpy as np

from edgectl.graph import Node
from edgectl.operators.batch_norm import BatchNorm
from edgectl.operators.integer import IntegerAffine
from edgectl.operators.quantization import Quantize
from edgectl.quantization.builder import Form, IntegerModelBuilder, upper_bound

AFFINE_BITS = 14
"""Multipliers of an IntegerAffine use about this many bits: int8 times that, summed, stays far inside int32."""
LARGEST_OFFSET = 2.0**100
"""An input's offset by which a Quantize can still multiply in float32."""


def batch_norm(builder: IntegerModelBuilder, node: Node) -> bool:
    """Stand-alone batch normalisation [ReLU]: per-channel multiply-add; on the input, part of its quantization."""
    operator = node.operator
    assert isinstance(operator, BatchNorm)
    if not builder.is_constant(*node.inputs[1:]) or len(builder.types[node.name].shape) != 4:
        return False
    gain, offset = operator.affine(*(builder.model.parameters[name].astype(np.float64) for name in node.inputs[1:]))
    # A channel that is nearly constant has no offset that float32 could hold.
    if node.inputs[0] in builder.model.inputs and (np.abs(gain) * LARGEST_OFFSET > np.abs(offset)).all():
        scale = builder.observed_scale(node.name)
        quantize = Quantize(tuple((gain / scale).tolist()), tuple((-offset / gain).tolist()))
        builder.int8[node.name] = Form(builder.emit(node.name, quantize, (node.inputs[0],), node.label), scale)
        return True
    x = builder.as_int8(node.inputs[0])
    value, bound = builder.clip_after(node.name)
    scale = builder.observed_scale(value)
    factors = gain * x.scale / scale
    largest = max(float(np.abs(factors).max()), float(np.abs(offset).max()) / scale / 256, 2.0**-AFFINE_BITS)
    shift = AFFINE_BITS - 1 - int(np.floor(np.log2(largest)))
    shift = min(max(shift, 0), 24)
    inputs = (
        x.name,
        builder.constant(node, "multiplier", np.rint(factors * 2.0**shift).astype(np.int32)),
        builder.constant(node, "offset", np.rint(offset / scale * 2.0**shift).astype(np.int32)),
    )
    affine = IntegerAffine(shift, low=-127 if bound is None else 0, high=upper_bound(bound, scale))
    builder.int8[value] = Form(builder.emit(value, affine, inputs, node.label), scale)
    builder.fuse(node.name, value)
    return True
