"""One way in for every model: a zoo name, a checkpoint or a Gluon block."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgectl.errors import ModelError, UsageError
from edgectl.frontends import zoo
from edgectl.frontends.graph_builder import Shapes
from edgectl.frontends.mxnet import from_block, from_checkpoint
from edgectl.graph import Model, Preprocessing
from edgectl.interchange.mxnet import CheckpointPaths
from edgectl.weights import CHOICES, WeightsReport, WeightsStore, random_model, resolve_weights


def load(
    source: str | os.PathLike[str] | Any,
    weights: str = "auto",
    input_shapes: Shapes | None = None,
    simulated: bool = True,
    seed: int = 0,
    epoch: int = 0,
    preprocessing: Preprocessing | None = None,
    labels: Sequence[str] = (),
    store: WeightsStore | None = None,
) -> tuple[Model, WeightsReport]:
    """A model with weights, and where these come from.

    `source` is a zoo name, a checkpoint (its prefix or either of its files) or an initialised HybridBlock.
    `weights` is auto, pretrained, random or the path of a file; checkpoints and blocks bring their own under auto.
    `input_shapes` (by name, or the only input's; batch first) are needed where a checkpoint does not record them, and
    for blocks. `preprocessing` and `labels` replace what the zoo knows.
    Raises ModelError, UsageError, UnreachableError, VerificationError.
    """
    if not isinstance(source, (str, os.PathLike)):
        model, report = _from_block(source, weights, input_shapes, seed)
    elif (name := os.fspath(source)) in zoo.names() or not _is_path(name):
        model, report = resolve_weights(zoo.load(name, input_shapes), weights, simulated, seed, store)
    else:
        model, report = _from_checkpoint(name, weights, input_shapes, seed, epoch)
    model = replace(model, preprocessing=preprocessing or model.preprocessing, labels=tuple(labels) or model.labels)
    model.types()
    return model, report


def _is_path(name: str) -> bool:
    looks = os.sep in name or "/" in name or name.endswith((".json", ".params"))
    return looks or CheckpointPaths.of(name).symbol.exists()


def _from_checkpoint(
    name: str, weights: str, input_shapes: Shapes | None, seed: int, epoch: int
) -> tuple[Model, WeightsReport]:
    if weights == "pretrained":
        raise UsageError(f"--weights pretrained is for zoo names; {name} is a checkpoint: leave --weights out")
    if weights in CHOICES:
        model = from_checkpoint(name, None, epoch, input_shapes)
        if weights == "random":
            return random_model(model, seed, "--weights random was asked for")
        return model, WeightsReport("checkpoint", str(CheckpointPaths.of(name, epoch).parameters))
    if not Path(weights).is_file():
        raise UsageError(f"--weights {weights}: no such file, and not one of {', '.join(CHOICES)}")
    return from_checkpoint(name, weights, epoch, input_shapes), WeightsReport("file", weights)


def _from_block(block: Any, weights: str, input_shapes: Shapes | None, seed: int) -> tuple[Model, WeightsReport]:
    if not input_shapes:
        raise ModelError("a HybridBlock does not know its inputs; give input_shapes={'data': (1, 3, 224, 224)}")
    if weights not in ("auto", "random"):
        raise UsageError(f"--weights {weights} is not for a block, which has its own; load them into the block first")
    model = from_block(block, input_shapes)
    if weights == "random":
        return random_model(model, seed, "--weights random was asked for")
    return model, WeightsReport("block", model.name)
