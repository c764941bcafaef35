"""edgectl.convert: files, proof, refusals, and nothing half-written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgectl
from edgectl import converting
from edgectl.converting import convert, described
from edgectl.errors import EdgectlError, ModelError, UsageError, VerificationError
from edgectl.graph import Model, Preprocessing
from edgectl.interchange import execution
from edgectl.interpreter import interpret
from edgectl.loading import load
from edgectl.operators.batch_norm import BatchNorm
from edgectl.operators.pixels import QuantizePixels
from edgectl.operators.pooling import GlobalPool
from tests.edgectl.interchange.networks import imported, one_operator, random_inputs, two_inputs
from tests.edgectl.interchange.old_resnet import old_checkpoint

HOW = Preprocessing(40, (32, 32), (0.4, 0.5, 0.6), (0.2, 0.25, 0.3), "BGR")
LABELS = tuple(f"class {number}" for number in range(21))


@pytest.fixture(scope="module")
def network() -> Model:
    """The example of the 11k-class ResNet, small."""
    model = old_checkpoint((1, 2, 1, 1), (8, 16, 16, 16, 16), 21, 32, "small")[2]
    return replace(model, preprocessing=HOW, labels=LABELS)


@pytest.fixture
def without_mxnet(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same everywhere: what is written for MXNet is read again and interpreted."""

    def missing() -> Any:
        raise ModelError("no MXNet")

    monkeypatch.setattr(execution, "import_mxnet", missing)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_to_mxnet(network: Model, tmp_path: Path, without_mxnet: None) -> None:
    conversion = convert(network, "mxnet", tmp_path / "net")
    assert names(tmp_path) == sorted(path.name for path in conversion.files) == [
        "net-0000.params", "net-contrast.json", "net-contrast.md", "net-preprocessing.json", "net-symbol.json",
    ]  # fmt: skip
    contrast = conversion.contrast
    assert (
        contrast.max_own_difference == contrast.max_difference == 0 and contrast.top is not None and contrast.top.equal
    )
    assert "read the files again" in contrast.executed_by[1]
    again, report = load(str(tmp_path / "net"))
    assert (again.preprocessing, again.labels, report.kind) == (HOW, LABELS, "checkpoint")
    assert again.inputs == network.inputs
    inputs = random_inputs(network)
    expected = interpret(network, inputs)["softmax"]
    np.testing.assert_array_equal(interpret(again, inputs)[again.outputs[0]], expected)


def test_preprocessing_scales_with_another_shape(network: Model, tmp_path: Path, without_mxnet: None) -> None:
    convert(network, "mxnet", tmp_path / "net")
    again, _ = load(str(tmp_path / "net"), input_shapes=(1, 3, 64, 64))
    assert again.preprocessing == replace(HOW, resize=80, crop=(64, 64))


def test_a_damaged_sidecar_is_named(network: Model, tmp_path: Path, without_mxnet: None) -> None:
    convert(network, "mxnet", tmp_path / "net")
    path = tmp_path / "net-preprocessing.json"
    sound = json.loads(path.read_text())
    for damage in (
        "{", "[]", json.dumps({**sound, "labels": [1]}), json.dumps({"inputs": {"data": [0]}}),
        json.dumps({"preprocessing": {**sound["preprocessing"], "channel_order": "HSV"}}),
        json.dumps({"preprocessing": {**sound["preprocessing"], "std": [0, 0, 0]}}),
    ):  # fmt: skip
        path.write_text(damage)
        with pytest.raises(ModelError, match=r"net-preprocessing\.json is damaged"):
            load(str(tmp_path / "net"))


def test_the_contrast_has_every_layer_and_parameter(network: Model, tmp_path: Path, without_mxnet: None) -> None:
    convert(network, "mxnet", tmp_path / "net")
    document = json.loads((tmp_path / "net-contrast.json").read_text())
    assert [layer["source"] for layer in document["layers"]] == [node.label for node in network.nodes]
    assert {parameter["source"] for parameter in document["parameters"]} == network.parameters.keys()
    assert document["equal_within_tolerance"] is True and document["first_diverging_layer"] is None
    assert document["sha256"].keys() == {"net-0000.params", "net-preprocessing.json", "net-symbol.json"}
    assert document["inputs"] == ["2 random samples (seed 0)", "cat.jpg"]
    assert [score["label"] for score in document["top"]["source"]] == [
        LABELS[score["index"]] for score in document["top"]["target"]
    ]
    text = (tmp_path / "net-contrast.md").read_text()
    assert "| `stage1_unit1_bn1_gamma` | `stage1_unit1_bn1_gamma` | 8 | 0 |" in text
    assert "## Top 5 on cat.jpg: equal" in text


