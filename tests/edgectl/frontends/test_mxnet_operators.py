"""Every converted operator computes what MXNet computes: recorded, and live where MXNet is installed."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgectl.errors import ModelError
from edgectl.frontends.mxnet import from_symbol
from edgectl.frontends.mxnet_operators import CONVERTERS
from edgectl.interchange.symbol_file import parse_symbol
from edgectl.interpreter import interpret
from tests.edgectl.frontends.mxnet_cases import CASES

RECORDED = Path(__file__).parent / "recorded" / "operators.npz"
with np.load(RECORDED) as _file:
    INDEX = json.loads(_file["index"].tobytes())
    VALUES = _file["values"]


def recorded(place: dict[str, Any]) -> np.ndarray:
    size = int(np.prod(place["shape"]))
    return VALUES[place["offset"] : place["offset"] + size].reshape(place["shape"])


def recorded_case(name: str) -> tuple[str, dict[str, np.ndarray], np.ndarray, list[np.ndarray]]:
    entry = INDEX[name]
    parameters = {key: recorded(place) for key, place in entry["parameters"].items()}
    return entry["symbol"], parameters, recorded(entry["input"]), [recorded(place) for place in entry["outputs"]]


def test_every_case_is_recorded() -> None:
    assert list(INDEX) == list(CASES)


@pytest.mark.parametrize("name", INDEX)
def test_operator_computes_what_mxnet_recorded(name: str) -> None:
    symbol, parameters, x, expected = recorded_case(name)
    model = from_symbol(symbol, parameters, {"data": x.shape})
    results = interpret(model, {"data": x})
    types = model.types()
    assert len(model.outputs) == len(expected)
    for output, reference in zip(model.outputs, expected, strict=True):
        assert types[output].shape == reference.shape
        assert results[output].dtype == np.float32
        np.testing.assert_allclose(results[output], reference, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", INDEX)
def test_declared_batch_does_not_matter(name: str) -> None:
    symbol, parameters, x, expected = recorded_case(name)
    model = from_symbol(symbol, parameters, {"data": (1, *x.shape[1:])})
    results = interpret(model, {"data": x})
    for output, reference in zip(model.outputs, expected, strict=True):
        np.testing.assert_allclose(results[output], reference, rtol=1e-5, atol=1e-5)


@pytest.mark.mxnet
@pytest.mark.skipif(importlib.util.find_spec("mxnet") is None, reason="MXNet is not installed (extra `mxnet`)")
@pytest.mark.parametrize("name", CASES)
def test_recordings_are_what_mxnet_computes(name: str) -> None:
    from edgectl.frontends.mxnet import import_mxnet
    from tests.edgectl.frontends.record_mxnet import evaluate

    mxnet = import_mxnet()
    symbol, parameters, x, expected = recorded_case(name)
    results = evaluate(mxnet, mxnet.sym.load_json(symbol), parameters, {"data": x})
    for result, reference in zip(results, expected, strict=True):
        np.testing.assert_allclose(result, reference, rtol=1e-5, atol=1e-5)


def test_table_covers_the_zoo() -> None:
    from edgectl.frontends import zoo

    used = {
        node.op
        for name in zoo.names()
        for node in parse_symbol(zoo.find(name).symbol_text(), name).nodes
        if not node.is_variable
    }
    assert used <= CONVERTERS.keys()


def symbol_of(op: str, attributes: dict[str, str], *parameters: str) -> str:
    nodes: list[dict[str, Any]] = [{"op": "null", "name": name, "inputs": []} for name in ("data", *parameters)]
    inputs = [[index, 0, 0] for index in range(len(nodes))]
    nodes.append({"op": op, "name": "layer1", "attrs": attributes, "inputs": inputs})
    return json.dumps({"nodes": nodes, "heads": [[len(nodes) - 1, 0, 0]]})


@pytest.mark.parametrize(
    ("op", "attributes", "message"),
    [
        ("Convolution", {"kernel": "(3,)", "num_filter": "2"}, "only two-dimensional"),
        ("Convolution", {"kernel": "(3, 3)", "num_filter": "2", "layout": "NHWC"}, "layout=NHWC"),
        ("Convolution", {"kernel": "(3, 3)"}, "'num_filter' is missing"),
        ("Convolution", {"kernel": "(3, x)", "num_filter": "2"}, "not a tuple of integers"),
        ("Convolution", {"kernel": "(3, 3)", "num_filter": "3", "num_group": "2"}, "do not divide into 2 groups"),
        ("Activation", {"act_type": "softsign"}, "act_type=softsign"),
        ("LeakyReLU", {"act_type": "prelu"}, "act_type=prelu"),
        ("LRN", {"nsize": "4"}, "only odd numbers"),
        ("UpSampling", {"scale": "2", "sample_type": "bilinear"}, "sample_type=bilinear"),
        ("repeat", {"repeats": "2", "axis": "1"}, "only the two spatial axes"),
        ("Pooling", {"kernel": "(2, 2)", "pool_type": "lp"}, "pool_type=lp"),
        ("Pooling", {"kernel": "(1, 1)", "stride": "(4, 4)", "pooling_convention": "full"}, "outside of the image"),
        ("BatchNorm", {"axis": "3"}, "axis=3"),
        ("Reshape", {"shape": "(-1, 3)"}, "does not keep the batch"),
        ("Reshape", {"shape": "(-3, 0, 0)"}, "does not keep the batch"),
        ("Reshape", {"shape": "(0, -4, 3, -1, -2)"}, "does not keep the batch"),
        ("Reshape", {"shape": "(0, 0, 0, -3)"}, "does not fit an input"),
        ("Reshape", {"shape": "(0, -4, 2)"}, "does not fit an input"),
        ("Reshape", {"shape": "(0, -5)"}, "does not fit an input"),
        ("expand_dims", {"axis": "0"}, "does not keep the batch"),
        ("squeeze", {"axis": "2"}, "is not of size 1"),
        ("squeeze", {"axis": "0"}, "does not keep the batch"),
        ("SwapAxis", {"dim1": "0", "dim2": "1"}, "batch axis"),
        ("SliceChannel", {"num_outputs": "3"}, "3 parts of axis 1"),
        ("SliceChannel", {"num_outputs": "2", "squeeze_axis": "True"}, "squeeze_axis"),
        ("transpose", {"axes": "(1, 0, 2, 3)"}, "batch axis"),
        ("Pad", {"mode": "edge", "pad_width": "(0,0,0,0,1,1,1,1)"}, "mode=edge"),
        ("Pad", {"mode": "constant", "pad_width": "(0,0,1,0,1,1,1,1)"}, "only the two spatial axes"),
        ("FullyConnected", {"num_hidden": "2", "flatten": "False"}, "flatten=False"),
        ("mean", {"axis": "1"}, "only the two spatial axes"),
        ("softmax", {"temperature": "2.0"}, "temperature"),
        ("clip", {"a_min": "zero", "a_max": "6"}, "not a number"),
        ("relu", {"surprising": "1"}, "surprising=1"),
        ("SoftmaxOutput", {}, "softmax over an input of shape"),
    ],
)
def test_unsupported_attribute_names_operator_layer_and_value(
    op: str, attributes: dict[str, str], message: str
) -> None:
    with pytest.raises(ModelError) as caught:
        from_symbol(symbol_of(op, attributes, "weight"), {}, {"data": (1, 4, 6, 6)})
    assert message in str(caught.value)
    assert "layer1" in str(caught.value)


ODD_VALUES = [
    "0", "-1", "1", "2", "7", "1e400", "nan", "(0, 0)", "(-1, 2)", "(1, 1)", "()", "(2,)", "None", "True", "((", "x",
]  # fmt: skip


def test_a_clip_on_one_side() -> None:
    symbol = symbol_of("clip", {"a_min": "0", "a_max": "inf"})
    x = np.array([[-1.0, 2.0]], np.float32)
    np.testing.assert_array_equal(interpret(from_symbol(symbol, {}, {"data": (1, 2)}), {"data": x})["layer1"], [[0, 2]])


@settings(max_examples=400)
@given(st.data())
def test_damaged_attributes_are_refused_or_harmless(data: st.DataObject) -> None:
    symbol, parameters, x, _ = recorded_case(data.draw(st.sampled_from(list(INDEX))))
    document = json.loads(symbol)
    nodes = [node for node in document["nodes"] if node.get("attrs")]
    for node in nodes:
        key = data.draw(st.sampled_from(sorted(node["attrs"])))
        node["attrs"][key] = data.draw(st.sampled_from(ODD_VALUES))
    try:
        model = from_symbol(json.dumps(document), parameters, {"data": x.shape})
    except ModelError as error:
        assert "the symbol" in str(error)
    else:
        types = model.types()
        for name, result in interpret(model, {"data": x}).items():
            assert result.shape == types[name].shape
