"""Class names are in the order of the networks' outputs."""

from __future__ import annotations

import pytest

from edgectl.errors import ModelError
from edgectl.labels import read_labels


def test_imagenet_in_its_usual_order() -> None:
    labels = read_labels("imagenet1k")
    assert len(labels) == len(set(labels)) == 1000
    places = {0: "tench", 1: "goldfish", 207: "golden retriever", 281: "tabby", 282: "tiger cat", 285: "Egyptian cat",
              404: "airliner", 817: "sports car", 954: "banana", 999: "toilet tissue"}  # fmt: skip
    assert {place: labels[place] for place in places} == places


def test_cifar10_in_its_usual_order() -> None:
    names = "airplane automobile bird cat deer dog frog horse ship truck"
    assert read_labels("cifar10") == tuple(names.split())


def test_unknown_labels_name_those_there_are() -> None:
    with pytest.raises(ModelError, match="'coco'; known are cifar10, imagenet1k"):
        read_labels("coco")
