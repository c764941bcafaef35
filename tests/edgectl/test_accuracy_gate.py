"""What is measured before a model is compiled, recorded in its bundle, and required of it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_agent.accuracy import Accuracy
from edge_agent.bundle import read_bundle
from edgectl import building, mixed_precision
from edgectl.accuracy import measure_agreement
from edgectl.accuracy_gate import check_options, require
from edgectl.boards.board import Board
from edgectl.boards.client import Connection
from edgectl.build_cache import BuildCache
from edgectl.building import build
from edgectl.datasets import Dataset
from edgectl.deploying import compile_source, deploy
from edgectl.errors import UsageError, VerificationError
from edgectl.graph import Model
from edgectl.interpreter import interpret_images
from edgectl.layer_errors import layer_errors
from edgectl.operators.activation import Relu
from edgectl.operators.pooling import GlobalPool
from edgectl.operators.shape import Flatten
from edgectl.quantization.quantizer import quantize
from edgectl.simulated_board import SimulatedBoard
from edgectl.sources import Source
from edgectl.stages import Stages
from tests.edgectl.quantization.networks import NetworkBuilder

DEMO = "resnet20_cifar10"


def _network() -> Model:
    """Eight classes; the scales of a coarse calibration cost it answers."""
    network = NetworkBuilder()
    x = network.add("relu", Relu(), network.convolution("conv", "data", (3, 16)))
    x = network.add("flat", Flatten(), network.add("mean", GlobalPool(), x))
    model = network.model(network.dense("scores", x, 16, 8))
    # Every class is the answer now and then: a coarse model cannot be right by constant answers.
    network.parameters["scores.b"] -= interpret_images(model, _images()).mean(axis=0)
    return model


def _images() -> np.ndarray:
    return np.random.default_rng(2).normal(0, 1, (120, 3, 16, 16)).astype(np.float32)


@pytest.fixture(scope="module")
def model() -> Model:
    return _network()


@pytest.fixture(scope="module")
def data() -> Dataset:
    return Dataset(_images(), np.random.default_rng(3).integers(0, 8, 120))


COARSE = np.full((1, 3, 16, 16), 40, np.float32)
"""Calibration images whose values are far beyond those of the data."""


def test_the_manifest_carries_what_was_measured(model: Model, data: Dataset) -> None:
    built = build(model, calibration=data.images[:8], data=data)
    entry = built.manifest["accuracy"]
    found = measure_agreement(model, built.integer_model, data)
    assert (entry["images"], entry["confidence"]) == (120, 0.95)
    assert entry["agreement"] == found.agreement.value and tuple(entry["interval"]) == found.agreement.interval
    assert found.float.top1 is not None and found.integer.top1 is not None
    assert (entry["top1_float"], entry["top1_integer"]) == (found.float.top1.value, found.integer.top1.value)
    assert (entry["mean_cosine"], entry["worst_cosine"]) == (found.integer.mean_cosine, found.integer.worst_cosine)
    errors = layer_errors(model, built.integer_model, data.images)
    assert entry["layers"] == [error.as_dict() for error in errors[:5]] and entry["layers"]
    assert entry["date"].endswith("+00:00") and len(entry["data_sha256"]) == hashlib.sha256().digest_size * 2
    assert Accuracy.of(read_bundle(built.data).manifest) is not None
    assert "accuracy" not in build(model, calibration=data.images[:8]).manifest


def test_too_few_answers_are_refused_before_anything_is_compiled(
    model: Model, data: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(building, "build_integer", lambda *arguments, **options: pytest.fail("compiled"))
    agreement = measure_agreement(model, quantize(model, COARSE), data).agreement
    assert agreement.value < 0.9
    with pytest.raises(VerificationError) as refused:
        build(model, calibration=COARSE, data=data, min_agreement=0.98, cache=BuildCache(tmp_path / "builds"))
    text = str(refused.value)
    low, high = agreement.interval
    assert refused.value.exit_code == 5
    assert f"gives {100 * agreement.value:.2f} % of float's answers, --min-agreement 0.98 asks for 98.00 %" in text
    assert f"on 120 images, 95 % interval {100 * low:.2f} to {100 * high:.2f} %" in text
    worst = layer_errors(model, quantize(model, COARSE), data.images)[0]
    assert f"{worst.layer}" in text and f"{worst.sqnr:.1f} dB" in text
    assert "--calibration" in text and "calibrated on 1 images; try" in text and "edgectl evaluate" in text
    assert not (tmp_path / "builds").exists()


def test_a_cached_bundle_answers_for_its_data_and_any_threshold(model: Model, data: Dataset, tmp_path: Path) -> None:
    cache = BuildCache(tmp_path / "builds")
    options: dict[str, Any] = {"calibration": COARSE, "cache": cache}
    first = build(model, data=data, min_agreement=0.01, **options)
    again = build(model, data=data, min_agreement=0.0, **options)
    assert not first.cached and again.cached and again.manifest["accuracy"] == first.manifest["accuracy"]
    agreement = first.manifest["accuracy"]["agreement"]
    assert 0.01 < agreement < 1
    more = build(model, data=data, min_agreement=np.nextafter(agreement, 1), **options)
    assert not more.cached and more.manifest["accuracy"]["agreement"] > agreement
    assert f"{100 * agreement:.2f} % of float's answers" in more.notices[0]
    assert build(model, data=data, min_agreement=np.nextafter(agreement, 1), **options).cached
    exactly = build(model, data=data, min_agreement=agreement, **options)
    assert exactly.cached and "more images would tell" in exactly.notices[0]
    for other in (
        Dataset(data.images[:60], data.labels[:60] if data.labels is not None else None),
        Dataset(data.images, None),
        Dataset(data.images + np.float32(0.01), data.labels),
    ):
        measured = build(model, data=other, **options)
        assert not measured.cached and measured.manifest["accuracy"] != first.manifest["accuracy"]
        assert measured.manifest["accuracy"]["data_sha256"] != first.manifest["accuracy"]["data_sha256"]
    without = build(model, **options)
    assert not without.cached and "accuracy" not in without.manifest


@pytest.mark.parametrize("minimum", [-0.1, 1.5, 98.0, float("nan")])
def test_impossible_shares(minimum: float) -> None:
    with pytest.raises(UsageError, match=r"must be 0 to 1, such as 0.98"):
        check_options(minimum, True)


def test_a_share_needs_images(model: Model) -> None:
    with pytest.raises(UsageError, match=r"--min-agreement 0.98 needs images to measure on: --data"):
        build(model, min_agreement=0.98)
    with pytest.raises(UsageError, match="needs images"):
        compile_source(Source("no_such_model"), "sim", Stages(), min_agreement=0.98)


def test_what_was_not_measured_does_not_pass() -> None:
    manifest = {"model": {"name": "net", "source": "folder/net"}}
    assert require(manifest, None) == ""
    with pytest.raises(VerificationError, match=r"not measured; .*edgectl compile folder/net --data"):
        require(manifest, 0.0)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gate")
    generator = np.random.default_rng(6)
    coarse = generator.integers(0, 256, (37, 4, 4, 3), np.uint8)
    np.savez(folder / "val.npz", x=coarse.repeat(8, axis=1).repeat(8, axis=2), y=generator.integers(0, 10, 37))
    return folder


def test_nothing_is_uploaded_of_a_refused_model(
    session_board: SimulatedBoard, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Connection, "upload", lambda *arguments: pytest.fail("uploaded"))
    # All layers in floating point would do; nothing less is looked for.
    monkeypatch.setattr(mixed_precision, "MOST_TRIALS", 1)
    before = session_board.find()
    with pytest.raises(VerificationError, match=r"asks for 100.00 %"):
        deploy(DEMO, data=files / "val.npz", min_agreement=1.0)
    assert session_board.find() == before, "no board is started for it"


def test_a_measured_model_says_so_where_it_is_live(session_board: SimulatedBoard, files: Path) -> None:
    measurement = deploy(DEMO, data=files / "val.npz", min_agreement=0.5)
    accuracy = Accuracy.of(measurement.manifest)
    assert accuracy is not None and accuracy.images == 37
    with Board() as board:
        live = board.status()["live"]
    assert Accuracy.of(live) == accuracy and live["accuracy"]["agreement"] == accuracy.agreement
    assert measurement.as_dict()["accuracy"] == measurement.manifest["accuracy"]


def test_bundles_are_judged_by_their_record(session_board: SimulatedBoard, demo_bundle: Path, files: Path) -> None:
    with pytest.raises(VerificationError, match="the accuracy of resnet20_cifar10 was not measured"):
        deploy(str(demo_bundle), min_agreement=0.9)
    with pytest.raises(UsageError, match="--data cannot apply to it; measure it with `edgectl evaluate"):
        deploy(str(demo_bundle), data=files / "val.npz")
    built, _ = compile_source(Source(DEMO), "sim", Stages(), data=files / "val.npz")
    path = files / "measured.bundle"
    path.write_bytes(built.data)
    with pytest.raises(VerificationError, match=r"asks for 100.00 %"):
        deploy(str(path), min_agreement=1.0)
    assert deploy(str(path), min_agreement=0.5).digest == built.digest
