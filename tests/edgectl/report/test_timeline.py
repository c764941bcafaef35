"""Time cut into bins: shares, areas and scale."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from edge_agent.vta.schedule import Module
from edgectl.report.figures import Figures
from edgectl.report.timeline import MAXIMUM_BINS, _area, round_step, shares, timeline
from tests.edgectl.report import handmade


def total(figures: Figures, module: Module, bins: int) -> dict[str, float]:
    """Cycles by kind."""
    width = figures.cycles / bins
    return {share.name: share.values.sum() * width for share in shares(figures, module, bins) if share.values.any()}


@pytest.mark.parametrize("bins", [1, 7, 100])
def test_shares_add_up_to_what_each_module_does(bins: int) -> None:
    figures = handmade.figures()
    compute = {"GEMM": 138 + 88 + 43, "ALU": 86, "loads on compute": 120, "tokens": 30, "waiting for load": 200}
    assert total(figures, Module.COMPUTE, bins) == pytest.approx(compute)
    assert total(figures, Module.LOAD, bins) == pytest.approx({"input": 198, "waiting for fetch": 2})
    assert total(figures, Module.STORE, bins) == pytest.approx({"output": 248, "waiting for compute": 424})


def test_a_bin_shows_what_happens_in_it() -> None:
    figures = handmade.figures()
    by_name = {share.name: share.values for share in shares(figures, Module.COMPUTE, figures.cycles)}
    assert by_name["waiting for load"][:200].tolist() == [1.0] * 200
    np.testing.assert_allclose(by_name["GEMM"][200:338], 1)
    np.testing.assert_allclose(by_name["GEMM"][338:424], 0, atol=1e-9)
    stacked = sum(by_name.values())
    np.testing.assert_allclose(stacked, 1)


def heights(path: str, bottom: int) -> list[int]:
    """The columns that path data draws."""
    level, columns = bottom, []
    for command, value in re.findall(r"([vh])(-?\d+)", path):
        if command == "v":
            level += int(value)
        else:
            columns += [bottom - level] * int(value)
    return columns


def test_areas_are_their_columns() -> None:
    columns = np.array([0, 3, 3, 1, 0, 0, 7])
    path = _area(columns, 50)
    assert path == "M0 50h1v-3h2v2h1v1h2v-7h1V50z"
    assert heights(path, 50) == columns.tolist()


def test_the_figure(figures: Figures) -> None:
    drawing = ElementTree.fromstring(timeline(figures))
    plot = next(node for node in drawing.iter("svg") if node.get("class") == "plot")
    assert int(plot.get("data-cycles", "")) == figures.cycles and int(plot.get("data-bins", "")) <= MAXIMUM_BINS
    titles = [node.text or "" for node in plot.iter("title")]
    assert len(titles) == len(figures.layers)
    assert all(layer.name in title for layer, title in zip(figures.layers, titles, strict=True))
    assert [node.text for node in drawing.iter("text") if node.get("class") == "lane"] == ["load", "compute", "store"]


@pytest.mark.parametrize(
    ("extent", "step"), [(85.8, 20), (0.05, 0.01), (7.9, 1), (8.1, 2), (1000, 200), (399, 50), (3e-6, 5e-7)]
)
def test_steps_of_the_scale(extent: float, step: float) -> None:
    assert round_step(extent, 8) == pytest.approx(step)
