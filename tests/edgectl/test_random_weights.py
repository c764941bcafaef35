"""Random weights: seeded, of the right shapes, and with activations as a trained network has them."""

from __future__ import annotations

import numpy as np
import pytest

from edgectl.frontends import zoo
from edgectl.interpreter import interpret
from edgectl.random_weights import random_parameters, synthetic_inputs

SMALL = {"data": (1, 3, 64, 64)}


@pytest.fixture(scope="module")
def resnet() -> zoo.Model:
    return zoo.load("resnet18_v2", SMALL)


def test_the_seed_decides(resnet: zoo.Model) -> None:
    first, again, other = (random_parameters(resnet, seed) for seed in (1, 1, 2))
    assert first.keys() == resnet.parameters.keys()
    for name, array in first.items():
        assert (array.shape, array.dtype) == (resnet.parameters[name].shape, np.float32)
        np.testing.assert_array_equal(array, again[name])
        assert not np.array_equal(array, other[name])


def test_convolutions_have_hes_variance(resnet: zoo.Model) -> None:
    weight = random_parameters(resnet, 0)["resnetv20_stage4_conv1_weight"]
    assert weight.std() == pytest.approx(np.sqrt(2 / (512 * 9)), rel=0.01)


@pytest.mark.parametrize("name", ["resnet18_v1", "resnet18_v2", "mobilenetv2_0.25", "squeezenet1.1"])
def test_activations_stay_in_range_on_other_inputs(name: str) -> None:
    shapes = None if name == "squeezenet1.1" else SMALL
    model = zoo.find(name).model(random_parameters(zoo.load(name, shapes), 3), shapes)
    deviations: dict[str, float] = {}

    def observe(node: str, array: np.ndarray) -> None:
        deviations[node] = float(array.std())

    interpret(model, synthetic_inputs(model, 2, seed=4), observe)
    assert min(deviations.values()) > 0.05
    assert max(deviations.values()) < 20


def test_batch_normalisation_normalises_its_input(resnet: zoo.Model) -> None:
    model = zoo.find("resnet18_v2").model(random_parameters(resnet, 5), SMALL)
    seen: dict[str, np.ndarray] = {}
    interpret(model, synthetic_inputs(model, 2, seed=5), seen.__setitem__)
    for node in model.nodes:
        if node.operator.kind == "batch_norm" and "stage" in node.name:
            out, beta = seen[node.name], model.parameters[node.inputs[2]]
            np.testing.assert_allclose(out.mean(axis=(0, 2, 3)), beta, atol=1e-2)


def test_synthetic_inputs_resemble_preprocessed_photographs() -> None:
    model = zoo.load("resnet18_v1")
    images = synthetic_inputs(model, 3, seed=0)["data"]
    assert (images.shape, images.dtype) == ((3, 3, 224, 224), np.float32)
    how = model.preprocessing
    assert how is not None
    pixels = images * np.reshape(how.std, (1, 3, 1, 1)) + np.reshape(how.mean, (1, 3, 1, 1))
    assert pixels.min() > -1e-6 and pixels.max() < 1 + 1e-6
    # Neighbours resemble each other, as in photographs.
    line = pixels[:, :, :, 1:].ravel(), pixels[:, :, :, :-1].ravel()
    assert np.corrcoef(*line)[0, 1] > 0.5
