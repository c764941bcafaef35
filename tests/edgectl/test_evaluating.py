"""Accuracy of models and of bundles: the same numbers whichever way they are computed."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgectl.accuracy import Proportion
from edgectl.boards.board import Board
from edgectl.building import build
from edgectl.datasets import as_input
from edgectl.deploying import compile_source
from edgectl.errors import IncompatibleError, UsageError
from edgectl.evaluating import evaluate, evaluate_bundle
from edgectl.frontends.zoo import DATA
from edgectl.interpreter import interpret
from edgectl.simulated_board import SimulatedBoard
from edgectl.sources import Source, prepare
from edgectl.stages import Stages

DEMO = Source("resnet20_cifar10")
SHARED = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """37 smooth random images: an odd number, so that chunks and batches do not divide it."""
    generator = np.random.default_rng(5)
    coarse = generator.integers(0, 256, (37, 4, 4, 3), np.uint8)
    path = tmp_path_factory.mktemp("data") / "data.npz"
    np.savez(path, x=coarse.repeat(8, axis=1).repeat(8, axis=2), y=generator.integers(0, 10, 37))
    return path


@pytest.fixture
def address(demo_board: SimulatedBoard, monkeypatch: pytest.MonkeyPatch) -> str:
    """The session's board as one that is not simulated is named; the demo model is live there."""
    running = demo_board.find()
    assert running is not None
    monkeypatch.setenv("EDGECTL_KEY", running.state.key)
    return str(running.address)


def test_the_numbers_are_those_of_the_definition(data: Path) -> None:
    report = evaluate(DEMO, data)
    model = prepare(DEMO).model
    integer = build(model).integer_model
    with np.load(data) as archive:
        images, labels = archive["x"], archive["y"]
    assert model.preprocessing is not None
    mean, std = np.array(model.preprocessing.mean), np.array(model.preprocessing.std)
    x = ((images / 255 - mean) / std).transpose(0, 3, 1, 2).astype(np.float32)
    (floats,) = interpret(model, {"data": x}).values()
    (integers,) = interpret(integer, {"data": x}).values()
    cosines = (floats * integers).sum(1) / np.linalg.norm(floats, axis=1) / np.linalg.norm(integers, axis=1)
    result = report.evaluation
    assert result.n == 37
    assert result.top1_float == pytest.approx((floats.argmax(1) == labels).mean())
    assert result.top1_int8 == pytest.approx((integers.argmax(1) == labels).mean())
    assert result.agreement == pytest.approx((integers.argmax(1) == floats.argmax(1)).mean())
    assert result.mean_cosine == pytest.approx(cosines.mean(), abs=1e-4)


@pytest.mark.parametrize("batch", [1, 4])
def test_a_bundle_has_the_accuracy_of_its_model(data: Path, tmp_path: Path, batch: int) -> None:
    built, _ = compile_source(replace(DEMO, batch=batch), "sim", Stages())
    path = tmp_path / "demo.bundle"
    path.write_bytes(built.data)
    by_bundle, by_model = evaluate_bundle(path, data), evaluate(DEMO, data)
    for name in ("n", "top1_float", "top1_int8", "agreement", "mean_cosine"):
        assert getattr(by_bundle.evaluation, name) == pytest.approx(getattr(by_model.evaluation, name), abs=1e-4)
    assert by_bundle.evaluation.forms["integer"] == by_model.evaluation.forms["integer"]
    assert by_bundle.evaluation.forms["board"].equal == Proportion(37, 37)
    assert by_bundle.layers == by_model.layers and len(by_model.layers) > 20 and by_bundle.notices == ()


def test_a_bundle_that_takes_pixels_has_the_accuracy_of_its_model(data: Path, tmp_path: Path) -> None:
    built, _ = compile_source(replace(DEMO, pixels=True, batch=2), "sim", Stages())
    path = tmp_path / "pixels.bundle"
    path.write_bytes(built.data)
    by_bundle, by_model = evaluate_bundle(path, data), evaluate(DEMO, data)
    assert by_bundle.evaluation.forms["integer"] == by_model.evaluation.forms["integer"]
    assert by_bundle.evaluation.forms["board"].equal == Proportion(37, 37)
    assert by_bundle.evaluation.forms["board"].agreement == by_model.evaluation.forms["integer"].agreement
    assert by_bundle.layers == by_model.layers and by_bundle.notices == ()
    np.savez(tmp_path / "float.npz", x=np.random.default_rng(0).normal(size=(3, 3, 32, 32)).astype(np.float32))
    with pytest.raises(UsageError, match=r"not 8-bit pixels, normalised .* give the images as uint8 \(N, H, W, C\)"):
        evaluate_bundle(path, tmp_path / "float.npz")


