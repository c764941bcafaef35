"""IntegerConvolution, grouped or not, with its tail and a maximum pool behind it."""

from __future__ import annotations

from dataclasses import replace

from edgectl.codegen.matching.context import Candidate, Context, Refusal, packed, refuse_unless
from edgectl.codegen.matching.patches import over_patches
from edgectl.codegen.vta.layers import Layer, Pool
from edgectl.codegen.vta.packing import merged_groups, pack_weight
from edgectl.codegen.vta.pooling import anchors
from edgectl.codegen.vta.problem import problem_of
from edgectl.graph import Node
from edgectl.operators.integer import IntegerConvolution
from edgectl.operators.pooling import MaxPool

RESIDUAL_SHIFTS = (-15, 21)
"""6 bits to the left in the identity block, 15 by an ALU shift; to the right by an ALU shift alone."""


def match_convolution(context: Context, node: Node) -> Candidate:
    """The convolution, with a MaxPool that alone reads it: the larger of two accumulators is that of two results."""
    alone = _convolution(context, node)
    pool = context.reader(node.name, MaxPool)
    if pool is None or alone.layer is None or alone.layer.residual is not None:
        return alone
    try:
        return _pooled(context, alone, alone.layer, pool)
    except Refusal:
        return alone


def match_unfused_convolution(context: Context, node: Node) -> Candidate:
    """What the reference's partition gives to the accelerator: dense convolutions on whole blocks of channels."""
    operator = node.operator
    assert isinstance(operator, IntegerConvolution)
    channels = context.extents(node.inputs[0])[1]
    refuse_unless(operator.groups == 1, f"it has {operator.groups} groups")
    refuse_unless(
        channels >= context.config.block,
        f"it has {channels} input channels, fewer than a block of {context.config.block}",
    )
    return _convolution(context, node)


def _pooled(context: Context, candidate: Candidate, layer: Layer, node: Node) -> Candidate:
    operator = node.operator
    assert isinstance(operator, MaxPool)
    pool = Pool(operator.kernel, operator.strides, operator.padding)
    fused = replace(
        layer, name=node.name, out=context.activation(node.name), pool=pool, covers=(*layer.covers, node.name)
    )
    problem = problem_of(fused, context.config)
    assert problem.pools is not None
    common = anchors(problem.pools, problem.out_size)[0]
    refuse_unless(common is not None, "the windows of its pool have no place in common that is inside the image")
    return context.accepted(fused, candidate.reads, candidate.packing)


def _convolution(context: Context, node: Node) -> Candidate:
    operator = node.operator
    assert isinstance(operator, IntegerConvolution)
    weight, bias = context.constant(node.inputs[1]), context.constant(node.inputs[2], "biases")
    value = context.source(node.inputs[0])
    reads = (value, *map(context.source, node.inputs[3:]))
    residual = context.activation(reads[1]) if len(reads) > 1 else None
    if residual is not None:
        low, high = RESIDUAL_SHIFTS
        refuse_unless(low <= operator.residual_shift <= high, f"its residual's shift is {operator.residual_shift}")
    groups, block = operator.groups, context.config.block
    merged = merged_groups(groups, weight.shape[1], weight.shape[0] // groups, block)
    layer = Layer(
        name=node.name,
        x=context.activation(value),
        out=context.activation(node.name),
        residual=residual,
        weight=pack_weight(weight, groups, merged, block),
        bias=bias,
        groups=merged,
        kernel=(weight.shape[2], weight.shape[3]),
        strides=operator.strides,
        padding=operator.padding,
        dilation=operator.dilation,
        shift=operator.shift,
        low=operator.low,
        high=operator.high,
        residual_shift=operator.residual_shift,
        covers=(node.name,),
    )
    if groups == 1 and value not in context.on_accelerator and weight.shape[1] < block:
        x, matrix, kernel, packing = over_patches(context, value, operator, weight)
        # Another convolution of the same image may take it in other patches.
        named = replace(x, name=packed(f"{node.name}.patches"))
        whole = replace(
            layer,
            x=named,
            weight=pack_weight(matrix, 1, 1, block),
            kernel=kernel,
            strides=(1, 1),
            padding=(0, 0, 0, 0),
            dilation=(1, 1),
        )
        return context.accepted(whole, reads, packing)
    return context.accepted(layer, reads)
