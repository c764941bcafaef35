"""How much of a network's answers its other forms keep: counts with confidence intervals, and cosines of outputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from edgectl.datasets import Data, Dataset, as_input, read_data
from edgectl.errors import ModelError, UsageError
from edgectl.graph import Model
from edgectl.interpreter import in_parallel, interpret
from edgectl.quantization.folding import fold_batch_norm

CHUNK = 16
"""Images computed at once: more are no faster, as the layers' values leave the processor's cache."""
CONFIDENCE = 0.95
FEWEST_CLASSES = 6
"""Of fewer, the best five are all or nearly all."""

Answers = Callable[[np.ndarray], np.ndarray]
"""A model's input, float32 (N, ...), to its first output, (N, classes)."""
Progress = Callable[[int, int], None]
"""Called with how many images are done, and how many there are."""


@dataclass(frozen=True)
class Proportion:
    """`count` of `of` images."""

    count: int
    of: int

    @property
    def value(self) -> float:
        return self.count / self.of

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's score interval at CONFIDENCE (E. B. Wilson, J. Am. Stat. Assoc. 22, 1927): where the proportion
        among all images like these lies. Unlike the normal approximation it stays in 0..1 and is right near 1."""
        z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
        share = z * z / self.of
        centre = (self.value + share / 2) / (1 + share)
        half = z * math.sqrt(self.value * (1 - self.value) / self.of + share / (4 * self.of)) / (1 + share)
        low = 0.0 if self.count == 0 else max(0.0, centre - half)
        return low, 1.0 if self.count == self.of else min(1.0, centre + half)

    def as_dict(self) -> dict[str, Any]:
        low, high = self.interval
        return {"value": self.value, "low": low, "high": high, "count": self.count, "of": self.of}


@dataclass(frozen=True)
class Form:
    """What one form of a network (float, integer, on a board) answered.

    `top1` and `top5` need labels, `top5` FEWEST_CLASSES too. `agreement` (same answer) and cosines are with float;
    `equal` says how many outputs are the interpreter's. What could not be measured is None.
    """

    top1: Proportion | None = None
    top5: Proportion | None = None
    agreement: Proportion | None = None
    mean_cosine: float | None = None
    worst_cosine: float | None = None
    equal: Proportion | None = None

    def as_dict(self) -> dict[str, Any]:
        return {name: value.as_dict() if isinstance(value, Proportion) else value for name, value in vars(self).items()}


@dataclass(frozen=True)
class Agreement:
    """A float model and its integer form on the same images. `float` has top1 and top5 only."""

    images: int
    float: Form
    integer: Form

    @property
    def agreement(self) -> Proportion:
        """How often both give the same answer."""
        assert self.integer.agreement is not None
        return self.integer.agreement


def measure_agreement(
    float_model: Model, integer_model: Model, data: Data, progress: Progress | None = None
) -> Agreement:
    """Compare both models, by the interpreter, on all images of `data` (see `read_data`); labels are used where it has
    some.

    Raises UsageError where images or labels do not fit, ModelError where float outputs are not finite.
    """
    data = read_data(data, float_model)
    check_fit(data, float_model, float_model.types()[float_model.outputs[0]].shape)
    forms = {"float": answers_of(fold_batch_norm(float_model)), "integer": answers_of(integer_model)}
    found = compare(outputs_of(forms, data, float_model, progress), data.labels)
    return Agreement(len(data.images), found["float"], found["integer"])


def answers_of(model: Model) -> Answers:
    """The first output of a model with one input, flattened to (N, classes), by the interpreter."""
    (name,) = model.inputs
    return lambda x: interpret(model, {name: x})[model.outputs[0]].reshape(len(x), -1)


def outputs_of(
    forms: Mapping[str, Answers], data: Dataset, model: Model, progress: Progress | None = None
) -> dict[str, np.ndarray]:
    """Outputs (N, classes) of each form on `data`, whose images `model` says how to prepare. The forms are called from
    several threads."""

    def every(part: np.ndarray) -> dict[str, np.ndarray]:
        x = as_input(part, model)
        return {name: answers(x) for name, answers in forms.items()}

    parts: list[dict[str, np.ndarray]] = []
    for part in in_parallel(every, data.images, CHUNK):
        parts.append(part)
        if progress is not None:
            progress(min(len(parts) * CHUNK, len(data.images)), len(data.images))
    return {name: np.concatenate([part[name] for part in parts]) for name in forms}


def compare(outputs: Mapping[str, np.ndarray], labels: np.ndarray | None, tolerance: float = 1e-4) -> dict[str, Form]:
    """Each form's answers beside those of "float" and "integer", where these are among them.

    Outputs are equal where no value differs by more than `tolerance`, relative and absolute.
    """
    reference, integer = outputs.get("float"), outputs.get("integer")
    if reference is not None and not np.isfinite(reference).all():
        raise ModelError("the float model's outputs are not finite; give sound weights, and images as it expects them")
    found = {}
    for name, scores in outputs.items():
        cosines = None if reference is None or name == "float" else _cosines(reference, scores)
        found[name] = Form(
            top1=None if labels is None else _within(scores, labels, 1),
            top5=None if labels is None or scores.shape[1] < FEWEST_CLASSES else _within(scores, labels, 5),
            agreement=None if cosines is None or reference is None else _same(scores, reference),
            mean_cosine=None if cosines is None else float(cosines.mean()),
            worst_cosine=None if cosines is None else float(cosines.min()),
            equal=_equal(scores, integer, tolerance)
            if integer is not None and name not in ("float", "integer")
            else None,
        )
    return found


def check_fit(data: Dataset, model: Model, output: tuple[int, ...]) -> None:
    """Whether images and labels fit a model whose output has the shape `output`, before the long work begins."""
    if len(model.inputs) != 1:
        raise UsageError(f"'{model.name}' has inputs {sorted(model.inputs)}; an evaluation needs a model with one")
    as_input(data.images[:1], model)
    if data.labels is None:
        return
    low, high, classes = data.labels.min(), data.labels.max(), math.prod(output[1:])
    if low < 0 or high >= classes:
        raise UsageError(f"the labels are {low} to {high}, the model has classes 0 to {classes - 1}; count from 0")


def _within(scores: np.ndarray, labels: np.ndarray, best: int) -> Proportion:
    """How often the label is among the `best`; of equal scores the first counts as better, as for argmax."""
    own = np.take_along_axis(scores, labels[:, np.newaxis].astype(np.int64), axis=1)
    earlier = np.arange(scores.shape[1]) < labels[:, np.newaxis]
    rank = ((scores > own) | ((scores == own) & earlier)).sum(axis=1)
    return Proportion(int((rank < best).sum()), len(labels))


def _same(scores: np.ndarray, reference: np.ndarray) -> Proportion:
    return Proportion(int((scores.argmax(axis=1) == reference.argmax(axis=1)).sum()), len(scores))


def _equal(scores: np.ndarray, integer: np.ndarray, tolerance: float) -> Proportion:
    close = np.isclose(scores, integer, rtol=tolerance, atol=tolerance).all(axis=1)
    return Proportion(int(close.sum()), len(scores))


def _cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of each sample's outputs; 1 where both are zero."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    products = (a * b).sum(axis=1) / np.where(norms > 0, norms, 1)
    zero = ~(a.any(axis=1) | b.any(axis=1))
    return np.where(zero, 1.0, np.clip(products, -1, 1))
