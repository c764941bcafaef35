"""edgectl convert: options, what it prints, exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge_agent.bundle import read_bundle
from edgectl import converting
from edgectl.errors import ModelError
from edgectl.interchange import execution
from tests.edgectl.cli.conftest import Edgectl
from tests.edgectl.test_converting import wrongly_pooled

DEMO = "resnet20_cifar10"


@pytest.fixture(autouse=True)
def without_mxnet(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise ModelError("no MXNet")

    monkeypatch.setattr(execution, "import_mxnet", missing)


def test_to_mxnet_and_deployed_from_there(edgectl: Edgectl) -> None:
    result = edgectl("convert", DEMO, "--to", "mxnet", "-o", "out/demo")
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    assert lines[:5] == [
        f"out/demo{ending}"
        for ending in ("-0000.params", "-preprocessing.json", "-symbol.json", "-contrast.json", "-contrast.md")
    ]
    assert lines[5].startswith("73 layers compared on 2 random samples (seed 0), cat.jpg; a layer alone differs by")
    assert lines[8].split()[0] == "cat"
    compiled = edgectl("compile", "out/demo", "-o", "demo.bundle")
    assert compiled.code == 0 and "assuming ImageNet's" not in compiled.err
    told = read_bundle(Path("demo.bundle").read_bytes()).manifest["preprocessing"]
    assert told["mean"] == [0.4914, 0.4822, 0.4465] and told["crop"] == [32, 32]


def test_labels_and_preprocessing_are_put_in(edgectl: Edgectl) -> None:
    Path("synset.txt").write_text(str({index: f"name {index}" for index in range(10)}))
    options = ("--labels", "synset.txt", "--mean", "0.5", "--std", "0.25", "--resize", "40", "--channels", "BGR")
    document = edgectl("convert", DEMO, "--to", "mxnet", "-o", "demo", *options, "--json").document
    assert document["equal_within_tolerance"] is True and document["top"]["equal"] is True
    assert document["top"]["source"][0]["label"].startswith("name ")
    assert document["weights"]["kind"] == "pretrained" and len(document["files"]) == 5
    told = json.loads(Path("demo-preprocessing.json").read_text())
    assert told["preprocessing"] == {
        "resize": 40, "crop": [32, 32], "mean": [0.5] * 3, "std": [0.25] * 3, "channel_order": "BGR",
    }  # fmt: skip
    assert told["labels"][9] == "name 9" and told["inputs"] == {"data": [1, 3, 32, 32]}


@pytest.mark.torch
def test_to_torch(edgectl: Edgectl) -> None:
    pytest.importorskip("torch")
    result = edgectl("convert", DEMO, "--to", "torch", "-o", "demo")
    assert result.code == 0 and result.out.splitlines()[:2] == ["demo.pth", "demo.py"]
    assert "target by PyTorch" in result.out


def test_without_proof(edgectl: Edgectl) -> None:
    result = edgectl("convert", DEMO, "--to", "torch", "-o", "demo", "--no-proof")
    assert result.code == 0 and "note: --no-proof: nothing was run" in result.err
    assert "compared" not in result.out


def test_a_difference_has_exit_code_5(edgectl: Edgectl, monkeypatch: pytest.MonkeyPatch) -> None:
    to_symbol = converting.to_symbol
    monkeypatch.setattr(converting, "to_symbol", lambda model: to_symbol(wrongly_pooled(model)))
    result = edgectl("convert", DEMO, "--to", "mxnet", "-o", "demo")
    assert result.code == 5 and "first at layer 'resnet20cifar10_pool0_fwd'" in result.err and result.out == ""
    assert sorted(path.name for path in Path().iterdir()) == ["demo-contrast.json", "demo-contrast.md"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((DEMO, "--to", "onnx"), 2, "--to onnx: give mxnet or torch"),
        (("resnet18_v3", "--to", "mxnet"), 2, "unknown model 'resnet18_v3'"),
        ((DEMO, "--to", "mxnet", "--tolerance", "-1"), 2, "--tolerance"),
        ((DEMO, "--to", "mxnet", "--mean", "0.5"), 2, "together"),
        ((DEMO, "--to", "mxnet", "--labels", "absent"), 2, "cannot read --labels absent"),
        ((DEMO, "--to", "mxnet", "--input", "absent.jpg"), 2, "there is no image absent.jpg"),
        ((DEMO,), 2, "--to"),
    ],
)
def test_wrong_usage(edgectl: Edgectl, arguments: tuple[str, ...], code: int, message: str) -> None:
    result = edgectl("convert", *arguments)
    assert result.code == code and message in result.err
    assert list(Path().iterdir()) == []
