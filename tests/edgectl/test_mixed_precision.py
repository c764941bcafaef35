"""Layers that int8 cannot hold go to floating point, as few as are needed, or the numbers say that none suffice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgectl import mixed_precision
from edgectl.accuracy import measure_agreement
from edgectl.build_cache import BuildCache
from edgectl.building import Build, build
from edgectl.datasets import Dataset
from edgectl.errors import VerificationError
from edgectl.graph import Model
from edgectl.interpreter import interpret_images
from edgectl.mixed_precision import in_float_of, weighted
from edgectl.operators.activation import Relu
from edgectl.operators.pooling import GlobalPool
from edgectl.operators.shape import Flatten
from edgectl.quantization.quantizer import Observed, quantize
from tests.edgectl.quantization.networks import NetworkBuilder

FACTOR = 3000.0


def images(count: int) -> np.ndarray:
    return np.random.default_rng(5).normal(0, 1, (count, 3, 16, 16)).astype(np.float32)


@pytest.fixture(scope="module")
def model() -> Model:
    """One channel between the second and the third convolution is FACTOR times as large as the others: with one scale
    for all, these vanish."""
    network = NetworkBuilder()
    x = network.add("relu1", Relu(), network.convolution("first", "data", (3, 16)))
    x = network.add("relu2", Relu(), network.convolution("second", x, (16, 16)))
    x = network.add("relu3", Relu(), network.convolution("third", x, (16, 16)))
    x = network.add("relu4", Relu(), network.convolution("fourth", x, (16, 16)))
    x = network.add("relu5", Relu(), network.convolution("fifth", x, (16, 16)))
    x = network.add("flat", Flatten(), network.add("mean", GlobalPool(), x))
    built = network.model(network.dense("scores", x, 16, 8))
    for name in network.parameters:
        if name.startswith("second."):
            network.parameters[name][0] *= FACTOR
    network.parameters["third.w"][:, 0] /= FACTOR
    outputs = interpret_images(built, images(200))
    # Every class is the answer now and then, and answers are not close calls.
    network.parameters["scores.b"] -= outputs.mean(axis=0)
    return built


@pytest.fixture(scope="module")
def data() -> Dataset:
    return Dataset(images(200), None)


@pytest.fixture(scope="module")
def mixed(model: Model, data: Dataset) -> Build:
    return build(model, data=data, min_agreement=0.7)


def test_the_layers_that_int8_cannot_hold_are_found(model: Model, data: Dataset, mixed: Build) -> None:
    entry = mixed.manifest["accuracy"]
    assert entry["agreement_all_integer"] < 0.7 <= entry["agreement"]
    assert set(entry["in_float"]) == {"second", "third"} < set(weighted(model))
    assert in_float_of(mixed.manifest) == set(entry["in_float"])
    assert measure_agreement(model, mixed.integer_model, data).agreement.value == entry["agreement"]
    assert {"second", "third"} <= {fallback.layer for fallback in mixed.fallbacks}
    assert mixed.manifest["layers"]["vta"], "the others stay on VTA"


def test_a_build_from_the_cache_has_the_same_layers_in_float(
    model: Model, data: Dataset, mixed: Build, tmp_path: Path
) -> None:
    cache = BuildCache(tmp_path)
    first, second = (build(model, data=data, min_agreement=0.7, cache=cache) for _ in range(2))
    assert second.cached and second.digest == first.digest
    assert in_float_of(second.manifest) == in_float_of(mixed.manifest)
    kinds = [[node.operator.kind for node in built.integer_model.nodes] for built in (first, second)]
    assert kinds[0] == kinds[1]
    assert not build(model, data=data, min_agreement=0.1, cache=cache).cached, "another minimum, another search"


def test_what_takes_most_of_the_network_is_refused_with_the_numbers(
    model: Model, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mixed_precision, "MOST_SHARE", 0.3)
    with pytest.raises(VerificationError, match=r"\n  2 of 6 layers, .* % of all multiplications"):
        build(model, data=data, min_agreement=0.7)


def test_what_float_itself_does_not_reach_is_refused(
    model: Model, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    worse = quantize(model)
    monkeypatch.setattr(Observed, "quantized", lambda *_: worse)
    with pytest.raises(VerificationError, match="not even with all 6 layers in floating point"):
        build(model, data=data, min_agreement=0.9)
