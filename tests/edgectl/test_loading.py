"""One way in: names, checkpoints, blocks, and which weights each gets."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from edgectl.errors import ModelError, UsageError
from edgectl.frontends import zoo
from edgectl.frontends.mxnet import import_mxnet
from edgectl.graph import Preprocessing
from edgectl.images import DEFAULT_IMAGE, load_image
from edgectl.interchange.mxnet import read_parameters, write_checkpoint
from edgectl.interpreter import interpret, interpret_images
from edgectl.loading import load

RECORDED = Path(__file__).parent / "frontends" / "recorded"
SHAPES = {"data": (1, 4, 5, 6)}
SHARED = Path(__file__).parents[3] / "shared" / "data"


def test_the_demo_model_sees_the_cat() -> None:
    model, report = load("resnet20_cifar10", simulated=False)
    assert report.kind == "pretrained"
    assert model.preprocessing is not None
    scores = interpret(model, {"data": load_image(DEFAULT_IMAGE, model.preprocessing)})[model.outputs[0]]
    assert model.labels[int(scores.argmax())] == "cat"


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data folder is not beside the repository")
def test_the_demo_model_recognises_real_test_images() -> None:
    model, _ = load("resnet20_cifar10")
    how = model.preprocessing
    assert how is not None
    with np.load(SHARED / "cifar10_evaluation.npz") as data:
        pixels = (data["x"] / 255 - how.mean) / how.std
        scores = interpret_images(model, pixels.transpose(0, 3, 1, 2).astype(np.float32))
        assert (scores.argmax(axis=1) == data["y"]).mean() > 0.9


def test_a_checkpoint_brings_its_weights() -> None:
    model, report = load(RECORDED / "network", input_shapes=SHAPES)
    assert (report.kind, report.banner) == ("checkpoint", "")
    assert report.source.endswith("network-0000.params")
    np.testing.assert_array_equal(
        model.parameters["conv0_weight"], read_parameters(RECORDED / "network-0000.params")["conv0_weight"]
    )


def test_a_checkpoint_in_the_working_folder_needs_no_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(RECORDED)
    assert load("network", input_shapes=SHAPES)[1].kind == "checkpoint"


def test_other_weights_for_a_checkpoint() -> None:
    model, report = load(RECORDED / "network", str(RECORDED / "network-v1.params"), SHAPES)
    assert report.kind == "file"
    drawn, report = load(RECORDED / "network", "random", SHAPES, seed=1)
    assert report.kind == "random" and "meaningless" in report.banner
    assert not np.array_equal(drawn.parameters["conv0_weight"], model.parameters["conv0_weight"])
    with pytest.raises(UsageError, match="--weights pretrained is for zoo names"):
        load(RECORDED / "network", "pretrained", SHAPES)
    with pytest.raises(UsageError, match="no such file"):
        load(RECORDED / "network", "nowhere.params", SHAPES)


def test_a_zoo_name_is_not_shadowed_by_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = zoo.find("resnet20_cifar10").symbol_text()
    write_checkpoint(tmp_path / "resnet20_cifar10", text, load("resnet20_cifar10")[0].parameters)
    monkeypatch.chdir(tmp_path)
    assert load("resnet20_cifar10")[1].source == "ships with edgectl"
    assert load("./resnet20_cifar10", input_shapes={"data": (1, 3, 32, 32)})[1].kind == "checkpoint"


def test_preprocessing_and_labels_can_be_given() -> None:
    how = Preprocessing(6, (5, 6), (0.0,) * 4, (1.0,) * 4)
    model, _ = load(RECORDED / "network", input_shapes=SHAPES, preprocessing=how, labels=list("abcde"))
    assert (model.preprocessing, model.labels) == (how, tuple("abcde"))


def test_other_image_sizes_scale_preprocessing() -> None:
    model, _ = load("resnet18_v1", "random", {"data": (1, 3, 64, 96)})
    assert model.types()[model.outputs[0]].shape == (1, 1000)
    assert model.preprocessing is not None
    assert (model.preprocessing.resize, model.preprocessing.crop) == (73, (64, 96))


def test_size_that_a_network_cannot_take_names_the_layer() -> None:
    with pytest.raises(ModelError, match=r"vgg0_dense0.*\[4096, 4608\].*\[4096, 25088\]"):
        load("vgg11", "random", {"data": (1, 3, 96, 96)})


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("resnet18", "unknown model 'resnet18'; did you mean resnet18_v"),
        ("./resnet18_v1", "cannot read resnet18_v1-symbol.json"),
        ("folder/net-0000.params", "cannot read folder/net-symbol.json"),
    ],
)
def test_what_is_not_there_is_named(source: str, message: str) -> None:
    with pytest.raises(ModelError) as caught:
        load(source)
    assert message in str(caught.value)


def test_a_block_needs_shapes() -> None:
    with pytest.raises(ModelError, match="input_shapes"):
        load(object())


@pytest.mark.mxnet
@pytest.mark.skipif(importlib.util.find_spec("mxnet") is None, reason="MXNet is not installed (extra `mxnet`)")
def test_a_block_brings_its_weights() -> None:
    mxnet = import_mxnet()
    block = mxnet.gluon.model_zoo.vision.squeezenet1_1(classes=7)
    block.initialize()
    model, report = load(block, input_shapes={"data": (1, 3, 224, 224)}, labels=list("abcdefg"))
    assert report.kind == "block"
    x = np.random.default_rng(0).standard_normal((1, 3, 224, 224)).astype(np.float32)
    reference = block(mxnet.nd.array(x)).asnumpy()
    result = interpret(model, {"data": x})[model.outputs[0]]
    np.testing.assert_allclose(result, reference, rtol=1e-4, atol=1e-4 * np.abs(reference).max())
    with pytest.raises(UsageError, match="not for a block"):
        load(block, "pretrained", {"data": (1, 3, 224, 224)})
