"""What is written for MXNet computes the same: read again here, run by stock MXNet where that is installed."""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgectl.errors import ModelError
from edgectl.frontends.mxnet import from_checkpoint, from_symbol, import_mxnet
from edgectl.graph import Model
from edgectl.interchange.mxnet import write_checkpoint
from edgectl.interchange.mxnet_writer import WRITERS, to_symbol
from edgectl.interpreter import interpret
from edgectl.operators.activation import Clip
from edgectl.operators.base import Operator
from edgectl.operators.convolution import Convolution
from edgectl.operators.pixels import QuantizePixels
from edgectl.operators.pooling import AveragePool, MaxPool
from edgectl.operators.shape import Slice
from tests.edgectl.frontends.test_mxnet_operators import INDEX, recorded_case
from tests.edgectl.interchange.networks import (
    bottleneck_model,
    bottleneck_without_gamma,
    one_operator,
    random_inputs,
    two_inputs,
)
from tests.edgectl.interchange.old_resnet import old_checkpoint

needs_mxnet = pytest.mark.skipif(importlib.util.find_spec("mxnet") is None, reason="MXNet is not installed (`mxnet`)")


def written_arrays(model: Model) -> tuple[str, dict[str, np.ndarray]]:
    symbol, translation = to_symbol(model)
    return symbol, {parameter.target: parameter.array for parameter in translation.parameters}


def read_again(model: Model) -> Model:
    symbol, arrays = written_arrays(model)
    return from_symbol(symbol, arrays, {name: kind.shape for name, kind in model.inputs.items()})


