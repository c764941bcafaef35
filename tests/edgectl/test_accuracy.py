"""Counts with intervals, and the comparison of outputs, on numbers made by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgectl.accuracy import Proportion, compare, measure_agreement
from edgectl.datasets import Dataset
from edgectl.errors import ModelError, UsageError
from edgectl.graph import Model, Node
from edgectl.operators.base import TensorType
from edgectl.operators.dense import Dense
from edgectl.quantization.quantizer import quantize

Z = 1.959963984540054


@pytest.mark.parametrize(
    ("count", "of", "low", "high"),
    # Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_intervals_of_the_literature(count: int, of: int, low: float, high: float) -> None:
    assert Proportion(count, of).interval == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 10**6).flatmap(lambda of: st.tuples(st.integers(0, of), st.just(of))))
def test_intervals_hold_the_definition(counts: tuple[int, int]) -> None:
    """An end p lies where the score (value - p) / sqrt(p (1 - p) / n) is the normal quantile."""
    found = Proportion(*counts)
    low, high = found.interval
    assert 0 <= low <= found.value <= high <= 1
    for end in {low, high} - {0.0, 1.0}:
        assert abs(found.value - end) / math.sqrt(end * (1 - end) / found.of) == pytest.approx(Z, rel=1e-4)
    mirrored = Proportion(found.of - found.count, found.of).interval
    assert (low, high) == pytest.approx((1 - mirrored[1], 1 - mirrored[0]), abs=1e-12)


def test_answers_cosines_and_equality() -> None:
    floats = np.array([[3, 1, 0], [0, 2, 1], [1, 0, 4], [0, 0, 0]], np.float32)
    integers = np.array([[3, 1, 0], [0, 1, 2], [-1, 0, -4], [0, 0, 0]], np.float32)
    board = integers + np.array([[0], [1e-5], [1e-2], [0]], np.float32)
    found = compare({"float": floats, "integer": integers, "board": board}, np.array([0, 1, 2, 0]))
    assert found["float"].top1 == Proportion(4, 4) and found["float"].agreement is None
    # Of the third image int8 says class 1; of equal scores the first counts.
    assert found["integer"].top1 == Proportion(2, 4)
    assert found["integer"].agreement == Proportion(2, 4)
    assert found["integer"].mean_cosine == pytest.approx((1 + 4 / 5 - 1 + 1) / 4)
    assert found["integer"].worst_cosine == pytest.approx(-1)
    assert found["integer"].equal is None and found["board"].equal == Proportion(3, 4)
    assert found["float"].top5 is None, "three classes have no best five"


@given(st.integers(0, 2**32 - 1), st.integers(6, 12))
def test_top5_is_a_stable_order(seed: int, classes: int) -> None:
    generator = np.random.default_rng(seed)
    scores = generator.integers(0, 4, (9, classes)).astype(np.float32)  # few values: many are equal
    labels = generator.integers(0, classes, 9)
    form = compare({"integer": scores}, labels)["integer"]
    order = np.argsort(-scores, axis=1, kind="stable")
    assert form.top5 == Proportion(sum(int(label in row[:5]) for row, label in zip(order, labels, strict=True)), 9)
    assert form.top1 == Proportion(int((scores.argmax(1) == labels).sum()), 9)


def _dense(weight: np.ndarray) -> Model:
    inputs = {"x": TensorType((1, weight.shape[1]))}
    return Model("dense", inputs, (Node("y", Dense(), ("x", "w")),), {"w": weight}, ("y",))


def test_both_models_of_one_weight_are_compared() -> None:
    model = _dense(np.array([[1, 0], [0, 1]], np.float32))
    x = np.array([[1, 0.5], [0.25, 1], [0.5, -1]], np.float32)
    found = measure_agreement(model, quantize(model, x), Dataset(x, np.array([0, 1, 1])))
    assert (found.images, found.float.top1, found.agreement) == (3, Proportion(2, 3), Proportion(3, 3))
    swapped = _dense(np.array([[0, 1], [1, 0]], np.float32))
    other = measure_agreement(model, quantize(swapped, x), Dataset(x, None))
    assert other.agreement == Proportion(0, 3) and other.float.top1 is None


def test_what_does_not_fit_is_refused() -> None:
    model = _dense(np.eye(2, dtype=np.float32))
    x = np.ones((2, 2), np.float32)
    with pytest.raises(UsageError, match="labels are 0 to 2, the model has classes 0 to 1"):
        measure_agreement(model, model, Dataset(x, np.array([0, 2])))
    with pytest.raises(UsageError, match=r"float32\[1, 3\]"):
        measure_agreement(model, model, Dataset(np.ones((2, 3), np.float32), None))
    with pytest.raises(ModelError, match="not finite"):
        measure_agreement(_dense(np.full((2, 2), np.inf, np.float32)), model, Dataset(x, None))