@pytest.mark.torch
def test_to_torch_and_back(network: Model, tmp_path: Path, without_mxnet: None) -> None:
    torch = pytest.importorskip("torch")
    conversion = convert(network, "torch", tmp_path / "net")
    assert names(tmp_path) == ["net-contrast.json", "net-contrast.md", "net.pth", "net.py"]
    assert conversion.contrast.executed_by[1].startswith("PyTorch") and conversion.contrast.max_difference < 1e-4
    module = imported(tmp_path / "net.py")
    net = module.Small()
    state = torch.load(str(tmp_path / "net.pth"), weights_only=True)
    assert net.load_state_dict(state, strict=True).missing_keys == []
    back = convert(module.load(str(tmp_path / "net.pth")), "mxnet", tmp_path / "back", input_shapes=(1, 3, 32, 32))
    assert back.contrast.framework is not None and back.contrast.framework[1] < 1e-4
    inputs = random_inputs(network)
    again, _ = load(str(tmp_path / "back"))
    for model in (back.model, again):
        result = interpret(model, {"data": inputs["data"]})[model.outputs[0]]
        np.testing.assert_allclose(result, interpret(network, inputs)["softmax"], atol=1e-6)
    assert {"stage1_unit1_bn1_gamma", "stage1_unit1_conv1_weight"} <= again.parameters.keys()


