"""Equalization: the same function, channels of more alike ranges."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgectl.graph import Model
from edgectl.interpreter import interpret_images
from edgectl.operators.activation import Relu, Sigmoid
from edgectl.operators.elementwise import Binary
from edgectl.quantization.calibration import Observation, observe, synthetic_images
from edgectl.quantization.channel_groups import channel_groups
from edgectl.quantization.equalization import equalized
from edgectl.quantization.folding import fold_batch_norm
from tests.edgectl.quantization.networks import NETWORKS, NetworkBuilder, residual_network


def _equalized(model: Model) -> tuple[Model, Model, dict[str, Observation], dict[str, Observation], np.ndarray]:
    folded = fold_batch_norm(model)
    images = synthetic_images(None, model.inputs["data"].shape, 8, 0)
    before = observe(folded, images)
    after, seen = equalized(folded, before)
    return folded, after, before, seen, images


@pytest.mark.parametrize("name", NETWORKS)
def test_the_function_stays_the_same(name: str) -> None:
    folded, after, _, _, images = _equalized(NETWORKS[name]())
    np.testing.assert_allclose(interpret_images(after, images), interpret_images(folded, images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_said_of_the_values_is_what_they_look_like(name: str) -> None:
    _, after, _, seen, images = _equalized(NETWORKS[name]())
    for value, found in observe(after, images).items():
        np.testing.assert_allclose(seen[value].channels, found.channels, rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(seen[value].means, found.means, rtol=1e-3, atol=1e-4)


def test_ranges_come_nearer_to_each_other() -> None:
    net = NetworkBuilder((1, 16, 8, 8))
    x = net.add("relu", Relu(), net.convolution("first", "data", (16, 16)))
    net.parameters["first.w"] *= np.geomspace(0.1, 1, 16).astype(np.float32).reshape(-1, 1, 1, 1)
    _, _, before, seen, _ = _equalized(net.model(net.convolution("second", x, (16, 8))))
    spread = [float(np.log2(o["relu"].channels.max() / o["relu"].channels.min())) for o in (before, seen)]
    assert spread[1] < 0.7 * spread[0]


def test_what_a_relu_cuts_off_does_not_count() -> None:
    net = NetworkBuilder((1, 16, 8, 8))
    x = net.add("relu", Relu(), net.convolution("first", "data", (16, 16)))
    model = net.model(net.convolution("second", x, (16, 8)))
    images = synthetic_images(None, (1, 16, 8, 8), 8, 0)
    seen = observe(model, images)
    doubled = {**seen, "first": replace(seen["first"], channels=seen["first"].channels * np.geomspace(1, 9, 16))}
    found, same = (equalized(model, observations)[1]["relu"].channels for observations in (seen, doubled))
    np.testing.assert_array_equal(found, same)


def test_a_residual_stream_has_one_factor_for_each_channel() -> None:
    groups = {frozenset(group) for group in channel_groups(fold_batch_norm(residual_network()))}
    assert frozenset({"bn0", "relu0", "pool", "bn2", "add1", "relu2"}) in groups
    assert frozenset({"bn1", "relu1"}) in groups
    assert not any("fc" in group for group in groups)


def test_what_does_not_keep_factors_gets_none() -> None:
    net = NetworkBuilder((1, 16, 8, 8))
    a, b = net.convolution("a", "data", (16, 16)), net.convolution("b", "data", (16, 16))
    product = net.add("product", Binary("multiply"), a, net.add("gate", Sigmoid(), b))
    groups = channel_groups(net.model(net.convolution("last", product, (16, 8))))
    assert groups == [["data"]]
