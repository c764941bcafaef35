"""What a manifest says of accuracy, sound or not."""

from __future__ import annotations

import math
from typing import Any

import pytest

from edge_agent.accuracy import Accuracy

ENTRY: dict[str, Any] = {
    "images": 1000,
    "agreement": 0.985,
    "interval": [0.975, 0.9925],
    "confidence": 0.95,
    "top1_float": 0.93,
    "top1_integer": 0.925,
    "mean_cosine": 0.9987,
    "worst_cosine": 0.91,
    "layers": [],
    "data_sha256": "0" * 64,
    "date": "2026-11-20T10:00:00+00:00",
}


def test_an_entry_is_read_and_said() -> None:
    found = Accuracy.of({"accuracy": ENTRY})
    assert found == Accuracy(1000, 0.985, 0.975, 0.9925, 0.9987, 0.93, 0.925, ENTRY["date"])
    assert found.in_words() == (
        "98.50 % same answer as float on 1,000 images (95 %: 97.50 to 99.25), top-1 93.00 % float, 92.50 % int8"
    )
    assert Accuracy.of({"accuracy": found.as_dict()}) == found, "what a board says of it can be read again"


def test_without_labels() -> None:
    found = Accuracy.of({"accuracy": {**ENTRY, "top1_float": None, "top1_integer": None}})
    assert found is not None and found.top1_float is None and found.in_words().endswith("99.25)")


@pytest.mark.parametrize(
    "manifest",
    [
        {},
        {"accuracy": None},
        {"accuracy": 0.98},
        {"accuracy": []},
        {"accuracy": {name: value for name, value in ENTRY.items() if name != "interval"}},
        {"accuracy": {**ENTRY, "agreement": "much"}},
        {"accuracy": {**ENTRY, "agreement": 98.5}},
        {"accuracy": {**ENTRY, "agreement": math.nan}},
        {"accuracy": {**ENTRY, "images": 0}},
        {"accuracy": {**ENTRY, "images": math.inf}},
        {"accuracy": {**ENTRY, "interval": [0.1]}},
        {"accuracy": {**ENTRY, "mean_cosine": math.inf}},
    ],
)
def test_what_makes_no_sense_is_not_measured(manifest: dict[str, Any]) -> None:
    assert Accuracy.of(manifest) is None