@pytest.mark.torch
def test_preprocessing_and_labels_come_back_from_code(
    network: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    convert(network, "torch", tmp_path / "converted_code")
    monkeypatch.chdir(tmp_path)
    again, report = load("converted_code:Small", "converted_code.pth")
    assert (again.preprocessing, again.labels, report.kind) == (HOW, LABELS, "file")
    assert again.inputs == network.inputs


def test_several_inputs(tmp_path: Path, without_mxnet: None) -> None:
    conversion = convert(two_inputs(), "mxnet", tmp_path / "net")
    assert conversion.contrast.inputs == ("2 random samples (seed 0)",)
    assert load(str(tmp_path / "net"))[0].inputs.keys() == {"left", "right"}
    with pytest.raises(UsageError, match="takes no photograph"):
        convert(two_inputs(), "mxnet", tmp_path / "other", image="cat.jpg")


def test_the_public_name() -> None:
    assert edgectl.convert is convert


def wrongly(model: Model) -> Model:
    """The third layer's normalisation with another epsilon: what a careless converter does."""
    nodes = list(model.nodes)
    index = next(i for i, node in enumerate(nodes) if node.name == "stage2_unit2_bn1")
    operator = nodes[index].operator
    assert isinstance(operator, BatchNorm)
    nodes[index] = replace(nodes[index], operator=replace(operator, epsilon=0.5))
    return replace(model, nodes=tuple(nodes))


def wrongly_pooled(model: Model) -> Model:
    """The global mean as a global maximum."""
    return replace(
        model,
        nodes=tuple(
            replace(node, operator=GlobalPool("max")) if isinstance(node.operator, GlobalPool) else node
            for node in model.nodes
        ),
    )


def test_a_wrong_conversion_is_caught_and_its_first_layer_named(
    network: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without_mxnet: None
) -> None:
    to_symbol = converting.to_symbol
    monkeypatch.setattr(converting, "to_symbol", lambda model: to_symbol(wrongly(model)))
    with pytest.raises(VerificationError) as caught:
        convert(network, "mxnet", tmp_path / "net")
    assert "first at layer 'stage2_unit2_bn1' (batch_norm" in str(caught.value) and caught.value.exit_code == 5
    assert names(tmp_path) == ["net-contrast.json", "net-contrast.md"]
    document = json.loads((tmp_path / "net-contrast.json").read_text())
    assert document["first_diverging_layer"] == "stage2_unit2_bn1" and document["equal_within_tolerance"] is False


def test_a_wrong_weight_is_caught(
    network: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without_mxnet: None
) -> None:
    write = converting.write_checkpoint

    def damaged(prefix: Any, symbol: str, arrays: dict[str, np.ndarray]) -> Any:
        return write(prefix, symbol, {**arrays, "bn0_beta": arrays["bn0_beta"] + np.float32(1e-6)})

    monkeypatch.setattr(converting, "write_checkpoint", damaged)
    with pytest.raises(VerificationError, match="1 parameters were not written as they are, first 'bn0_beta'"):
        convert(network, "mxnet", tmp_path / "net")


@pytest.mark.torch
def test_wrong_code_is_caught(network: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    to_torch = converting.to_torch

    def careless(model: Model, weights: str) -> Any:
        made = to_torch(model, weights)
        assert "3, stride=2, padding=1" in made.code
        return replace(made, code=made.code.replace("F.max_pool2d(x, 3", "F.max_pool2d(x, 2"))

    monkeypatch.setattr(converting, "to_torch", careless)
    with pytest.raises(VerificationError, match=r"first at layer 'pooling0' \(max_pool"):
        convert(network, "torch", tmp_path / "net")
    assert names(tmp_path) == ["net-contrast.json", "net-contrast.md"]


@pytest.mark.torch
def test_the_framework_itself_has_a_say(network: Model, tmp_path: Path, without_mxnet: None) -> None:
    """A module with other weights than the model that was imported of it."""
    pytest.importorskip("torch")
    convert(network, "torch", tmp_path / "net")
    other = imported(tmp_path / "net.py").Small()
    with pytest.raises(VerificationError, match=r"PyTorch .* itself gives other outputs"):
        convert(network, "mxnet", tmp_path / "again", reference=other)


def test_without_proof_nothing_is_said_of_values(
    network: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(converting, "_proved", None)
    monkeypatch.setattr(converting, "import_torch", None)
    conversion = convert(network, "torch", tmp_path / "net", proof=False)
    assert "nothing was run" in conversion.notices[-1]
    document = json.loads((tmp_path / "net-contrast.json").read_text())
    assert document["executed"] is False and document["equal_within_tolerance"] is None
    assert document["layers"][0]["max_difference"] is None and document["parameters"][0]["max_difference"] == 0
    assert "**Not proved**" in (tmp_path / "net-contrast.md").read_text()


def test_without_torch_code_is_refused(network: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Any:
        raise ModelError("PyTorch cannot be imported") from ImportError("No module named 'torch'")

    monkeypatch.setattr(converting, "import_torch", missing)
    with pytest.raises(UsageError, match=r"No module named 'torch'; install PyTorch .*--no-proof"):
        convert(network, "torch", tmp_path / "net")
    assert names(tmp_path) == []


@pytest.mark.torch
@pytest.mark.parametrize(
    ("to", "output", "error", "message"),
    [
        ("onnx", "net", UsageError, "give mxnet or torch"),
        ("torch", "net-1", UsageError, "'net-1' cannot be; give .*net_1"),
        ("torch", "1net", UsageError, "give .*net_1net"),
        ("mxnet", "", UsageError, "is a folder"),
        ("mxnet", "file/net", EdgectlError, "cannot write"),
    ],
)
def test_outputs_that_cannot_be(
    network: Model, tmp_path: Path, to: str, output: str, error: type[EdgectlError], message: str
) -> None:
    pytest.importorskip("torch")
    (tmp_path / "file").write_text("")
    with pytest.raises(error, match=message):
        convert(network, to, f"{tmp_path}/{output}")
    assert names(tmp_path) == ["file"]


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="quantize_pixels"):
        convert(one_operator(QuantizePixels(), (1, 3, 4, 4)), "mxnet", tmp_path / "net")
    with pytest.raises(UsageError, match="--tolerance 2 must be"):
        convert(two_inputs(), "mxnet", tmp_path / "net", tolerance=2)
    assert names(tmp_path) == []


def test_preprocessing_that_is_given(network: Model) -> None:
    bare = replace(network, preprocessing=None)
    assert described(bare, (), ()) is bare
    given = described(bare, (0.5,), (0.25,), 36, "BGR").preprocessing
    assert given == Preprocessing(36, (32, 32), (0.5,) * 3, (0.25,) * 3, "BGR")
    assert described(network, (), (), None, "RGB").preprocessing == replace(HOW, channel_order="RGB")
    for arguments, message in (
        (((0.5,), ()), "together"), (((), (), 30), "says nothing"), (((0.5,), (0.5,), None, "HSV"), "RGB or BGR"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=message):
            described(bare, *arguments)  # type: ignore[arg-type]


@pytest.mark.torch
@pytest.mark.slow
def test_the_11k_class_resnet_152(tmp_path: Path) -> None:
    """S4's road in full size: 152 layers, 11,221 classes."""
    pytest.importorskip("torch")
    from edgectl.interchange.mxnet import write_checkpoint
    from tests.edgectl.interchange.old_resnet import RESNET152

    symbol, parameters, _ = old_checkpoint(RESNET152, (64, 256, 512, 1024, 2048), 11221, 224)
    write_checkpoint(tmp_path / "resnet152", symbol, parameters)
    labels = tuple(f"synset {number}" for number in range(11221))
    how = Preprocessing(256, (224, 224), (0.0,) * 3, (1 / 255,) * 3)
    conversion = convert(
        str(tmp_path / "resnet152"), "torch", tmp_path / "converted", input_shapes=(1, 3, 224, 224), labels=labels,
        preprocessing=how,
    )  # fmt: skip
    contrast = conversion.contrast
    # The softmax of random weights is nearly one class: the layers before it tell more.
    assert contrast.first_diverging is None and 0 < contrast.max_difference < 1e-4
    assert contrast.top is not None and contrast.top.equal
    assert len(conversion.model.labels) == 11221 and conversion.model.types()["softmax"].shape == (1, 11221)
    code = (tmp_path / "converted.py").read_text()
    assert code.count("class Unit") == 2 and len(code.partition("LABELS")[0].splitlines()) < 150
    assert {"bn_data.weight", "stage3.unit36.bn3.running_var", "fc1.weight"} <= {
        parameter.target for parameter in contrast.parameters
    }
    print(f"resnet152 11k: layers {contrast.max_difference:.2g}, output {contrast.output_difference:.2g}")
