"""Checkpoints, symbols and blocks become Models; what is missing or unknown is named."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgectl.errors import ModelError
from edgectl.frontends.mxnet import from_block, from_checkpoint, from_symbol, import_mxnet
from edgectl.interchange.mxnet import read_parameters, write_checkpoint
from edgectl.interpreter import interpret, interpret_images

RECORDED = Path(__file__).parent / "recorded"
NETWORK = RECORDED / "network"
SHARED = Path(__file__).parents[4] / "shared" / "data"
SYMBOL = (RECORDED / "network-symbol.json").read_text()
with np.load(RECORDED / "network-expected.npz") as _file:
    INPUT, EXPECTED = _file["input"], _file["output"]
SHAPES = {"data": (1, *INPUT.shape[1:])}

needs_mxnet = pytest.mark.skipif(
    importlib.util.find_spec("mxnet") is None, reason="MXNet is not installed (extra `mxnet`)"
)


@pytest.mark.parametrize("symbol", ["network", "network-attr", "network-param"])
@pytest.mark.parametrize("params", ["network-0000", "network-v1", "network-headerless", "network-v3"])
def test_every_age_of_checkpoint_computes_what_mxnet_computed(symbol: str, params: str) -> None:
    model = from_checkpoint(RECORDED / symbol, RECORDED / f"{params}.params", input_shapes=SHAPES)
    np.testing.assert_allclose(interpret(model, {"data": INPUT})["softmax"], EXPECTED, rtol=1e-5, atol=1e-6)


def test_names_survive() -> None:
    model = from_checkpoint(NETWORK, input_shapes=SHAPES)
    assert model.name == "network"
    assert list(model.inputs) == ["data"]
    assert model.outputs == ("softmax",)
    assert [node.source for node in model.nodes][:3] == ["bn_data", "conv0", "bn0"]
    assert "conv0_weight" in model.parameters


def test_written_and_read_again_computes_the_same(tmp_path: Path) -> None:
    parameters = read_parameters(RECORDED / "network-0000.params")
    write_checkpoint(tmp_path / "copy", SYMBOL, parameters)
    model = from_checkpoint(tmp_path / "copy", input_shapes=SHAPES)
    original = from_checkpoint(NETWORK, input_shapes=SHAPES)
    results = [interpret(each, {"data": INPUT})["softmax"] for each in (model, original)]
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("name", ["copy-symbol.json", "copy-0005.params", "copy"])
def test_either_file_or_the_prefix_and_an_epoch(name: str, tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "copy", SYMBOL, read_parameters(RECORDED / "network-0000.params"), epoch=5)
    assert from_checkpoint(tmp_path / name, epoch=5, input_shapes=SHAPES).name == "copy"


def test_missing_epoch_names_those_there_are(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "copy", SYMBOL, read_parameters(RECORDED / "network-0000.params"), epoch=5)
    with pytest.raises(ModelError, match=r"copy-0000\.params does not exist; there are copy-0005\.params: give the"):
        from_checkpoint(tmp_path / "copy", input_shapes=SHAPES)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none-symbol\.json"):
        from_checkpoint(tmp_path / "none")
    shutil.copy(RECORDED / "network-symbol.json", tmp_path)
    with pytest.raises(ModelError, match=r"network-0000\.params does not exist; give the path"):
        from_checkpoint(tmp_path / "network")


def test_missing_input_shape_says_how_to_give_it() -> None:
    with pytest.raises(ModelError, match=r"shape of 'data'.*input_shapes=\{'data': \(1, 3, 224, 224\)\}"):
        from_checkpoint(NETWORK)


def test_recorded_input_shape_is_used() -> None:
    document = json.loads(SYMBOL)
    document["nodes"][0]["attrs"] = {"__shape__": str(INPUT.shape)}
    model = from_symbol(json.dumps(document), read_parameters(RECORDED / "network-0000.params"))
    assert model.inputs["data"].shape == INPUT.shape


def test_shape_for_an_input_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ModelError, match=r"no input 'dta'; its inputs are \['data'\]"):
        from_checkpoint(NETWORK, input_shapes={**SHAPES, "dta": (1, 2)})


def test_wrong_input_shape_names_the_layer() -> None:
    with pytest.raises(ModelError, match="bn_data"):
        from_checkpoint(NETWORK, input_shapes={"data": (1, 3, 5, 6)})


def test_missing_parameter_names_layer_and_nearest() -> None:
    parameters = read_parameters(RECORDED / "network-0000.params")
    parameters["conv0_wieght"] = parameters.pop("conv0_weight")
    with pytest.raises(ModelError, match=r"'conv0' needs parameter 'conv0_weight'.*nearest:.* conv0_wieght"):
        from_symbol(SYMBOL, parameters, SHAPES)


def test_parameter_of_another_shape_names_both_shapes() -> None:
    parameters = read_parameters(RECORDED / "network-0000.params")
    parameters["conv0_weight"] = parameters["conv0_weight"][:, :, :2]
    with pytest.raises(ModelError, match=r"shape \[8, 4, 3, 3\], the parameters have \[8, 4, 2, 3\]"):
        from_symbol(SYMBOL, parameters, SHAPES)


def test_parameter_that_is_not_finite_is_refused() -> None:
    parameters = read_parameters(RECORDED / "network-0000.params")
    parameters["fc1_bias"][2] = np.nan
    with pytest.raises(ModelError, match="'fc1_bias' holds values that are not finite"):
        from_symbol(SYMBOL, parameters, SHAPES)


def test_fixed_gamma_needs_no_arrays_but_a_free_one_does() -> None:
    parameters = read_parameters(RECORDED / "network-0000.params")
    reference = interpret(from_symbol(SYMBOL, {**parameters, "bn_data_beta": 0 * parameters["bn_data_beta"]}, SHAPES),
                          {"data": INPUT})  # fmt: skip
    for name in ("bn_data_gamma", "bn_data_beta"):
        del parameters[name]
    result = interpret(from_symbol(SYMBOL, parameters, SHAPES), {"data": INPUT})
    np.testing.assert_array_equal(result["softmax"], reference["softmax"])
    del parameters["bn0_gamma"]
    with pytest.raises(ModelError, match="'bn0' needs parameter 'bn0_gamma'"):
        from_symbol(SYMBOL, parameters, SHAPES)


def test_half_precision_checkpoints_are_widened() -> None:
    parameters = read_parameters(RECORDED / "network-0000.params")
    model = from_symbol(SYMBOL, {name: array.astype(np.float16) for name, array in parameters.items()}, SHAPES)
    assert {str(array.dtype) for array in model.parameters.values()} == {"float32"}
    np.testing.assert_allclose(interpret(model, {"data": INPUT})["softmax"], EXPECTED, atol=1e-2)


def edited(**operators: str) -> str:
    document = json.loads(SYMBOL)
    for node in document["nodes"]:
        node["op"] = operators.get(node["name"], node["op"])
    return json.dumps(document)


def test_all_unsupported_operators_are_listed_at_once() -> None:
    symbol = edited(conv0="Deconvolution", relu0="erfinv", pool1="Deconvolution")
    with pytest.raises(ModelError) as caught:
        from_symbol(symbol, {}, SHAPES, where="net-symbol.json")
    text = str(caught.value)
    assert "operator 'Deconvolution' is not supported (layer conv0, pool1)" in text
    assert "operator 'erfinv' is not supported (layer relu0)" in text
    assert text.startswith("net-symbol.json: ")


def test_unused_unsupported_layers_do_not_matter() -> None:
    document = json.loads(SYMBOL)
    document["nodes"].append({"op": "erfinv", "name": "aside", "inputs": [[0, 0, 0]]})
    from_symbol(json.dumps(document), read_parameters(RECORDED / "network-0000.params"), SHAPES)


def test_an_output_that_inference_does_not_compute_is_refused() -> None:
    document = json.loads(SYMBOL)
    place = [node["name"] for node in document["nodes"]].index("bn0")
    document["heads"] = [[place, 1, 0]]
    with pytest.raises(ModelError, match="output 1 of 'bn0'"):
        from_symbol(json.dumps(document), read_parameters(RECORDED / "network-0000.params"), SHAPES)


def test_without_mxnet_a_block_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mxnet", None)
    with pytest.raises(ModelError, match=r"edgectl\[mxnet\].*libgomp1 libquadmath0"):
        from_block(object(), (1, 3, 8, 8))


@pytest.mark.mxnet
@needs_mxnet
class TestBlocks:
    @staticmethod
    def block() -> Any:
        nn = import_mxnet().gluon.nn
        net = nn.HybridSequential()
        net.add(nn.Conv2D(4, 3), nn.BatchNorm(scale=False), nn.LeakyReLU(0.1))
        net.add(nn.MaxPool2D(2, ceil_mode=True), nn.Dense(5))
        return net

    def test_deferred_block_computes_what_mxnet_computes(self) -> None:
        mxnet = import_mxnet()
        net = self.block()
        net.initialize(mxnet.init.Xavier())
        model = from_block(net, (1, 3, 8, 9))
        x = np.random.default_rng(0).standard_normal((2, 3, 8, 9)).astype(np.float32)
        reference = net(mxnet.nd.array(x)).asnumpy()
        np.testing.assert_allclose(interpret(model, {"data": x})[model.outputs[0]], reference, rtol=1e-4, atol=1e-5)

    def test_exported_block_computes_the_same(self, tmp_path: Path) -> None:
        mxnet = import_mxnet()
        net = self.block()
        net.initialize()
        net.hybridize()
        x = np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)
        reference = net(mxnet.nd.array(x)).asnumpy()
        net.export(str(tmp_path / "net"))
        model = from_checkpoint(tmp_path / "net", input_shapes={"data": (1, 3, 8, 8)})
        np.testing.assert_allclose(interpret(model, {"data": x})[model.outputs[0]], reference, rtol=1e-4, atol=1e-5)

    def test_two_inputs(self) -> None:
        mxnet = import_mxnet()

        class Sum(mxnet.gluon.HybridBlock):  # type: ignore[misc,name-defined]
            def hybrid_forward(self, F: Any, a: Any, b: Any) -> Any:
                return F.relu(a - b)

        net = Sum()
        net.initialize()
        model = from_block(net, {"left": (1, 2, 3, 3), "right": (1, 2, 3, 3)}, "difference")
        a, b = np.random.default_rng(0).standard_normal((2, 1, 2, 3, 3)).astype(np.float32)
        result = interpret(model, {"left": a, "right": b})[model.outputs[0]]
        np.testing.assert_allclose(result, np.maximum(a - b, 0))
        assert model.name == "difference"

    def test_uninitialised_and_ordinary_blocks_are_refused(self) -> None:
        with pytest.raises(ModelError, match=r"call initialize\(\)"):
            from_block(self.block(), (1, 3, 8, 8))
        with pytest.raises(ModelError, match="not a HybridBlock"):
            from_block(object(), (1, 3, 8, 8))


def normalised(pixels: np.ndarray) -> np.ndarray:
    mean, deviation = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
    return ((pixels / 255 - mean) / deviation).transpose(0, 3, 1, 2).astype(np.float32)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data folder is not beside the repository")
def test_real_checkpoint_recognises_its_test_images() -> None:
    model = from_checkpoint(SHARED / "cifar_resnet20_v1", input_shapes={"data": (1, 3, 32, 32)})
    with np.load(SHARED / "cifar10_evaluation.npz") as data:
        scores = interpret_images(model, normalised(data["x"]))
        right = int((scores.argmax(axis=1) == data["y"]).sum())
    assert (len(scores), right) == (900, 847)
