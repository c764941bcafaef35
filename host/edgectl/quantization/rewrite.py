"""Rewrites a floating-point Model into integers, operator by operator.

An operator with a rule in RULES reads and makes integer forms; any other runs in floating point between a Dequantize
and a Quantize, so every network comes through.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set

from edgectl.graph import Model, Node
from edgectl.operators.activation import Clip, Relu
from edgectl.operators.base import Operator
from edgectl.operators.batch_norm import BatchNorm
from edgectl.operators.convolution import Convolution
from edgectl.operators.dense import Dense
from edgectl.operators.elementwise import Binary
from edgectl.operators.pooling import AveragePool, GlobalPool, MaxPool
from edgectl.operators.shape import Concatenate, Flatten, Pad, Reshape, Slice, Transpose, Upsample
from edgectl.quantization.builder import IntegerModelBuilder
from edgectl.quantization.calibration import Observation
from edgectl.quantization.fitting import LinearLayer
from edgectl.quantization.rules.affine import batch_norm
from edgectl.quantization.rules.elementwise import binary, clip, relu
from edgectl.quantization.rules.linear import convolution, dense
from edgectl.quantization.rules.movement import concatenate, same_scale
from edgectl.quantization.rules.pooling import average, global_average
from edgectl.quantization.rules.unary import table

Rule = Callable[[IntegerModelBuilder, Node], bool]
"""Computes a suitable node in integers, perhaps with readers of it fused; False, with nothing emitted for it, where the
forms of its inputs do not allow that."""

RULES: Mapping[type[Operator], Rule] = {
    Convolution: convolution,
    Dense: dense,
    BatchNorm: batch_norm,
    Binary: binary,
    Clip: clip,
    Relu: relu,
    MaxPool: same_scale,
    Flatten: same_scale,
    Pad: same_scale,
    Reshape: same_scale,
    Transpose: same_scale,
    Slice: same_scale,
    Upsample: same_scale,
    Concatenate: concatenate,
    GlobalPool: global_average,
    AveragePool: average,
}


def rewrite(
    model: Model, observations: Mapping[str, Observation], in_float: Set[str] = frozenset()
) -> tuple[Model, dict[str, LinearLayer]]:
    """The integer Model of a folded float one, and by the name of its weights each layer that can be fitted.

    `observations` has every value of `model` but parameters; layers named `in_float` stay in floating point.
    """
    builder = IntegerModelBuilder(model, observations, in_float)
    for node in model.nodes:
        if builder.is_fused(node):
            continue
        rule = table if node.name in builder.suitability.unary_roots else RULES.get(type(node.operator))
        if rule is None or not builder.suitability.runs_in_integers(node) or not rule(builder, node):
            builder.in_float(node)
    return builder.finish(), builder.layers