def assert_same(model: Model, other: Model, tolerance: float = 0.0) -> None:
    inputs = random_inputs(model)
    ours, theirs = interpret(model, inputs), interpret(other, inputs)
    assert len(model.outputs) == len(other.outputs)
    for mine, its in zip(model.outputs, other.outputs, strict=True):
        np.testing.assert_allclose(theirs[its], ours[mine], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", INDEX)
def test_every_operator_is_read_again_as_it_was(name: str) -> None:
    symbol, parameters, x, _ = recorded_case(name)
    assert_same(model := from_symbol(symbol, parameters, {"data": x.shape}), read_again(model))


@pytest.mark.mxnet
@needs_mxnet
@pytest.mark.parametrize("name", INDEX)
def test_every_operator_is_what_mxnet_computes(name: str) -> None:
    from tests.edgectl.frontends.record_mxnet import evaluate

    mxnet = import_mxnet()
    symbol, parameters, x, expected = recorded_case(name)
    text, arrays = written_arrays(from_symbol(symbol, parameters, {"data": x.shape}))
    for result, reference in zip(
        evaluate(mxnet, mxnet.sym.load_json(text), arrays, {"data": x}), expected, strict=True
    ):
        np.testing.assert_allclose(result, reference, rtol=1e-5, atol=1e-5)


def small(least: int, most: int) -> st.SearchStrategy[int]:
    return st.integers(least, most)


@st.composite
def pools(draw: st.DrawFn) -> tuple[Operator, tuple[int, ...]]:
    """Pools of every padding, most of which no framework can say by itself."""
    kernel = draw(small(1, 4)), draw(small(1, 4))
    strides = draw(small(1, 3)), draw(small(1, 3))
    padding = tuple(draw(small(0, kernel[side % 2] - 1)) for side in range(4))
    shape = (1, 2, draw(small(4, 9)), draw(small(4, 9)))
    if draw(st.booleans()):
        return MaxPool(kernel, strides, padding), shape
    ceil = draw(small(0, strides[0] - 1)), draw(small(0, strides[1] - 1))
    ceil = min(ceil[0], kernel[0] - 1), min(ceil[1], kernel[1] - 1)
    return AveragePool(kernel, strides, padding, draw(st.booleans()), ceil), shape


def sound(operator: Any, shape: tuple[int, ...]) -> bool:
    """Whether each window counts a pixel."""
    return isinstance(operator, MaxPool) or bool((operator.divisors(*shape[2:]) > 0).all())


@settings(max_examples=80)
@given(pools())
def test_pools_of_every_padding(case: tuple[Operator, tuple[int, ...]]) -> None:
    operator, shape = case
    if sound(operator, shape) and np.isfinite(operator.evaluate(np.zeros(shape, np.float32))).all():
        assert_same(model := one_operator(operator, shape), read_again(model), 1e-6)


@pytest.mark.mxnet
@needs_mxnet
@settings(max_examples=30)
@given(pools())
def test_pools_of_every_padding_in_mxnet(case: tuple[Operator, tuple[int, ...]]) -> None:
    from tests.edgectl.frontends.record_mxnet import evaluate

    operator, shape = case
    if not sound(operator, shape) or not np.isfinite(operator.evaluate(np.zeros(shape, np.float32))).all():
        return
    mxnet, model = import_mxnet(), one_operator(operator, shape)
    text, arrays = written_arrays(model)
    inputs = random_inputs(model)
    (result,) = evaluate(mxnet, mxnet.sym.load_json(text), arrays, inputs)
    np.testing.assert_allclose(result, interpret(model, inputs)["layer"], rtol=1e-5, atol=1e-5)


def test_ceil_conventions_are_said_as_mxnet_says_them() -> None:
    """Squeezenet's pools: 3 x 3 by 2 over 7 pixels and "full" need nothing but the convention."""
    node = json.loads(to_symbol(one_operator(MaxPool((3, 3), (2, 2), (0, 0, 1, 1)), (1, 2, 6, 6)))[0])["nodes"][-1]
    assert node["attrs"] == {
        "kernel": "(3, 3)", "stride": "(2, 2)", "pool_type": "max", "pad": "(0, 0)", "pooling_convention": "full",
    }  # fmt: skip


@pytest.mark.parametrize(
    "operator",
    [Slice(1, 1, 3), Slice(3, 0, 5, 2), Clip(-math.inf, 0.5), Clip(0.0, math.inf)],
)
def test_operators_of_other_frameworks(operator: Operator) -> None:
    assert_same(model := one_operator(operator, (1, 4, 5, 6)), read_again(model))


def test_uneven_padding_becomes_a_layer_of_its_own() -> None:
    weight = np.random.default_rng(0).standard_normal((2, 3, 3, 3)).astype(np.float32)
    model = one_operator(Convolution((2, 2), (0, 1, 2, 3)), (1, 3, 9, 9), {"weight": weight})
    assert [node["op"] for node in json.loads(to_symbol(model)[0])["nodes"]] == ["null", "Pad", "null", "Convolution"]
    assert_same(model, read_again(model))


def test_names_of_module_paths_become_those_of_mxnet() -> None:
    symbol, arrays = written_arrays(two_inputs())
    assert list(arrays) == [
        "branch_conv_weight", "branch_conv_bias", "norm_gamma", "norm_beta", "norm_moving_mean", "norm_moving_var",
        "scale", "head_weight",
    ]  # fmt: skip
    nodes = {node["name"]: node for node in json.loads(symbol)["nodes"]}
    attributes = nodes["norm"]["attrs"]
    assert (attributes["eps"], attributes["momentum"], attributes["fix_gamma"]) == ("0.001", "0.99", "True")
    assert {"left", "right", "branch_conv", "again", "head"} <= nodes.keys()


def test_names_of_mxnet_stay() -> None:
    _, parameters, model = old_checkpoint((1, 2, 1, 1), (8, 16, 16, 16, 16), 7, 32)
    symbol, arrays = written_arrays(model)
    assert arrays.keys() == parameters.keys() >= {"stage1_unit1_bn1_gamma", "bn_data_moving_mean", "fc1_weight"}
    assert {node.name for node in model.nodes} <= {node["name"] for node in json.loads(symbol)["nodes"]}
    assert_same(model, read_again(model))


def test_fixed_gamma_and_absent_beta_are_written_out() -> None:
    model = bottleneck_model()
    _, arrays = written_arrays(model)
    np.testing.assert_array_equal(arrays["bn_gamma"], np.ones(5))
    np.testing.assert_array_equal(arrays["bn_beta"], np.zeros(5))
    assert_same(model, read_again(model))


def test_several_inputs_and_outputs_are_read_again() -> None:
    assert_same(model := two_inputs(), read_again(model))


def test_every_float_operator_can_be_written() -> None:
    from edgectl.frontends.compositions import __dict__ as used

    made = {value for value in used.values() if isinstance(value, type) and issubclass(value, Operator)}
    assert made - {Operator} <= WRITERS.keys()


def test_what_mxnet_cannot_say_is_listed() -> None:
    model = one_operator(QuantizePixels(), (1, 3, 4, 4))
    with pytest.raises(ModelError, match=r"operator 'quantize_pixels' is not supported \(layer layer\)"):
        to_symbol(model)


@pytest.fixture
def checkpoint(tmp_path: Path) -> tuple[Model, Path]:
    model = two_inputs()
    write_checkpoint(tmp_path / "net", *written_arrays(model))
    return model, tmp_path / "net"


def test_shapes_are_recorded(checkpoint: tuple[Model, Path]) -> None:
    assert from_checkpoint(checkpoint[1]).inputs == checkpoint[0].inputs


@pytest.mark.mxnet
@needs_mxnet
def test_a_module_binds_several_inputs_by_any_name_and_batch(checkpoint: tuple[Model, Path]) -> None:
    mxnet, (model, prefix) = import_mxnet(), checkpoint
    symbol, arguments, states = mxnet.model.load_checkpoint(str(prefix), 0)
    inputs = random_inputs(model, batch=3)
    module = mxnet.mod.Module(symbol, data_names=("left", "right"), label_names=None, context=mxnet.cpu())
    module.bind([(name, array.shape) for name, array in inputs.items()], for_training=False)
    module.set_params(arguments, states)
    module.forward(mxnet.io.DataBatch([mxnet.nd.array(array) for array in inputs.values()]), is_train=False)
    expected = interpret(model, inputs)
    for name, result in zip(model.outputs, module.get_outputs(), strict=True):
        np.testing.assert_allclose(result.asnumpy(), expected[name], rtol=1e-4, atol=1e-4)


@pytest.mark.mxnet
@needs_mxnet
def test_gluon_imports_it_as_a_block(checkpoint: tuple[Model, Path]) -> None:
    mxnet, (model, prefix) = import_mxnet(), checkpoint
    block = mxnet.gluon.SymbolBlock.imports(f"{prefix}-symbol.json", ["left", "right"], f"{prefix}-0000.params")
    inputs = random_inputs(model, batch=3)
    results = block(*(mxnet.nd.array(array) for array in inputs.values()))
    expected = interpret(model, inputs)
    for name, result in zip(model.outputs, results, strict=True):
        np.testing.assert_allclose(result.asnumpy(), expected[name], rtol=1e-4, atol=1e-4)


@pytest.mark.mxnet
@needs_mxnet
def test_a_bottleneck_without_gamma_in_mxnet() -> None:
    """Stock MXNet refuses the file that lacks gamma and beta, and takes ours."""
    from tests.edgectl.frontends.record_mxnet import evaluate

    mxnet, model = import_mxnet(), bottleneck_model()
    assert "bn_gamma" not in bottleneck_without_gamma()[1]
    text, arrays = written_arrays(model)
    inputs = random_inputs(model)
    (result,) = evaluate(mxnet, mxnet.sym.load_json(text), arrays, inputs)
    np.testing.assert_allclose(result, interpret(model, inputs)["bn"], rtol=1e-5, atol=1e-5)
