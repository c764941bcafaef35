"""The expressions of what is shipped for Prometheus and Grafana."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2] / "deploy"
RULES = ROOT / "prometheus" / "edge.rules.yml"
DASHBOARD = ROOT / "grafana" / "edge-boards.json"


@dataclass(frozen=True)
class Rule:
    """A rule as it is written; `alert` or a recording."""

    name: str
    alert: bool
    expression: str
    annotations: dict[str, str]


def rules() -> list[Rule]:
    """Every rule of the file, in order."""
    found = []
    for block in re.split(r"\n      - ", RULES.read_text(encoding="utf-8"))[1:]:
        entries = dict(re.findall(r"^ *(record|alert|expr|summary|repair): (.*)$", block, re.MULTILINE))
        expression = entries["expr"]
        if expression == ">-":
            folded = re.search(r"expr: >-\n((?: {10}.*\n?)+)", block)
            assert folded is not None
            expression = " ".join(folded[1].split())
        name = entries.get("alert") or entries["record"]
        said = {key: entries[key].strip('"') for key in ("summary", "repair") if key in entries}
        found.append(Rule(name, "alert" in entries, expression, said))
    return found


def dashboard() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return document


def dashboard_expressions(board: str = ".*", rate_interval: str = "5m") -> list[tuple[str, str]]:
    """(panel's title, expression) with the dashboard's variables replaced."""
    found = [(panel["title"], target["expr"]) for panel in dashboard()["panels"] for target in panel.get("targets", ())]
    return [(title, text.replace("$__rate_interval", rate_interval).replace("$board", board)) for title, text in found]


def promtool(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, check=False, timeout=120)