def test_a_board_on_which_a_bundle_that_takes_pixels_is_live(
    data: Path, tmp_path: Path, own_board: SimulatedBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    built, _ = compile_source(replace(DEMO, pixels=True), "sim", Stages())
    path = tmp_path / "pixels.bundle"
    path.write_bytes(built.data)
    with Board() as board:
        board.deploy(built)
        assert board.running is not None
        monkeypatch.setenv("EDGECTL_KEY", board.running.state.key)
        address = str(board.running.address)
    for report in (evaluate_bundle(path, data, 9, board=address), evaluate(DEMO, data, 9, board=address)):
        assert report.evaluation.forms["board"].equal == Proportion(9, 9)


def test_top5_and_a_board_beside_float(data: Path) -> None:
    report = evaluate(DEMO, data, 20, board="sim")
    forms = report.evaluation.forms
    assert list(forms) == ["float", "integer", "board"] and report.board == "sim"
    assert forms["board"].equal == Proportion(20, 20) and forms["integer"].equal is None
    assert forms["board"].agreement == forms["integer"].agreement and forms["float"].agreement is None
    model = prepare(DEMO).model
    with np.load(data) as archive:
        x, labels = as_input(archive["x"][:20], model), archive["y"][:20]
    (scores,) = interpret(model, {"data": x}).values()
    expected = sum(label in np.argsort(-row)[:5] for row, label in zip(scores, labels, strict=True))
    assert forms["float"].top5 == Proportion(expected, 20)


def test_without_labels_answers_are_compared(data: Path, tmp_path: Path) -> None:
    with np.load(data) as archive:
        images = archive["x"][:6]
        np.savez(tmp_path / "x.npz", x=images)
    labelled = evaluate(DEMO, data, 6).evaluation
    for index, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{index}.png")
    pairs = [(image, index) for index, image in enumerate(images)]
    assert evaluate(DEMO, pairs).evaluation.forms["float"].top1 is not None
    # The folder holds the .npz file too, which is no photograph.
    for unlabelled in (tmp_path / "x.npz", tmp_path, images, list(images), [images[:4], images[4:]]):
        found = evaluate(DEMO, unlabelled).evaluation
        assert (found.n, found.top1_float, found.top1_int8) == (6, None, None)
        assert found.agreement == labelled.agreement and found.mean_cosine == labelled.mean_cosine


def test_a_board_where_the_bundle_is_live(data: Path, address: str, demo_bundle: Path) -> None:
    by_bundle = evaluate(str(demo_bundle), data, 7, board=address)
    assert by_bundle.board == address and by_bundle.evaluation.forms["board"].equal == Proportion(7, 7)
    by_model = evaluate(DEMO, data, 7, board=address)
    assert by_model.evaluation.forms["board"] == by_bundle.evaluation.forms["board"]
    other = replace(DEMO, weights="random")
    with pytest.raises(IncompatibleError, match=f"edgectl deploy resnet20_cifar10 --board {address}"):
        evaluate(other, data, 7, board=address)


def test_another_bundle_is_live(data: Path, address: str, tmp_path: Path) -> None:
    built, _ = compile_source(replace(DEMO, batch=2), "sim", Stages())
    path = tmp_path / "pairs.bundle"
    path.write_bytes(built.data)
    with pytest.raises(IncompatibleError, match=r"resnet20_cifar10 is live on .*, not bundle"):
        evaluate(str(path), data, 7, board=address)


def test_a_board_that_computes_otherwise_is_noticed(data: Path, address: str) -> None:
    """Another calibration than that of what is live."""
    with np.load(data) as archive:
        prepared = prepare(DEMO)
        calibration = as_input(archive["x"], prepared.model) * 3
    calibrated = build(prepared.model, calibration=calibration, origin=prepared.origin)
    with Board() as board:
        board.deploy(calibrated)
    report = evaluate(DEMO, data, 7, board=address)
    equal = report.evaluation.forms["board"].equal
    assert equal is not None and equal.count < 7
    assert f"differ from the interpreter's on {7 - equal.count} of 7 images" in report.notices[-1]


def test_limit_and_progress(data: Path) -> None:
    seen: list[float] = []
    stages = Stages(lambda name, fraction: seen.append(fraction or 0) if name == "evaluate" else None)
    assert evaluate(DEMO, data, 5, stages).evaluation.n == 5
    assert seen == [0, 1]
    with pytest.raises(UsageError, match="--limit 0"):
        evaluate(DEMO, data, 0)


def test_a_bundle_whose_model_is_gone_has_its_own_accuracy(data: Path, tmp_path: Path) -> None:
    for suffix in ("-symbol.json", "-0000.params"):
        shutil.copy(DATA / "models" / f"resnet20_cifar10{suffix}", tmp_path / f"net{suffix}")
    source = Source(
        str(tmp_path / "net"), shape=(3, 32, 32), mean=(0.4914, 0.4822, 0.4465), std=(0.2023, 0.1994, 0.201)
    )
    built, _ = compile_source(source, "sim", Stages())
    path = tmp_path / "net.bundle"
    path.write_bytes(built.data)
    there = evaluate_bundle(path, data, 8)
    assert there.evaluation.top1_float is not None and there.notices == ()
    (tmp_path / "net-0000.params").unlink()
    gone = evaluate_bundle(path, data, 8)
    assert gone.evaluation.top1_int8 == there.evaluation.top1_int8
    assert (gone.evaluation.top1_float, gone.evaluation.agreement, gone.evaluation.mean_cosine) == (None, None, None)
    assert "not at hand" in gone.notices[0]


def test_a_bundle_for_another_processor(data: Path, tmp_path: Path) -> None:
    built, _ = compile_source(DEMO, "pynq", Stages())
    path = tmp_path / "pynq.bundle"
    path.write_bytes(built.data)
    with pytest.raises(IncompatibleError, match="armv7l"):
        evaluate_bundle(path, data)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the pretrained checkpoint in ../shared/data is not there")
def test_a_pretrained_checkpoint_keeps_its_accuracy() -> None:
    source = Source(
        str(SHARED / "cifar_resnet20_v1"),
        shape=(3, 32, 32),
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2023, 0.1994, 0.2010),
        calibration=str(SHARED / "cifar10_calibration.npz"),
    )
    result = evaluate(source, SHARED / "cifar10_evaluation.npz", 300).evaluation
    assert result.top1_float is not None and result.top1_int8 is not None and result.agreement is not None
    assert result.top1_float > 0.9 and result.top1_int8 > result.top1_float - 0.02 and result.agreement > 0.96
    assert result.mean_cosine is not None and result.mean_cosine > 0.99
