"""What `evaluate` does: accuracy of a model, or of a bundle on a simulated board, on labelled images."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.boards import profile
from edge_agent.bundle import Bundle, read_bundle
from edge_agent.devices import open_accelerator
from edge_agent.errors import AgentError
from edge_agent.runtime.executor import Runtime
from edgectl.boards.board import preprocessing_of
from edgectl.datasets import Dataset, as_input, read_dataset
from edgectl.errors import EdgectlError, IncompatibleError, UsageError
from edgectl.graph import Model
from edgectl.operators.base import TensorType
from edgectl.quantization import evaluation
from edgectl.quantization.evaluation import Evaluation, outputs_of
from edgectl.quantization.quantizer import quantize
from edgectl.sources import Source, parameters_digest, prepare
from edgectl.stages import Stages


@dataclass(frozen=True)
class Report:
    """An evaluation, and what it was made of."""

    model: str
    data: str
    evaluation: Evaluation
    notices: tuple[str, ...]
    banner: str = ""

    def as_dict(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "data": self.data,
            **self.evaluation.as_dict(),
            "notices": list(self.notices),
            "banner": self.banner,
        }


def evaluate(
    source: Source, data: str | os.PathLike[str], limit: int | None = None, stages: Stages | None = None
) -> Report:
    """Float and integer accuracy of a model on the labelled images of an .npz file, by the interpreter.

    Raises UsageError where the data does not fit the model.
    """
    stages = stages or Stages()
    dataset = _labelled(data, limit)
    with stages.stage("import"):
        prepared = prepare(source)
        calibration = prepared.calibration(source.calibration)
    model = prepared.model.with_batch(1)
    _check_fit(dataset, model, model.types()[model.outputs[0]].shape)
    with stages.stage("quantize"):
        integer = quantize(model, calibration, stages.progress)

    with stages.stage("evaluate"):
        result = evaluation.evaluate(
            model,
            lambda x: outputs_of(integer, x),
            dataset.images,
            _labels(dataset),
            lambda part: as_input(part, model),
            stages.progress,
        )
    return Report(model.name, os.fspath(data), result, prepared.notices, prepared.weights.banner)


def evaluate_bundle(
    path: str | os.PathLike[str], data: str | os.PathLike[str], limit: int | None = None, stages: Stages | None = None
) -> Report:
    """Accuracy of a bundle, run by the agent's runtime on a simulated accelerator in this process.

    The float model is loaded again from where the bundle says it came from; where that is no longer the same, only the
    bundle's own accuracy is reported. Raises IncompatibleError where the bundle is for another processor.
    """
    stages = stages or Stages()
    dataset = _labelled(data, limit)
    notices = []
    with stages.stage("load"):
        bundle = read_bundle(Path(path))
        stand_in = _input_model(bundle)
        _check_fit(dataset, stand_in, bundle.manifest["outputs"][0]["shape"])
        board = profile("sim")
        try:
            loaded = Runtime(open_accelerator(board.accelerator, board)).load(bundle)
        except AgentError as error:
            raise IncompatibleError(f"{os.fspath(path)} does not run on this machine: {error}") from error
    with stages.stage("import"):
        float_model = _original(bundle)
        if float_model is None:
            notices.append("the model that the bundle was compiled from is not at hand: no comparison with it")
    (name,) = stand_in.inputs
    batch = stand_in.inputs[name].shape[0]
    lock = threading.Lock()

    def on_accelerator(x: np.ndarray) -> np.ndarray:
        padded = np.concatenate([x, np.repeat(x[-1:], -len(x) % batch, axis=0)])
        with lock:
            parts = [loaded.infer({name: padded[i : i + batch]}).outputs for i in range(0, len(padded), batch)]
        output = bundle.manifest["outputs"][0]["name"]
        return np.concatenate([part[output].reshape(batch, -1) for part in parts])[: len(x)]

    try:
        with stages.stage("evaluate"):
            result = evaluation.evaluate(
                float_model,
                on_accelerator,
                dataset.images,
                _labels(dataset),
                lambda part: as_input(part, stand_in),
                stages.progress,
            )
    finally:
        loaded.close()
    return Report(bundle.manifest["model"]["name"], os.fspath(data), result, tuple(notices))


def _labelled(data: str | os.PathLike[str], limit: int | None) -> Dataset:
    if limit is not None and limit < 1:
        raise UsageError(f"--limit {limit} must be at least 1")
    dataset = read_dataset(data, limit)
    if dataset.labels is None:
        raise UsageError(f"{os.fspath(data)} has no array 'y'; an evaluation needs the class index of each image")
    return dataset


def _labels(dataset: Dataset) -> np.ndarray:
    assert dataset.labels is not None
    return dataset.labels


def _check_fit(dataset: Dataset, model: Model, output: Sequence[int]) -> None:
    """Whether images and labels fit a model whose output has the shape `output`, before the long work begins."""
    if len(model.inputs) != 1:
        raise UsageError(f"'{model.name}' has inputs {sorted(model.inputs)}; an evaluation needs a model with one")
    as_input(dataset.images[:1], model)
    labels, classes = _labels(dataset), math.prod(output[1:])
    if labels.min() < 0 or labels.max() >= classes:
        raise UsageError(f"the labels are {labels.min()} to {labels.max()}, the model has classes 0 to {classes - 1}")


def _input_model(bundle: Bundle) -> Model:
    """A model with the bundle's input and preprocessing, and no layers."""
    manifest = bundle.manifest
    inputs = {spec["name"]: TensorType(tuple(spec["shape"]), spec["dtype"]) for spec in manifest["inputs"]}
    how = preprocessing_of(manifest) if manifest["preprocessing"] else None
    return Model(manifest["model"]["name"], inputs, (), {}, (), how)


def _original(bundle: Bundle) -> Model | None:
    """The float model that the bundle was compiled from, if it is still there and has the same parameters."""
    made_from = bundle.manifest["model"]
    if "source" not in made_from:
        return None
    kind = made_from["weights"]["kind"]
    weights = {"random": "random", "file": made_from["weights"]["source"]}.get(kind, "auto")
    shape = tuple(bundle.manifest["inputs"][0]["shape"])
    try:
        model = prepare(Source(made_from["source"], weights, shape=shape, seed=made_from["seed"])).model.with_batch(1)
    except EdgectlError:
        return None
    return replace(model, preprocessing=None) if parameters_digest(model) == made_from["parameters_sha256"] else None
