"""Where the activations of one program lie: a part of a concatenation inside the whole, so that nothing is copied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from edgectl.codegen.matching.concatenation import copy_layer, part_of
from edgectl.codegen.matching.context import Candidate, Context, packed
from edgectl.codegen.vta.layers import Activation, Layer


def place(context: Context, candidates: Sequence[Candidate], outputs: set[str]) -> tuple[Layer, ...]:
    """The layers of `candidates`, their activations in tensors of their own or in the concatenation they belong to.

    A part that lies elsewhere already, in another concatenation or among the program's `outputs` or inputs, is copied.
    """
    made = {candidate.name for candidate in candidates}
    places: dict[str, Activation] = {}
    copies: dict[str, list[Layer]] = {}
    # The outermost concatenation first, so that inner ones find their place in it.
    for candidate in reversed(candidates):
        if candidate.layer is not None:
            continue
        whole = places.setdefault(packed(candidate.name), context.activation(candidate.name))
        copies[candidate.name] = []
        channel = 0
        for value in candidate.reads:
            part = context.activation(value)
            target = part_of(part, whole, channel)
            channel += part.channels
            if value in made and part.name not in outputs and part.name not in places:
                places[part.name] = target
            else:
                copies[candidate.name].append(copy_layer(candidate.name, part, target, context.config.block))
    layers: list[Layer] = []
    for candidate in candidates:
        layers += copies.get(candidate.name, ()) if candidate.layer is None else [candidate.layer]
    return tuple(_placed(layer, places) for layer in layers)


def _placed(layer: Layer, places: dict[str, Activation]) -> Layer:
    def at(activation: Activation) -> Activation:
        # A copy's target has its place already.
        return activation if activation.storage_channels else places.get(activation.name, activation)

    residual = None if layer.residual is None else at(layer.residual)
    return replace(layer, x=at(layer.x), out=at(layer.out), residual=residual)
