"""The Python API, as a notebook uses it."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest

import edgectl
from edgectl.images import DEFAULT_IMAGE, load_image
from edgectl.interpreter import interpret
from edgectl.simulated_board import SimulatedBoard


def test_a_notebook(session_board: SimulatedBoard, tmp_path: Path) -> None:
    model, weights = edgectl.load("resnet20_cifar10")
    assert weights.kind == "pretrained" and model.labels[3] == "cat"

    integer = edgectl.quantize(model)
    assert {node.operator.kind for node in integer.nodes} >= {"integer_convolution", "quantize"}

    build = edgectl.build(model, "sim")
    (tmp_path / "demo.bundle").write_bytes(build.data)
    with edgectl.Board("sim") as board:
        account = board.deploy(build)
        assert account["digest"] == build.digest

        prediction = board.run(DEFAULT_IMAGE)
        assert prediction.top[0].label == "cat" and len(prediction.top) == 5

        photo = load_image(DEFAULT_IMAGE, model.preprocessing)
        assert board.run(photo, top=1).top[0] == prediction.top[0]
        (output,) = interpret(build.integer_model, {"data": photo}).values()
        (answer,) = board.infer({"data": photo}).outputs.values()
        np.testing.assert_allclose(answer, output, rtol=1e-4, atol=1e-5)

        bench = board.bench(number=2, repeat=3)
        assert len(bench.means) == 3 and len(bench.seconds) == 6
        assert bench.counters == build.counters.as_dict()

        assert board.status()["live"]["digest"] == build.digest
        assert board.deploy(tmp_path / "demo.bundle")["digest"] == build.digest
        assert board.deploy(build.data)["digest"] == build.digest


def test_accuracy_from_an_iterable() -> None:
    model, _ = edgectl.load("resnet20_cifar10")
    generator = np.random.default_rng(4)
    batches = [(generator.integers(0, 256, (3, 32, 32, 3), np.uint8), np.arange(3)) for _ in range(2)]
    found = edgectl.measure_agreement(model, edgectl.quantize(model), iter(batches))
    assert found.images == found.agreement.of == 6 and found.float.top1 is not None and found.float.top1.of == 6
    report = edgectl.evaluate("resnet20_cifar10", iter(batches))
    assert report.evaluation.forms["integer"] == found.integer and report.data == "a list_iterator"
    built = edgectl.build(model, data=(image for images, _ in batches for image in images))
    assert built.manifest["accuracy"]["agreement"] == found.agreement.value
    assert built.manifest["accuracy"]["top1_float"] is None


def test_the_integer_model_builds_to_the_same_bundle() -> None:
    model, _ = edgectl.load("resnet20_cifar10")
    one = edgectl.build(model)
    two = edgectl.build_integer(edgectl.quantize(model), origin={"calibrated_on": "synthetic images"})
    assert one.counters == two.counters
    assert one.digest == two.digest


def test_deploy_takes_a_name_a_source_or_a_bundle(session_board: SimulatedBoard, demo_bundle: Path) -> None:
    by_name = edgectl.deploy("resnet20_cifar10")
    by_source = edgectl.deploy(edgectl.Source("resnet20_cifar10"))
    by_bundle = edgectl.deploy(str(demo_bundle))
    assert by_name.digest == by_source.digest == by_bundle.digest
    assert by_name.prediction.top[0].label == "cat"


def test_every_name_of_the_api_is_there() -> None:
    for name in edgectl.__all__:
        assert callable(getattr(edgectl, name)), name
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = edgectl.nonsense


def test_no_module_hides_a_function_of_the_api() -> None:
    """Importing a module makes it an attribute of its package."""
    for name in ("quantization.quantizer", "building", "deploying", "evaluating", "loading", "boards.board"):
        importlib.import_module(f"edgectl.{name}")
    for name in edgectl.__all__:
        assert callable(getattr(edgectl, name)), name
    model, _ = edgectl.load("resnet20_cifar10")
    assert edgectl.quantize(model).name == "resnet20_cifar10"
