"""Where the activations of one program lie: a part of a concatenation inside the whole, so that nothing is copied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgectl.codegen.matching.concatenation import (
    compacting_layer,
    copy_layer,
    fill_blocks,
    first_channels,
    part_channels,
    part_of,
    reading_parts,
    spread,
)
from edgectl.codegen.matching.context import Candidate, Context, Refusal, packed
from edgectl.codegen.vta.layers import Activation, Layer


@dataclass(frozen=True)
class _Spread:
    """A concatenation whose parts do not fill their blocks: `whole` has gaps, `parts` are the channels of each."""

    whole: Activation
    parts: tuple[int, ...]


def place(context: Context, candidates: Sequence[Candidate], outputs: set[str]) -> tuple[Layer, ...]:
    """The layers of `candidates`, their activations in tensors of their own or in the concatenation they belong to.

    A part that lies elsewhere already, in another concatenation or among the program's `outputs` or inputs, is copied.
    A concatenation with gaps between its parts is compacted only for what cannot read it as it lies.
    """
    made = {candidate.name for candidate in candidates}
    block = context.config.block
    places: dict[str, Activation] = {}
    copies: dict[str, list[Layer]] = {}
    spreads: dict[str, _Spread] = {}
    # The outermost concatenation first, so that inner ones find their place in it.
    for candidate in reversed(candidates):
        if candidate.layer is not None:
            continue
        name = packed(candidate.name)
        whole = places.setdefault(name, context.activation(candidate.name))
        parts = part_channels(context, candidate.reads)
        if not fill_blocks(parts, block):
            whole = spread(context.activation(candidate.name), parts, block)
            spreads[name] = _Spread(whole, parts)
        copies[candidate.name] = []
        for value, channel in zip(candidate.reads, first_channels(parts, block), strict=False):
            part = context.activation(value)
            target = part_of(part, whole, channel)
            if value in made and part.name not in outputs and part.name not in places:
                places[part.name] = target
            else:
                copies[candidate.name].append(copy_layer(candidate.name, part, target, block))
    readers = {
        candidate.name: _reader(context, candidate.layer, spreads) for candidate in candidates if candidate.layer
    }
    compacted = outputs | {name for name, at in places.items() if at.name != name}
    for layer in (*readers.values(), *(copy for made in copies.values() for copy in made)):
        compacted |= {activation.name for activation in (layer.x, layer.residual) if activation is not None}
    layers: list[Layer] = []
    for candidate in candidates:
        if candidate.layer is not None:
            layers.append(readers[candidate.name])
            continue
        layers += copies[candidate.name]
        name = packed(candidate.name)
        if name in spreads and name in compacted:
            lies = spreads[name]
            out = context.activation(candidate.name)
            layers.append(compacting_layer(candidate.name, lies.whole, out, lies.parts, block))
    return tuple(_placed(layer, places) for layer in layers)


def _reader(context: Context, layer: Layer, spreads: dict[str, _Spread]) -> Layer:
    """`layer`, on a concatenation as it lies where its weights can skip the gaps."""
    lies = spreads.get(layer.x.name)
    if lies is None or layer.groups > 1 or layer.shared:
        return layer
    reading = reading_parts(layer, lies.whole, lies.parts, context.config.block)
    try:
        context.accepted(reading, ())
    except Refusal:
        return layer
    return reading


def _placed(layer: Layer, places: dict[str, Activation]) -> Layer:
    def at(activation: Activation) -> Activation:
        # A copy's target has its place already.
        return activation if activation.storage_channels else places.get(activation.name, activation)

    residual = None if layer.residual is None else at(layer.residual)
    return replace(layer, x=at(layer.x), out=at(layer.out), residual=residual)
