"""The report's table of a whole inference: VTA's programs, the CPU's kernels and copies, the agent's calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgectl.cpu_estimate import CALLS, CPU, VTA
from edgectl.report.markup import digits, element, percent, row, text

PARTS = {VTA: "VTA", CPU: "CPU", CALLS: "calls"}
HEADINGS = (("step", "word"), ("part", "word"), ("ms", None), ("share", None), ("how it comes about", "word"))
"""Names of columns, and the class of those that hold words."""


def inference_table(predicted: Mapping[str, Any]) -> str:
    """The steps of a manifest's `predicted` in order, and their total."""
    total = predicted["total_seconds"]
    rows = (
        row(
            [
                element("td", element("code", text(step["step"])), class_="word names"),
                element("td", text(PARTS.get(step["part"], step["part"])), class_="word"),
                *_time(step["seconds"], total),
                element("td", text(step["why"]), class_="word wide"),
            ]
        )
        for step in predicted["steps"]
    )
    last = (element("td", "inference", class_="word"), element("td", ""), *_time(total, total), element("td", ""))
    headings = (element("th", text(name), scope="col", class_=kind) for name, kind in HEADINGS)
    return element("table", element("thead", row(headings)), element("tbody", *rows), element("tfoot", row(last)))


def _time(seconds: float, total: float) -> tuple[str, str]:
    return element("td", digits(seconds * 1e3)), element("td", percent(seconds / total))
