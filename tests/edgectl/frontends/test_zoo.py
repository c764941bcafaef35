"""Networks by name: what ships is complete, and computes what MXNet computes."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from edgectl.errors import ModelError
from edgectl.frontends import zoo
from edgectl.frontends.parameter_names import STRUCTURAL_NAME, block_prefix
from edgectl.graph import Model
from edgectl.interchange.mxnet import write_checkpoint
from edgectl.interchange.symbol_file import parse_symbol
from edgectl.interpreter import interpret
from edgectl.random_weights import random_parameters, synthetic_inputs

RESNETS = ["resnet18_v1", "resnet34_v1", "resnet18_v2", "resnet34_v2", "resnet50_v2", "resnet101_v2"]
# Multiply-accumulates of the convolutions of one inference, from the published topologies.
CONVOLUTION_MACS = {"resnet18_v1": 1_813_561_344, "resnet34_v1": 3_663_249_408}


@pytest.mark.parametrize("name", zoo.names())
def test_loads_without_weights(name: str) -> None:
    model = zoo.load(name)
    entry = zoo.find(name)
    assert model.name == name
    assert model.types()[model.outputs[0]].shape == (1, len(model.labels))
    assert {key: kind.shape for key, kind in model.inputs.items()} == {"data": entry.input_shape}
    assert model.preprocessing is not None and model.preprocessing.crop == entry.input_shape[2:]


def test_has_the_six_resnets_and_the_demo_model() -> None:
    assert set(RESNETS) <= set(zoo.names())
    assert "resnet20_cifar10" in zoo.names()


@pytest.mark.parametrize(("name", "expected"), CONVOLUTION_MACS.items())
def test_arithmetic_is_that_of_the_published_network(name: str, expected: int) -> None:
    model = zoo.load(name)
    types = model.types()
    macs = 0
    for node in model.nodes:
        if node.operator.kind == "convolution":
            weight, out = types[node.inputs[1]], types[node.name]
            macs += int(np.prod(out.shape) * np.prod(weight.shape[1:]))
    assert macs == expected


def test_layers_keep_gluons_names() -> None:
    model = zoo.load("resnet18_v1")
    assert "resnetv10_conv0_weight" in model.parameters
    assert model.nodes[0].name == model.nodes[0].source == "resnetv10_conv0_fwd"
    assert model.outputs == ("resnetv10_dense0_fwd",)


def test_unknown_name_suggests_and_says_how_to_give_a_checkpoint() -> None:
    with pytest.raises(ModelError, match=r"did you mean resnet18_v1 or resnet18_v2.*PREFIX-symbol\.json"):
        zoo.load("resnet-18-v1x")


@pytest.mark.parametrize("name", ["resnet_18_v1", "resnet_18", "ResNet18", "RESNET-18V1"])
def test_case_and_separators_do_not_hide_the_nearest_name(name: str) -> None:
    with pytest.raises(ModelError, match="did you mean resnet18_v"):
        zoo.load(name)


@pytest.mark.parametrize("naming", ["exported", "other instance", "without prefix", "structural"])
def test_parameters_are_found_under_each_of_gluons_names(naming: str) -> None:
    entry = zoo.find("squeezenet1.1")
    text = entry.symbol_text()
    structural = {
        node.name: node.attributes[STRUCTURAL_NAME]
        for node in parse_symbol(text, "").nodes
        if STRUCTURAL_NAME in node.attributes
    }
    prefix = block_prefix(structural)
    rename = {
        "exported": lambda name: name,
        "other instance": lambda name: name.replace(prefix, "squeezenet3_"),
        "without prefix": lambda name: name.replace(prefix, ""),
        "structural": structural.__getitem__,
    }[naming]
    generator = np.random.default_rng(0)
    arrays = {
        name: generator.standard_normal(array.shape).astype(np.float32)
        for name, array in zoo.blank_parameters(text).items()
    }
    model = entry.model({rename(name): array for name, array in arrays.items()})
    assert model.parameters.keys() == arrays.keys()
    assert all(np.array_equal(model.parameters[name], array) for name, array in arrays.items())


def test_parameters_of_another_network_are_refused() -> None:
    other = zoo.blank_parameters(zoo.find("resnet34_v2").symbol_text())
    with pytest.raises(ModelError, match="resnet18_v1"):
        zoo.find("resnet18_v1").model(other)


@pytest.mark.mxnet
@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("mxnet") is None, reason="MXNet is not installed (extra `mxnet`)")
@pytest.mark.parametrize("name", zoo.names())
def test_equals_mxnet_with_random_weights(name: str, tmp_path: Path) -> None:
    from edgectl.frontends.mxnet import import_mxnet

    mxnet = import_mxnet()
    entry = zoo.find(name)
    model = entry.model(random_parameters(zoo.load(name), seed=1))
    inputs = synthetic_inputs(model, 1, seed=2)
    paths = write_checkpoint(tmp_path / "network", entry.symbol_text(), model.parameters)
    block = mxnet.gluon.SymbolBlock.imports(str(paths.symbol), ["data"], str(paths.parameters))
    reference = block(mxnet.nd.array(inputs["data"])).asnumpy()
    result = interpret(model, inputs)[model.outputs[0]]
    exact = in_double_precision(model, inputs)
    scale = np.abs(exact).max()
    assert np.abs(reference - exact).max() < 1e-3 * scale
    # A hundred layers of random weights amplify rounding errors: the yardstick is then MXNet's own.
    assert np.abs(result - exact).max() <= max(1e-4 * scale, 1.5 * np.abs(reference - exact).max())


def in_double_precision(model: Model, inputs: dict[str, np.ndarray]) -> np.ndarray:
    values = {name: array.astype(np.float64) for name, array in {**model.parameters, **inputs}.items()}
    for node in model.nodes:
        values[node.name] = node.operator.evaluate(*(values[name] for name in node.inputs))
    return values[model.outputs[0]]
