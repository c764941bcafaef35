"""The documentation says what the code does: series, verbs, variables, links."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from edge_agent.metrics import Metrics
from edgectl.cli.application import verb_functions

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
SOURCES = [path for folder in ("host", "device_agent") for path in (ROOT / folder).rglob("*.py")]


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def first_cells(markdown: str) -> set[str]:
    """What the first column of every table names in code."""
    return {match for line in markdown.splitlines() for match in re.findall(r"^\| `([^`]+)` \|", line)}


def exported_series() -> set[tuple[str, str, str, str]]:
    """(name, type, labels, help) of everything a fresh agent exports."""
    page = Metrics("sim", "config").page("")[0].decode()
    rows = set()
    for family in text_string_to_metric_families(page):
        if family.name.endswith("_created"):  # the client library's, one for each counter and histogram
            continue
        labels: dict[str, set[str]] = defaultdict(set)
        for sample in family.samples:
            for label, value in sample.labels.items():
                labels[label].add(value)
        labels.pop("le", None)
        name = f"{family.name}_total" if family.type == "counter" else family.name
        kind = "info" if name.endswith("_info") else family.type
        rows.add((name, kind, ", ".join(f"`{label}`" for label in sorted(labels)), family.documentation))
    return rows


def test_every_series_is_documented_as_it_is_exported() -> None:
    cells = (tuple(cell.strip() for cell in line.split("|")[1:5]) for line in text("docs/metrics.md").splitlines())
    documented = {(row[0].strip("`"), *row[1:]) for row in cells if row and row[0].startswith("`edge_")}
    assert documented == exported_series()


def test_every_verb_is_documented() -> None:
    verbs = text("docs/cli.md").split("\n## ")[0]
    assert {name.split()[0] for name in first_cells(verbs)} >= set(verb_functions())


def test_every_variable_is_documented() -> None:
    used = {name for path in SOURCES for name in re.findall(r"\"(EDGECTL_[A-Z]+)\"", path.read_text(encoding="utf-8"))}
    assert used
    assert {name for name in first_cells(text("docs/cli.md")) if name.startswith("EDGECTL_")} == used


def test_the_readme_is_short() -> None:
    assert len(text("README.md").splitlines()) < 100


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(page: Path) -> None:
    prose = re.sub(r"```.*?```|`[^`]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = [target.split("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", prose)]
    inside = [target for target in targets if target and "://" not in target]
    assert [target for target in inside if not (page.parent / target).exists()] == []
