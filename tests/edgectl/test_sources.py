"""What a user says of a model, and the model that it means."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgectl.errors import ModelError, UsageError
from edgectl.frontends.zoo import DATA
from edgectl.interchange.mxnet import write_checkpoint
from edgectl.sources import (
    IMAGENET_MEAN,
    MAXIMUM_BATCH,
    Source,
    is_bundle,
    parameters_digest,
    prepare,
)

DEMO = Source("resnet20_cifar10")


@pytest.fixture
def checkpoint(tmp_path: Path) -> str:
    for suffix in ("-symbol.json", "-0000.params"):
        shutil.copy(DATA / "models" / f"resnet20_cifar10{suffix}", tmp_path / f"net{suffix}")
    return str(tmp_path / "net")


def test_a_zoo_model_brings_its_preprocessing_and_labels() -> None:
    prepared = prepare(DEMO)
    assert prepared.model.preprocessing is not None and prepared.model.preprocessing.crop == (32, 32)
    assert len(prepared.model.labels) == 10
    assert prepared.origin["source"] == "resnet20_cifar10"
    assert prepared.origin["weights"] == {"kind": "pretrained", "source": "ships with edgectl"}
    assert ["synthetic images" in notice for notice in prepared.notices] == [True]


def test_options_override_it() -> None:
    prepared = prepare(replace(DEMO, mean=(0.5,), std=(0.25,), labels=("a", "b"), batch=3, shape=(3, 48, 40)))
    how = prepared.model.preprocessing
    assert how is not None and how.mean == (0.5,) * 3 and how.std == (0.25,) * 3 and how.crop == (48, 40)
    assert prepared.model.labels == ("a", "b")
    assert prepared.model.inputs["data"].shape == (3, 3, 48, 40)


def test_a_checkpoint_says_that_its_preprocessing_is_assumed(checkpoint: str) -> None:
    prepared = prepare(Source(checkpoint, shape=(1, 3, 32, 32)))
    how = prepared.model.preprocessing
    assert how is not None and how.mean == IMAGENET_MEAN
    assert any("assuming ImageNet's mean and std" in notice for notice in prepared.notices)
    assert prepared.weights.kind == "checkpoint"
    told = prepare(Source(checkpoint, shape=(3, 32, 32), mean=(0.4,), std=(0.2,)))
    assert not any("assuming" in notice for notice in told.notices)


def test_calibration_silences_the_notice(tmp_path: Path) -> None:
    np.savez(tmp_path / "c.npz", x=np.zeros((2, 32, 32, 3), np.uint8))
    prepared = prepare(replace(DEMO, calibration=str(tmp_path / "c.npz")))
    assert prepared.notices == ()
    images = prepared.calibration(str(tmp_path / "c.npz"))
    assert images is not None and images.shape == (2, 3, 32, 32)
    assert prepared.calibration("") is None


@pytest.mark.parametrize(
    "changes",
    [
        {"batch": 0},
        {"batch": MAXIMUM_BATCH + 1},
        {"shape": (3, 32)},
        {"shape": (1, 1, 3, 32, 32)},
        {"shape": (3, -32, 32)},
        {"shape": (3, 1 << 20, 1 << 20)},
        {"mean": (0.5,)},
        {"std": (0.5,)},
        {"mean": (0.5, 0.5), "std": (0.5,)},
    ],
)
def test_what_cannot_be(changes: dict[str, tuple[float, ...]]) -> None:
    with pytest.raises(UsageError):
        prepare(replace(DEMO, **changes))


def test_the_digest_of_parameters_is_of_names_and_values_in_any_order() -> None:
    model = prepare(DEMO).model
    backwards = replace(model, parameters=dict(reversed(model.parameters.items())))
    assert parameters_digest(model) == parameters_digest(backwards)
    name, array = next(iter(model.parameters.items()))
    changed = array.copy()
    changed.flat[0] += 1
    assert parameters_digest(replace(model, parameters={**model.parameters, name: changed})) != parameters_digest(model)


def test_what_is_a_bundle(tmp_path: Path, demo_bundle: Path) -> None:
    assert is_bundle(str(demo_bundle)) and is_bundle("not/there.bundle")
    shutil.copy(demo_bundle, tmp_path / "renamed")
    assert is_bundle(str(tmp_path / "renamed"))
    for name in ("resnet18_v1", "", "\0", str(tmp_path), str(DATA / "models" / "resnet20_cifar10-0000.params")):
        assert not is_bundle(name)


def _dense_checkpoint(prefix: Path, *inputs: str) -> str:
    """A dense layer on the concatenated `inputs`, whose shapes the symbol does not record."""
    names = (*inputs, "weight", "bias")
    nodes: list[dict[str, Any]] = [{"op": "null", "name": name, "inputs": []} for name in names]
    edges = [[index, 0, 0] for index in range(len(nodes) + 1)]
    nodes.append({"op": "Concat", "name": "joined", "inputs": edges[: len(inputs)]})
    dense = [edges[-1], *edges[len(inputs) : -1]]
    nodes.append({"op": "FullyConnected", "name": "fc", "inputs": dense, "attrs": {"num_hidden": "5"}})
    document = {"nodes": nodes, "heads": [[len(nodes) - 1, 0, 0]]}
    weight = np.ones((5, 20 * len(inputs)), np.float32)
    write_checkpoint(prefix, json.dumps(document), {"weight": weight, "bias": np.zeros(5, np.float32)})
    return str(prefix)


def test_a_shape_is_the_only_inputs_whatever_its_name(tmp_path: Path) -> None:
    model = prepare(Source(_dense_checkpoint(tmp_path / "net", "pixels"), shape=(20,), batch=2)).model
    assert {name: kind.shape for name, kind in model.inputs.items()} == {"pixels": (2, 20)}


def test_one_shape_for_two_inputs(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"inputs \['a', 'b'\], one shape was given, \[1, 20\]"):
        prepare(Source(_dense_checkpoint(tmp_path / "net", "a", "b"), shape=(20,)))
