"""Elementwise operators: products with the identity, or with one factor for each channel."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgectl.codegen.matching.context import Candidate, Context, refuse_unless
from edgectl.codegen.matching.convolution import RESIDUAL_SHIFTS
from edgectl.codegen.vta.layers import Activation, Layer
from edgectl.codegen.vta.packing import identity, merged_groups, pack_weight
from edgectl.graph import Node
from edgectl.operators.integer import IntegerAdd, IntegerAffine, IntegerExtremum
from edgectl.operators.quantization import Requantize


def match_add(context: Context, node: Node) -> Candidate:
    """f(a << a_shift, b << b_shift): the one that is not shifted passes the identity, the other is its residual."""
    operator = node.operator
    assert isinstance(operator, IntegerAdd | IntegerExtremum)
    reads = (context.source(node.inputs[0]), context.source(node.inputs[1]))
    amount = operator.b_shift
    if operator.a_shift:
        reads, amount = reads[::-1], operator.a_shift
    refuse_unless(0 in (operator.a_shift, operator.b_shift), "both of its operands are shifted")
    refuse_unless(0 <= amount <= RESIDUAL_SHIFTS[1], f"one of its operands is shifted by {amount}")
    layer = _identity(context, node, reads[0], context.activation(reads[1]), amount)
    if isinstance(operator, IntegerExtremum):
        layer = replace(layer, combine="max" if operator.function == "maximum" else "min")
    return context.accepted(layer, reads)


def match_requantize(context: Context, node: Node) -> Candidate:
    """A shift and a clip of int8."""
    value = context.source(node.inputs[0])
    narrow = context.types[value].dtype == "int8"
    refuse_unless(narrow or value in context.on_accelerator, "its int32 input comes from the CPU")
    refuse_unless(narrow, "its int32 input has other readers")
    return context.accepted(_identity(context, node, value, None, 0), (value,))


def _identity(context: Context, node: Node, value: str, residual: Activation | None, amount: int) -> Layer:
    operator = node.operator
    assert isinstance(operator, IntegerAdd | IntegerExtremum | Requantize)
    x = context.activation(value)
    return Layer(
        name=node.name,
        x=x,
        out=context.activation(node.name),
        residual=residual,
        residual_shift=amount,
        weight=identity(context.config.block, 1),
        bias=np.zeros(x.channels, np.int32),
        groups=x.blocks(context.config.block),
        shared=True,
        shift=operator.shift,
        low=operator.low,
        high=operator.high,
        covers=(node.name,),
    )


def match_affine(context: Context, node: Node) -> Candidate:
    """A multiplier and an offset for each channel: a diagonal block of weights and a bias."""
    operator = node.operator
    assert isinstance(operator, IntegerAffine)
    multiplier, offset = (context.constant(name, "multipliers") for name in node.inputs[1:])
    largest = int(np.abs(multiplier).max(initial=0))
    refuse_unless(largest <= 127, f"its multipliers reach {largest}, weights 127")
    value, block = context.source(node.inputs[0]), context.config.block
    x = context.activation(value)
    merged = merged_groups(x.channels, 1, 1, block)
    layer = Layer(
        name=node.name,
        x=x,
        out=context.activation(node.name),
        weight=pack_weight(multiplier.astype(np.int8).reshape(-1, 1, 1, 1), x.channels, merged, block),
        bias=offset,
        groups=merged,
        shift=operator.shift,
        low=operator.low,
        high=operator.high,
        covers=(node.name,),
    )
    return context.accepted(layer, (value,))
