"""Where layers lie under the roof."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from xml.etree import ElementTree

import pytest

from edgectl.bounds import Bound
from edgectl.report.figures import Figures
from edgectl.report.roofline import peak, points, roofline
from tests.edgectl.report import handmade


def test_a_point() -> None:
    figures = handmade.figures()
    (point,) = points(figures)
    assert (point.place, point.layer.name) == (1, "first")
    assert point.intensity == pytest.approx(2 * 90 * 256 / 2048)
    assert point.rate == pytest.approx(2 * 90 * 256 / 424 * 100e6)
    assert peak(figures) == 51.2e9


def test_every_layer_is_below_the_roof_and_in_the_figure(figures: Figures) -> None:
    for point in points(figures):
        assert point.rate <= min(peak(figures), point.intensity * 8 * figures.board.clock_hz)
    drawing = ElementTree.fromstring(roofline(figures))
    titles = [circle.findtext("title") or "" for circle in drawing.iter("circle")]
    assert {title.split(":")[0] for title in titles} == {
        f"{place} {layer.name}" for place, layer in enumerate(figures.layers, 1)
    }
    places = [
        (float(text.get("x", "")), float(text.get("y", "")))
        for text in drawing.iter("text")
        if text.get("class") == "label"
    ]
    assert places and all(abs(a[0] - b[0]) >= 6.5 or abs(a[1] - b[1]) >= 9 for a, b in combinations(places, 2))


def test_labels_keep_clear_of_what_is_said_of_the_roof() -> None:
    """Four layers in one place at the peak, beneath the words: one label to the right, one to the left, one below."""
    figures = handmade.figures()
    macs = 90 * 256 * 20
    layer = replace(figures.layers[0], bound=Bound(macs=macs), cycles=macs // 256)
    drawing = ElementTree.fromstring(roofline(replace(figures, layers=(layer,) * 4)))
    circle = next(drawing.iter("circle"))
    notes = [text for text in drawing.iter("text") if text.get("class") == "note end"]
    assert [text.text for text in notes] == ["GEMM peak 51.2 GOP/s", "bus 800 MB/s"]
    x, y = (float(circle.get(name, "")) for name in ("cx", "cy"))
    right = float(notes[0].get("x", ""))
    assert right - 100 < x < right and y == pytest.approx(float(notes[0].get("y", "")) + 14, abs=0.2)
    labels = [text for text in drawing.iter("text") if text.get("class") == "label"]
    assert len(labels) == 3 and all(float(label.get("y", "")) > y for label in labels)


def test_nothing_that_multiplies_is_no_figure() -> None:
    figures = handmade.figures()
    assert roofline(replace(figures, layers=figures.layers[1:])) == ""


@pytest.mark.parametrize("factor", [1, 1000])
def test_the_words_on_the_roof_do_not_overlap(factor: int) -> None:
    """Where layers lie on the slope, and where all of them are far to the right of it."""
    figures = handmade.figures()
    (layer,) = (layer for layer in figures.layers if layer.bound and layer.bound.macs)
    macs = layer.nbytes * factor
    layers = tuple(replace(layer, bound=Bound(macs=macs // more), cycles=macs) for more in (1, 4))
    drawing = ElementTree.fromstring(roofline(replace(figures, layers=layers)))
    peak, bus = (text for text in drawing.iter("text") if text.get("class") == "note end")
    (begin, _), (end, base) = (
        (float(text.get("x", "")) - 6.5 * len(text.text or ""), float(text.get("y", ""))) for text in (peak, bus)
    )
    bus_end = end + 6.5 * len(bus.text or "")
    assert end >= 56 and (bus_end < begin or base > float(peak.get("y", "")) + 9)
