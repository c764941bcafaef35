"""Concatenation along the channels: parts are stored where they belong, side by side, and nothing is computed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgectl.codegen.matching.context import Candidate, Context, refuse_unless
from edgectl.codegen.vta.layers import Activation, Layer
from edgectl.codegen.vta.packing import identity
from edgectl.graph import Node
from edgectl.operators.shape import Concatenate


def match_concatenation(context: Context, node: Node) -> Candidate:
    """Parts of whole blocks of channels, but for the last one."""
    operator = node.operator
    assert isinstance(operator, Concatenate)
    reads = tuple(context.source(name) for name in node.inputs)
    dtype = context.types[node.name].dtype
    refuse_unless(dtype == "int8", "it works on floating point" if dtype == "float32" else f"it works on {dtype}")
    refuse_unless(operator.axis == 1 and len(context.types[node.name].shape) == 4, "it is not along the channels")
    refuse_unless(any(name in context.on_accelerator for name in reads), "its parts come from the CPU")
    for name in reads[:-1]:
        channels = context.extents(name)[1]
        refuse_unless(
            channels % context.config.block == 0,
            f"a part of {channels} channels does not fill blocks of {context.config.block}",
        )
    context.extents(node.name)
    return Candidate(node.name, (node.name,), reads, context.pack, None)


def copy_layer(name: str, x: Activation, out: Activation, block: int) -> Layer:
    """A layer that copies `x` to `out`, which may be a part of a larger tensor."""
    return Layer(
        name=name,
        x=x,
        out=out,
        weight=identity(block, 1),
        bias=np.zeros(x.channels, np.int32),
        groups=x.blocks(block),
        shared=True,
    )


def part_of(activation: Activation, whole: Activation, first_channel: int) -> Activation:
    """`activation` as channels of `whole`, from `first_channel` of it on."""
    return replace(
        activation,
        name=whole.name,
        first_channel=whole.first_channel + first_channel,
        storage_channels=whole.storage_channels or whole.channels,
    )
