"""Which layers the accelerator can compute: one rule for each kind of operator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edgectl.codegen.matching.concatenation import match_concatenation
from edgectl.codegen.matching.context import Candidate, Context, Refusal
from edgectl.codegen.matching.convolution import match_convolution, match_unfused_convolution
from edgectl.codegen.matching.dense import match_dense
from edgectl.codegen.matching.elementwise import match_add, match_affine, match_requantize
from edgectl.codegen.matching.pooling import match_max_pool, match_sum
from edgectl.codegen.offload import NOTHING
from edgectl.graph import Node
from edgectl.operators.base import Operator
from edgectl.operators.integer import (
    IntegerAdd,
    IntegerAffine,
    IntegerConvolution,
    IntegerDense,
    IntegerExtremum,
    IntegerPoolSum,
    IntegerWindowSum,
)
from edgectl.operators.pixels import QuantizePixels
from edgectl.operators.pooling import MaxPool
from edgectl.operators.quantization import Dequantize, Quantize, Requantize
from edgectl.operators.shape import Concatenate, Flatten, Reshape

Rule = Callable[[Context, Node], Candidate]

RULES: dict[type[Operator], Rule] = {
    Concatenate: match_concatenation,
    IntegerAdd: match_add,
    IntegerAffine: match_affine,
    IntegerConvolution: match_convolution,
    IntegerDense: match_dense,
    IntegerExtremum: match_add,
    IntegerPoolSum: match_sum,
    IntegerWindowSum: match_sum,
    MaxPool: match_max_pool,
    Requantize: match_requantize,
}
FOR_THE_CPU = (Quantize, QuantizePixels, Dequantize, Flatten, Reshape)
"""Operators on the border between the processors, or that cost nothing: no fallbacks."""


@dataclass(frozen=True)
class Fallback:
    """A layer that stays on the CPU, and why."""

    layer: str
    reason: str


def match(context: Context, offload: str, across_layers: bool) -> tuple[dict[str, Candidate], tuple[Fallback, ...]]:
    """Candidates by the name of the value they compute, and what stays on the CPU with its reason."""
    candidates: dict[str, Candidate] = {}
    fallbacks: list[Fallback] = []
    covered: set[str] = set()
    first = next((node.name for node in context.model.nodes if isinstance(node.operator, IntegerConvolution)), "")
    for node in context.model.nodes:
        if node.name in covered or isinstance(node.operator, FOR_THE_CPU):
            continue
        try:
            candidate = _matched(context, node, offload, node.name == first, across_layers)
        except Refusal as refusal:
            fallbacks.append(Fallback(node.label, str(refusal)))
            continue
        candidates[candidate.name] = candidate
        covered.update(candidate.covers)
        context.on_accelerator.add(candidate.name)
    return candidates, tuple(dict.fromkeys(fallbacks))


def _matched(context: Context, node: Node, offload: str, first: bool, across_layers: bool) -> Candidate:
    if offload == NOTHING:
        raise Refusal("it was compiled for the CPU alone")
    rule = RULES.get(type(node.operator))
    if rule is None:
        dtype = context.types[node.name].dtype
        raise Refusal("it works on floating point" if dtype == "float32" else f"VTA has no {node.operator.kind}")
    if isinstance(node.operator, Concatenate) and not across_layers:
        raise Refusal("on this board a program is one layer, a concatenation several")
    if offload == "all":
        return rule(context, node)
    if not isinstance(node.operator, IntegerConvolution):
        raise Refusal("the reference partition gives the accelerator convolutions only")
    if first:
        raise Refusal("the reference partition leaves the first convolution to the CPU")
    return match_unfused_convolution(context, node)
