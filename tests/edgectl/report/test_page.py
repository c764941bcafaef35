"""The page as a browser's parser sees it."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from edge_agent.bundle import Bundle, read_bundle
from edgectl.building import build
from edgectl.decisions import in_words
from edgectl.errors import EdgectlError
from edgectl.graph import Preprocessing
from edgectl.report.figures import Figures, figures_of
from edgectl.report.markup import digits
from edgectl.report.page import excess, page, write_page
from tests.edgectl.quantization.networks import NETWORKS
from tests.edgectl.report import handmade

VOID = {"meta"}


class Reader(HTMLParser):
    """Elements must nest; collects texts by element, and attributes."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(document)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(data)

    def rows(self) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == "tr" and "data-begin" in attributes]


def test_the_page_has_every_layer_and_figure(figures: Figures) -> None:
    document = page(figures)
    reader = Reader(document)
    assert document.startswith("<!doctype html>")
    assert [int(row["data-cycles"] or 0) for row in reader.rows()] == [layer.cycles for layer in figures.layers]
    assert {layer.name for layer in figures.layers} <= set(reader.texts["code"])
    assert {"loop_entry", "instruction", "burst_latency", "burst_beats", "fetch"} <= set(reader.texts["code"])
    assert f"{figures.cycles:,} cycles" in document
    assert "a prediction, not a measurement" in document
    assert reader.texts["h2"] == [
        "Furthest from the bound",
        "Timeline",
        "Layers",
        "Roofline",
        "Sensitivity of the prediction",
        "The whole inference",
        "On the CPU",
    ]
    assert "conv0" in reader.texts["code"]


def test_each_layer_has_a_hidden_row_on_its_tiles(figures: Figures) -> None:
    reader = Reader(page(figures))
    hidden = [attributes for tag, attributes in reader.tags if tag == "tr" and attributes.get("class") == "decision"]
    assert len(hidden) == len(figures.layers) and all("hidden" in attributes for attributes in hidden)
    assert sum(attributes.get("class") == "name" for tag, attributes in reader.tags if tag == "button") == len(hidden)
    for layer in figures.layers:
        assert layer.decision is not None
        assert set(in_words(layer.decision).values()) <= set(reader.texts["dd"])
        assert f"{layer.cycles:,} cycles, {layer.nbytes / 1e3:,.1f} kB" in reader.texts["dd"]
        tiling = layer.decision.tiling
        assert f"{tiling.rows}×{tiling.columns}×{tiling.units}" in reader.texts["td"]


def test_a_layer_whose_tiles_are_not_recorded_has_its_row_alone(figures: Figures) -> None:
    bare = replace(figures, layers=tuple(replace(layer, decision=None) for layer in figures.layers))
    reader = Reader(page(bare))
    assert len(reader.rows()) == len(figures.layers) and "dd" not in reader.texts
    assert {layer.name for layer in figures.layers} <= set(reader.texts["code"])


def test_layers_on_the_cpu_are_told_once_for_each_reason(figures: Figures) -> None:
    many = page(replace(figures, fallbacks=(("a", "it is large"), ("b", "it is small"), ("c", "it is large"))))
    reader = Reader(many)
    assert reader.texts["li"][-2:] == ["it is large: ", "it is small: "] and reader.texts["code"][-2:] == ["a, c", "b"]
    none = page(replace(figures, fallbacks=()))
    assert "The layers that they compute" in many and "every layer runs there" in none


def test_the_page_has_the_whole_inference(figures: Figures) -> None:
    predicted = figures.predicted
    document = page(figures)
    texts = Reader(document).texts
    assert {step["step"] for step in predicted["steps"]} <= set(texts["code"])
    assert {step["why"] for step in predicted["steps"]} <= set(texts["td"])
    assert f"on pynq: {digits(predicted['total_seconds'] * 1e3)} ms, of it VTA" in document
    old = {name: predicted[name] for name in ("vta_cycles", "clock_hz", "vta_seconds")}
    assert "The whole inference" not in page(replace(figures, predicted=old))


def test_the_page_has_the_inputs_dtype(figures: Figures) -> None:
    assert "input data float32[1, 3, 16, 16]" in page(figures)
    assert figures.as_dict()["inputs"] == ["data float32[1, 3, 16, 16]"]
    how = Preprocessing(16, (16, 16), (0.5,) * 3, (0.25,) * 3)
    built = build(replace(NETWORKS["residual"](), preprocessing=how), pixels=True)
    assert "input data uint8[1, 3, 16, 16]" in page(figures_of(read_bundle(built.data)))


def test_the_page_needs_nothing_else(figures: Figures) -> None:
    document = page(figures)
    tags = Reader(document).tags
    assert not {"link", "img", "iframe", "object"} & {tag for tag, _ in tags}
    assert not [attributes for _, attributes in tags if {"src", "href", "xlink:href"} & set(attributes)]
    assert not re.search(r"@import|url\(", document)
    assert set(re.findall(r"https?://[^\"' ]+", document)) == {"http://www.w3.org/2000/svg"}


def test_names_are_escaped() -> None:
    figures = handmade.figures()
    evil = "</code><script>alert('\"&amp;\x07')</script>"
    layers = tuple(replace(layer, name=evil) for layer in figures.layers)
    document = page(replace(figures, layers=layers, model=evil, fallbacks=((evil, evil),)))
    reader = Reader(document)
    assert sum(tag == "script" for tag, _ in reader.tags) == 1
    shown = evil.replace("\x07", "\ufffd")
    assert shown in reader.texts["h1"] and shown in reader.texts["code"]


def test_the_page_is_the_same_for_the_same_bundle(figures: Figures, bundle: Bundle) -> None:
    assert page(figures) == page(figures_of(bundle))


def test_the_layer_furthest_from_its_bound_comes_first(figures: Figures) -> None:
    bus = figures.board.bus_bytes
    worst = max(enumerate(figures.layers, 1), key=lambda pair: excess(pair[1], bus))
    first = next(text for text in Reader(page(figures)).texts["code"])
    assert first == f"{worst[0]} {worst[1].name}"


def test_a_model_without_layers_on_vta(figures: Figures) -> None:
    document = page(replace(figures, runs=(), layers=(), outside=(), sensitivity=()))
    assert Reader(document).rows() == [] and "No layer of this model runs on VTA" in document


def test_the_page_of_many_layers_stays_small(figures: Figures) -> None:
    """The timeline's size does not grow with the network; a layer adds its row alone."""
    many = replace(figures, layers=figures.layers * 30)
    assert len(page(many)) - len(page(figures)) < 7000 * 29 * len(figures.layers)


def test_writing(figures: Figures, tmp_path: Path) -> None:
    write_page(figures, tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == page(figures)
    (tmp_path / "folder").mkdir()
    with pytest.raises(EdgectlError, match="cannot write"):
        write_page(figures, tmp_path / "page.html" / "x.html")
