"""Pools: sums are products with ones, maxima are taken between accumulators."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgectl.codegen.matching.context import Candidate, Context, refuse_unless
from edgectl.codegen.vta.layers import Layer, Pool
from edgectl.codegen.vta.packing import identity
from edgectl.codegen.vta.pooling import anchors
from edgectl.codegen.vta.problem import problem_of
from edgectl.graph import Node
from edgectl.operators.integer import IntegerPoolSum, IntegerWindowSum
from edgectl.operators.pooling import MaxPool


def match_sum(context: Context, node: Node) -> Candidate:
    """Sums over windows or the whole image; narrowed to int8 at once where they are only that."""
    operator = node.operator
    value = context.source(node.inputs[0])
    x = context.activation(value)
    windows: dict[str, Any] = {"kernel": (x.height, x.width)}
    if isinstance(operator, IntegerWindowSum):
        windows = {"kernel": operator.kernel, "strides": operator.strides, "padding": operator.padding}
    else:
        assert isinstance(operator, IntegerPoolSum)
    name, covers, tail = context.narrowed(node)
    options: dict[str, Any] = {**windows, **tail}
    layer = Layer(
        name=name,
        x=x,
        out=context.activation(name),
        weight=identity(context.config.block, 1),
        bias=np.zeros(x.channels, np.int32),
        groups=x.blocks(context.config.block),
        shared=True,
        covers=covers,
        **options,
    )
    return context.accepted(layer, (value,))


def match_max_pool(context: Context, node: Node) -> Candidate:
    """A maximum pool of int8, whose pixels get to ACC through the identity."""
    operator = node.operator
    assert isinstance(operator, MaxPool)
    value = context.source(node.inputs[0])
    dtype = context.types[value].dtype
    refuse_unless(dtype == "int8", "it works on floating point" if dtype == "float32" else f"it works on {dtype}")
    x = context.activation(value)
    layer = Layer(
        name=node.name,
        x=x,
        out=context.activation(node.name),
        weight=identity(context.config.block, 1),
        bias=np.zeros(x.channels, np.int32),
        groups=x.blocks(context.config.block),
        shared=True,
        pool=Pool(operator.kernel, operator.strides, operator.padding),
        covers=(node.name,),
    )
    problem = problem_of(layer, context.config)
    assert problem.pools is not None
    common = anchors(problem.pools, problem.out_size)[0]
    refuse_unless(common is not None, "its windows have no place in common that is inside the image")
    return context.accepted(layer, (value,))
