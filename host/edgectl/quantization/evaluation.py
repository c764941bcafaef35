"""How much of a network's answers its integer form keeps, on labelled images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edgectl.errors import UsageError
from edgectl.graph import Model
from edgectl.interpreter import in_parallel, interpret

CHUNK = 16

Prepare = Callable[[np.ndarray], np.ndarray]
"""A chunk of stored images -> float32 (N, C, H, W)."""


@dataclass(frozen=True)
class Evaluation:
    """Over `n` images: top-1 accuracies, how often both forms give the same answer, mean cosine of their outputs.

    What needs a form that is not at hand is None.
    """

    n: int
    top1_float: float | None
    top1_int8: float | None
    agreement: float | None
    mean_cosine: float | None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def evaluate(
    float_model: Model | None,
    integer: Callable[[np.ndarray], np.ndarray],
    images: np.ndarray,
    labels: np.ndarray,
    prepare: Prepare,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Compare `float_model` (None: not at hand) with `integer`, a function from float32 images to outputs (N, classes).

    `labels` (N) are class indices. Raises UsageError where they do not fit the images or the classes.
    """
    if len(images) != len(labels) or len(images) == 0:
        raise UsageError(f"the data has {len(images)} images and {len(labels)} labels; there must be equally many")

    def both(part: np.ndarray) -> tuple[np.ndarray | None, np.ndarray]:
        x = prepare(part)
        return (None if float_model is None else outputs_of(float_model, x)), integer(x)

    floats, integers = [], []
    for scores, quantized in in_parallel(both, images, CHUNK):
        floats.append(scores)
        integers.append(quantized)
        if progress is not None:
            progress(min(len(integers) * CHUNK, len(images)), len(images))
    return _compare(
        None if float_model is None else np.concatenate([s for s in floats if s is not None]),
        np.concatenate(integers),
        labels,
    )


def outputs_of(model: Model, images: np.ndarray) -> np.ndarray:
    """The first output of a model with one input, flattened to (N, classes)."""
    (name,) = model.inputs
    return interpret(model, {name: images})[model.outputs[0]].reshape(len(images), -1)


def _compare(floats: np.ndarray | None, integers: np.ndarray, labels: np.ndarray) -> Evaluation:
    classes = integers.shape[1]
    if labels.min() < 0 or labels.max() >= classes:
        raise UsageError(f"the labels are {labels.min()} to {labels.max()}, the model has classes 0 to {classes - 1}")
    answers = integers.argmax(axis=1)
    top1_int8 = float((answers == labels).mean())
    if floats is None:
        return Evaluation(len(labels), None, top1_int8, None, None)
    norms = np.linalg.norm(floats, axis=1) * np.linalg.norm(integers, axis=1)
    cosines = (floats * integers).sum(axis=1) / np.where(norms > 0, norms, 1)
    expected = floats.argmax(axis=1)
    return Evaluation(
        n=len(labels),
        top1_float=float((expected == labels).mean()),
        top1_int8=top1_int8,
        agreement=float((answers == expected).mean()),
        mean_cosine=float(cosines.mean()),
    )
