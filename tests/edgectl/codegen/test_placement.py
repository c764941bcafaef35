"""Where activations of a program lie: parts of a concatenation inside the whole."""

from __future__ import annotations

import numpy as np

from edge_agent.vta.config import DEFAULT_CONFIG
from edgectl.codegen.matching import match
from edgectl.codegen.matching.context import Context
from edgectl.codegen.placement import place
from edgectl.codegen.vta.layers import Activation, Layer
from edgectl.operators.integer import IntegerConvolution
from edgectl.operators.shape import Concatenate
from tests.edgectl.codegen.offload.integer_models import ModelBuilder

POINT = IntegerConvolution(shift=9)


def placed(net: ModelBuilder, value: str, *outputs: str) -> list[Layer]:
    """All of the network's layers as one program with `outputs`."""
    context = Context(net.model(value, *outputs), DEFAULT_CONFIG)
    candidates, _ = match(context, "all", True)
    return list(place(context, list(candidates.values()), {f"{name}.packed" for name in (value, *outputs)}))


def lie(activation: Activation) -> tuple[str, int, int, int]:
    return activation.name, activation.first_channel, activation.channels, activation.storage_channels


def parts(net: ModelBuilder, *channels: int) -> list[str]:
    x = net.input(16, 3, 3)
    return [net.convolution(POINT, x, count, (1, 1)) for count in channels]


def test_parts_have_their_place_in_the_whole() -> None:
    net = ModelBuilder(0, DEFAULT_CONFIG)
    layers = placed(net, net.add(Concatenate(), *parts(net, 16, 32, 5)))
    assert [lie(layer.out) for layer in layers] == [
        ("n3.packed", 0, 16, 53),
        ("n3.packed", 16, 32, 53),
        ("n3.packed", 48, 5, 53),
    ]


def test_an_inner_whole_has_its_place_in_the_outer_one() -> None:
    net = ModelBuilder(0, DEFAULT_CONFIG)
    a, b, c = parts(net, 16, 16, 16)
    inner = net.add(Concatenate(), b, c)
    net.add(Concatenate(), a, inner)
    reader = net.convolution(POINT, inner, 16, (1, 1))
    layers = placed(net, net.add(Concatenate(), net.computed[4], reader))
    assert [lie(layer.out) for layer in layers] == [("n6.packed", at, 16, 64) for at in (0, 16, 32, 48)]
    assert lie(layers[-1].x) == ("n6.packed", 16, 32, 64)


def test_what_has_a_place_already_is_copied_where_it_is_needed_again() -> None:
    net = ModelBuilder(0, DEFAULT_CONFIG)
    a, b = parts(net, 16, 16)
    first = net.add(Concatenate(), a, b)
    second = net.add(Concatenate(), b, a, b)
    layers = placed(net, second, first)
    wheres = {layer.out.name: [] for layer in layers}  # type: ignore[var-annotated]
    for layer in layers:
        wheres[layer.out.name].append((layer.out.first_channel, layer.covers))
    # The later concatenation takes both parts in place; the earlier one and the part that comes twice are copied.
    assert sorted(wheres["n3.packed"]) == [(0, ("n1",)), (16, ("n0",)), (32, ())]
    assert sorted(wheres["n2.packed"]) == [(0, ()), (16, ())]
    for layer in layers:
        if not layer.covers:
            assert layer.shared and lie(layer.x)[0] == "n3.packed" and not np.any(layer.bias)


def test_outputs_lie_in_tensors_of_their_own() -> None:
    net = ModelBuilder(0, DEFAULT_CONFIG)
    a, b = parts(net, 16, 16)
    layers = placed(net, net.add(Concatenate(), a, b), a)
    assert [lie(layer.out) for layer in layers] == [
        ("n0.packed", 0, 16, 0),
        ("n2.packed", 16, 16, 32),
        ("n2.packed", 0, 16, 32),
    ]
    assert lie(layers[2].x) == ("n0.packed", 0, 16, 0)
