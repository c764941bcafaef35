"""The configuration and the rules for Prometheus: what its own tool says of them, and that they name what there is."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from edge_agent.boards import profile, profile_names
from edgectl.cli.application import verb_functions
from tests.deploy.expressions import ROOT, RULES, promtool, rules
from tests.test_documentation import exported_series

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="needs the system's package prometheus (apt-get install prometheus)"
)
SUFFIXES = ("_bucket", "_sum", "_count")


def exported_names() -> set[str]:
    """Every name under which a series of the agent can be queried."""
    names = set()
    for name, kind, _, _ in exported_series():
        names |= {name + suffix for suffix in SUFFIXES} if kind == "histogram" else {name}
    return names


def named_series(expression: str) -> set[str]:
    return set(re.findall(r"(?<![\w:])edge_\w+(?!\w*:)", expression))


@needs_promtool
def test_the_configuration_is_valid() -> None:
    done = promtool("check", "config", ROOT / "prometheus" / "prometheus.yml")
    assert done.returncode == 0 and "valid prometheus config" in done.stdout, done.stderr


@needs_promtool
def test_the_rules_are_valid_and_do_what_they_say() -> None:
    checked = promtool("check", "rules", "--lint-fatal", RULES)
    assert checked.returncode == 0 and f"{len(rules())} rules found" in checked.stdout, checked.stderr
    done = promtool("test", "rules", Path(__file__).parent / "edge.rules.test.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_rules_use_series_that_there_are() -> None:
    recorded = {rule.name for rule in rules() if not rule.alert}
    for rule in rules():
        assert named_series(rule.expression) <= exported_names(), rule.name
        assert set(re.findall(r"\binstance:[\w:]+", rule.expression)) <= recorded, rule.name


def test_each_alert_says_what_is_wrong_and_how_it_is_repaired() -> None:
    alerts = [rule for rule in rules() if rule.alert]
    assert len(alerts) >= 10 and len({rule.name for rule in alerts}) == len(alerts)
    for rule in alerts:
        assert "$labels.board" in rule.annotations["summary"] and rule.annotations["repair"], rule.name
        assert set(re.findall(r"edgectl (\w+)", rule.annotations["repair"])) <= set(verb_functions())
    text = RULES.read_text(encoding="utf-8")
    tested = (Path(__file__).parent / "edge.rules.test.yml").read_text(encoding="utf-8")
    assert set(re.findall(r"- alert: (\w+)", text)) == set(re.findall(r"alertname: (\w+)", tested))


def test_predictions_are_not_held_against_simulated_boards() -> None:
    (rule,) = [rule for rule in rules() if rule.name == "EdgeSlowerThanPredicted"]
    (excluded,) = re.findall(r'board_type!~"([^"]+)"', rule.expression)
    assert {name for name in profile_names() if re.fullmatch(excluded, name)} == {
        name for name in profile_names() if profile(name).simulated
    }
