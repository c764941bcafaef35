"""The dashboard: its structure, that it uses what there is, and that Prometheus understands its expressions.

Grafana itself is not run here: no registry that this project uses has it.
"""

from __future__ import annotations

import shutil

import pytest

from tests.deploy.expressions import dashboard, dashboard_expressions, promtool
from tests.deploy.test_prometheus import exported_names, named_series

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
KINDS = {"row", "stat", "table", "timeseries", "heatmap"}


def test_variables_choose_the_data_source_and_the_boards() -> None:
    source, board = dashboard()["templating"]["list"]
    assert (source["name"], source["type"], source["query"]) == ("datasource", "datasource", "prometheus")
    assert (board["name"], board["type"], board["multi"], board["includeAll"]) == ("board", "query", True, True)
    assert board["query"]["query"] == board["definition"] == "label_values(edge_ready, board)"
    assert board["datasource"] == DATASOURCE


def test_panels_are_whole_and_do_not_overlap() -> None:
    document = dashboard()
    assert document["uid"] == "edge-boards" and document["schemaVersion"] >= 36 and document["title"]
    assert "__inputs" not in document and "id" not in document  # made by an export, and of one server
    panels = document["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({panel["title"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert panel["type"] in KINDS and place["x"] + place["w"] <= 24 and not cells & taken, panel["title"]
        taken |= cells
        if panel["type"] == "row":
            continue
        assert panel["datasource"] == DATASOURCE and panel["fieldConfig"]["defaults"]["unit"] and panel["targets"]
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
        for target in panel["targets"]:
            assert target["datasource"] == DATASOURCE and 'board=~"$board"' in target["expr"], panel["title"]


def test_it_shows_every_series_of_a_board_and_none_that_is_not_there() -> None:
    used = set().union(*(named_series(expression) for _, expression in dashboard_expressions()))
    assert used <= exported_names()
    wanted = {
        "edge_sample_latency_seconds_bucket", "edge_samples_total", "edge_queue_requests", "edge_compute_seconds_total",
        "edge_vta_bytes_total", "edge_vta_gemm_operations_total", "edge_vta_alu_operations_total",
        "edge_model_predicted_seconds", "edge_model_predicted_vta_seconds", "edge_model_agreement_ratio", "edge_ready",
        "edge_accelerator_degraded", "edge_inference_failures_total", "edge_model_info",
    }  # fmt: skip
    assert wanted <= used


@pytest.mark.skipif(
    shutil.which("promtool") is None, reason="needs the system's package prometheus (apt-get install prometheus)"
)
def test_prometheus_understands_each_expression(tmp_path: object) -> None:
    lines = "".join(f"      - record: a\n        expr: '{text}'\n" for _, text in dashboard_expressions())
    file = f"{tmp_path}/rules.yml"
    with open(file, "w", encoding="utf-8") as target:
        target.write(f"groups:\n  - name: dashboard\n    rules:\n{lines}")
    done = promtool("check", "rules", "--lint=none", file)
    assert done.returncode == 0, done.stderr
