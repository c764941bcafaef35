"""What `--json` prints: one document on standard output, with the keys that scripts rely on."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from edgectl.building import Build
from edgectl.simulated_board import SimulatedBoard
from tests.edgectl.cli.conftest import Edgectl

DEMO = "resnet20_cifar10"
COUNTERS = {
    "inp_load_nbytes",
    "wgt_load_nbytes",
    "acc_load_nbytes",
    "uop_load_nbytes",
    "out_store_nbytes",
    "gemm_counter",
    "alu_counter",
}


def check_measurement(document: dict[str, Any], build: Build) -> None:
    assert document["model"] == DEMO
    assert document["weights"] == {"kind": "pretrained", "source": "ships with edgectl", "banner": ""}
    assert document["board"] == {"name": "sim", "profile": "sim", "simulated": True}
    assert document["bundle"]["digest"] == build.digest
    assert document["bundle"]["bytes"] > 100_000
    for stage in ("run", "measure"):
        assert document["timings"][stage] > 0
    for kind in ("per_sample_ms", "vta_ms"):
        latency = document["latency"][kind]
        assert set(latency) == {"mean", "std", "p50", "p99"}
        assert 0 < latency["p50"] <= latency["p99"] and latency["std"] >= 0
    assert document["latency"]["vta_ms"]["mean"] <= document["latency"]["per_sample_ms"]["mean"]
    assert set(document["counters"]) == COUNTERS
    assert document["counters"] == build.counters.as_dict()
    assert document["predicted"] == build.manifest["predicted"]
    assert document["predicted_cycles"] == build.manifest["predicted"]["vta_cycles"]
    scores = [entry["score"] for entry in document["top"]]
    assert len(scores) == 5 and scores == sorted(scores, reverse=True) and 0.5 < sum(scores) <= 1.001
    assert document["top"][0]["index"] == 3 and document["top"][0]["label"] == "cat"
    with urllib.request.urlopen(document["metrics_url"], timeout=10) as page:
        assert b"edge_" in page.read()


def test_deploy(edgectl: Edgectl, session_board: SimulatedBoard, demo_build: Build) -> None:
    result = edgectl("deploy", DEMO, "--json")
    assert result.code == 0
    document = result.document
    check_measurement(document, demo_build)
    assert list(document["timings"]) == [
        "import",
        "look in the cache",
        "quantize",
        "compile for VTA",
        "compile for the CPU",
        "seal",
        "keep in the cache",
        "start the board",
        "upload",
        "activate and self-test",
        "run",
        "measure",
    ]
    assert len(document["latency"]["means_s"]) == 5
    assert result.err.startswith("note: quantized on synthetic images")


def test_bench(edgectl: Edgectl, demo_board: SimulatedBoard, demo_build: Build) -> None:
    result = edgectl("bench", "--number", "2", "--repeat", "3", "--json")
    assert (result.code, result.err) == (0, "")
    check_measurement(result.document, demo_build)
    assert (result.document["number"], result.document["repeat"]) == (2, 3)
    assert len(result.document["latency"]["means_s"]) == 3


def test_run(edgectl: Edgectl, demo_board: SimulatedBoard, demo_build: Build) -> None:
    document = edgectl("run", "--top", "10", "--json").document
    assert document["top"][0]["label"] == "cat"
    assert sum(entry["score"] for entry in document["top"]) == pytest.approx(1)
    assert document["counters"] == demo_build.counters.as_dict()
    assert document["predicted_cycles"] == demo_build.manifest["predicted"]["vta_cycles"]
    assert document["preprocessing"]["crop"] == [32, 32]
    assert 0 < document["latency"]["vta_ms"] < document["latency"]["per_sample_ms"]


def test_status(edgectl: Edgectl, demo_board: SimulatedBoard, demo_build: Build) -> None:
    edgectl("run")
    document = edgectl("status", "--json").document
    assert document["live"]["model"] == DEMO and document["live"]["digest"] == demo_build.digest
    assert document["live"]["predicted_cycles"] == demo_build.manifest["predicted"]["vta_cycles"]
    assert document["last"]["counters"] == demo_build.counters.as_dict()
    assert document["metrics_url"].endswith(f":{document['http_port']}/metrics")


def test_compile_and_inspect(edgectl: Edgectl, demo_build: Build) -> None:
    document = edgectl("compile", DEMO, "--json", "-o", "out.bundle").document
    assert document["bundle"] == {"digest": demo_build.digest, "bytes": Path("out.bundle").stat().st_size}
    assert document["counters"] == demo_build.counters.as_dict() and document["output"] == "out.bundle"
    inspected = edgectl("inspect", "out.bundle", "--json").document
    (program,) = inspected["programs"]
    assert program["counters"] == document["counters"]
    assert program["predicted_cycles"] == document["predicted"]["vta_cycles"]
    reported = edgectl("report", "out.bundle", "--json").document
    assert {entry["predicted_cycles"] for entry in (inspected, reported, document)} == {program["predicted_cycles"]}
    assert {entry["parameter"]: entry["value"] for entry in reported["sensitivity"]} == reported["parameters"]
    assert [layer["name"] for layer in program["layers"]] == document["layers"]["vta"]
    (layer,) = edgectl("inspect", "out.bundle", "--layer", "resnet20cifar10_stage2_conv1_fwd", "--json").document
    assert layer["computes"][0]["layer"] == "resnet20cifar10_stage2_conv1_fwd" and "tilings" not in layer
    assert {entry["name"]: entry["tiling"] for entry in program["layers"]}[layer["name"]] == layer["tiling"]
    (same,) = edgectl("inspect", "out.bundle", "--layer", layer["name"], "--tilings", "--json").document
    assert same["tilings"][0]["cycles"] == layer["tiling"]["cycles"] and len(same["tilings"]) > 1
    lines = edgectl("inspect", "out.bundle", "-d", "--json").document
    assert sum(not line.startswith(";") for line in lines) == program["instructions"]


def test_evaluate(edgectl: Edgectl, labelled: Path, demo_bundle: Path) -> None:
    document = edgectl("evaluate", DEMO, "--data", labelled, "--json").document
    assert document["n"] == 24
    assert 0 <= document["top1_float"] <= 1 and 0.5 < document["agreement"] <= 1
    assert 0.98 < document["mean_cosine"] <= 1
    assert document["interval"] == {"method": "Wilson", "confidence": 0.95} and document["board"] is None
    integer = document["forms"]["integer"]
    assert integer["agreement"]["value"] == document["agreement"] and integer["top1"]["of"] == 24
    assert integer["agreement"]["low"] < document["agreement"] <= integer["agreement"]["high"]
    assert document["forms"]["float"]["top5"]["count"] >= document["forms"]["float"]["top1"]["count"]
    assert len(document["layers"]) == 5 and document["layers"][0]["sqnr_db"] <= document["layers"][1]["sqnr_db"]
    assert set(document["layers"][0]) == {"layer", "value", "operator", "sqnr_db", "own_sqnr_db"}
    limited = edgectl("evaluate", demo_bundle, "--data", labelled, "--limit", "10", "--json").document
    assert limited["n"] == 10 and limited["top1_float"] is not None and limited["agreement"] > 0.5


def test_boards_models_stop(edgectl: Edgectl, own_board: SimulatedBoard) -> None:
    entries = {entry["name"]: entry for entry in edgectl("boards", "--json").document}
    assert entries["sim"]["state"] == "stopped" and entries["pynq"]["state"] == "compile only"
    own_board.ensure()
    running = {entry["name"]: entry for entry in edgectl("boards", "--json").document}["sim"]
    assert running["state"] == "running" and running["address"].startswith("127.0.0.1:")
    names = {entry["name"]: entry for entry in edgectl("models", "--json").document}
    assert names[DEMO]["weights"] == "ships" and names["resnet18_v1"]["input_shape"] == [1, 3, 224, 224]
    assert edgectl("stop", "--json").document == {"board": "sim", "stopped": True}
    assert edgectl("stop", "--json").document == {"board": "sim", "stopped": False}


def test_errors_leave_standard_output_empty(edgectl: Edgectl, own_board: SimulatedBoard) -> None:
    result = edgectl("run", "--json")
    assert (result.code, result.out) == (3, "")
    assert "start it with `edgectl deploy MODEL`" in result.err


def test_the_document_is_strict_json(edgectl: Edgectl, demo_board: SimulatedBoard) -> None:
    def refuse(constant: str) -> None:
        raise ValueError(constant)

    json.loads(edgectl("bench", "--number", "1", "--repeat", "1", "--json").out, parse_constant=refuse)
