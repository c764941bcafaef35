"""Accuracy of models and of bundles: the same numbers whichever way they are computed."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgectl.building import build
from edgectl.deploying import compile_source
from edgectl.errors import IncompatibleError, UsageError
from edgectl.evaluating import evaluate, evaluate_bundle
from edgectl.frontends.zoo import DATA
from edgectl.interpreter import interpret
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
    by_bundle, by_model = evaluate_bundle(path, data).evaluation, evaluate(DEMO, data).evaluation
    assert by_bundle.as_dict() == pytest.approx(by_model.as_dict(), abs=1e-4)


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
