"""Concatenation along the channels: parts are stored where they belong, side by side, and nothing is computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from edgectl.codegen.matching.context import Candidate, Context, refuse_unless
from edgectl.codegen.vta.layers import Activation, Layer
from edgectl.codegen.vta.packing import identity, pack_weight
from edgectl.graph import Node
from edgectl.operators.shape import Concatenate


def match_concatenation(context: Context, node: Node) -> Candidate:
    """Parts of any number of channels. Where one does not fill its blocks, the next begins in a block of its own."""
    operator = node.operator
    assert isinstance(operator, Concatenate)
    reads = tuple(context.source(name) for name in node.inputs)
    dtype = context.types[node.name].dtype
    refuse_unless(dtype == "int8", "it works on floating point" if dtype == "float32" else f"it works on {dtype}")
    refuse_unless(operator.axis == 1 and len(context.types[node.name].shape) == 4, "it is not along the channels")
    refuse_unless(any(name in context.on_accelerator for name in reads), "its parts come from the CPU")
    whole, parts, block = context.activation(node.name), part_channels(context, reads), context.config.block
    if not fill_blocks(parts, block):
        context.accepted(compacting_layer(node.name, spread(whole, parts, block), whole, parts, block), reads)
    return Candidate(node.name, (node.name,), reads, context.pack, None)


def part_channels(context: Context, reads: Sequence[str]) -> tuple[int, ...]:
    """The channels of each part."""
    return tuple(context.extents(name)[1] for name in reads)


def fill_blocks(parts: Sequence[int], block: int) -> bool:
    """Whether all parts but the last are whole blocks, so that the concatenation has no gaps."""
    return all(channels % block == 0 for channels in parts[:-1])


def first_channels(parts: Sequence[int], block: int) -> list[int]:
    """Where each part begins when all of them begin with a block of their own; and the end of the last one's."""
    return [0, *np.cumsum([-(-channels // block) * block for channels in parts]).tolist()]


def spread(whole: Activation, parts: Sequence[int], block: int) -> Activation:
    """The tensor in which each part of the concatenation `whole` begins with a block of its own."""
    channels = first_channels(parts, block)[-1]
    return Activation(f"{whole.name}.parts", whole.outer, channels, whole.height, whole.width)


def _places(parts: Sequence[int], block: int) -> np.ndarray:
    """Where in the spread tensor each channel of the concatenation lies, int64 (C)."""
    begins = first_channels(parts, block)
    return np.concatenate([begin + np.arange(channels) for begin, channels in zip(begins, parts, strict=False)])


def compacting_layer(name: str, x: Activation, out: Activation, parts: Sequence[int], block: int) -> Layer:
    """A layer that closes the gaps between the parts in `x`."""
    selection = np.zeros((out.channels, x.channels, 1, 1), np.int8)
    selection[np.arange(out.channels), _places(parts, block)] = 1
    return Layer(name, x, out, pack_weight(selection, 1, 1, block), np.zeros(out.channels, np.int32))


def reading_parts(layer: Layer, x: Activation, parts: Sequence[int], block: int) -> Layer:
    """`layer` on the spread tensor `x` instead of the concatenation: gaps meet weights of zero."""
    units, ins, height, width = layer.weight.shape[:4]
    channels = layer.weight.transpose(1, 5, 0, 4, 2, 3).reshape(ins * block, units * block, height, width)
    full = np.zeros((x.channels, *channels.shape[1:]), np.int8)
    places = _places(parts, block)
    full[places] = channels[: len(places)]
    return replace(layer, x=x, weight=pack_weight(full.swapaxes(0, 1), 1, 1, block))


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
