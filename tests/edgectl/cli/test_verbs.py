"""Every verb as people use it: its human output, by golden files."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from edgectl.images import DEFAULT_IMAGE
from edgectl.simulated_board import SimulatedBoard
from tests.edgectl.cli.conftest import Edgectl
from tests.edgectl.cli.golden import check_golden

DEMO = "resnet20_cifar10"


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("run", ["run", "--top", "1"]),
        ("bench", ["bench", "--number", "2", "--repeat", "2", "--top", "1"]),
        ("status", ["status"]),
    ],
)
def test_with_the_demo_model_live(
    edgectl: Edgectl, demo_board: SimulatedBoard, name: str, arguments: list[str]
) -> None:
    result = edgectl(*arguments)
    assert (result.code, result.err) == (0, "")
    check_golden(name, result.out)


def test_deploy(edgectl: Edgectl, session_board: SimulatedBoard) -> None:
    result = edgectl("deploy", DEMO, "--top", "1")
    assert result.code == 0
    check_golden("deploy", result.out)
    check_golden("deploy-messages", result.err)


def test_deploy_of_a_bundle_with_an_image(edgectl: Edgectl, session_board: SimulatedBoard, demo_bundle: Path) -> None:
    result = edgectl("deploy", demo_bundle, "--top", "1")
    assert (result.code, result.err) == (0, "")
    assert "\ncat  " in result.out and "\ndog" not in result.out


def test_compile_and_inspect(edgectl: Edgectl) -> None:
    result = edgectl("compile", DEMO)
    assert result.code == 0 and Path(f"{DEMO}.bundle").is_file()
    check_golden("compile", result.out)
    check_golden("inspect", edgectl("inspect", f"{DEMO}.bundle").out)


def test_a_layers_tiles(edgectl: Edgectl, demo_bundle: Path) -> None:
    result = edgectl("inspect", demo_bundle, "--layer", "resnet20cifar10_stage1_conv0_fwd", "--tilings")
    assert (result.code, result.err) == (0, "")
    about, compared = result.out.split("\n\n")
    check_golden("inspect-layer", about + "\n")
    lines = compared.splitlines()
    assert lines[0] == f"{len(lines) - 2} tilings were compared by what they cost, cycles and a price for each byte:"
    costs = [int(line.split()[-1].replace(",", "")) for line in lines[2:]]
    assert len(costs) > 1 and costs == sorted(costs)
    assert edgectl("inspect", demo_bundle, "--layer", "resnet20cifar10_stage1_conv0_fwd").out == about + "\n"
    for wrong in (["--tilings"], ["--tilings", "--layer", "x", "-d"]):
        result = edgectl("inspect", demo_bundle, *wrong)
        assert result.code == 2 and "use it with --layer NAME, without --disassemble" in result.err


def test_names_of_layers_are_whole_in_a_narrow_terminal(
    edgectl: Edgectl, demo_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    out = edgectl("inspect", demo_bundle).out
    rows = out[out.index("\nlayer") : out.index("\nstep")]
    assert "…" not in rows and max(map(len, rows.splitlines())) <= 80


def test_compile_tells_what_stays_on_the_cpu_once_for_each_reason(edgectl: Edgectl) -> None:
    lines = [
        line for line in edgectl("compile", DEMO, "--offload", "reference").out.splitlines() if "on the CPU" in line
    ]
    assert lines == [
        "on the CPU: resnet20cifar10_conv0_fwd: the reference partition leaves the first convolution to the CPU",
        "on the CPU: resnet20cifar10_pool0_fwd, resnet20cifar10_dense0_fwd: the reference partition gives the "
        "accelerator convolutions only",
    ]


def test_compile_for_a_board(edgectl: Edgectl) -> None:
    result = edgectl("compile", DEMO, "--board", "pynq", "-o", "demo.bundle")
    assert result.code == 0
    assert "demo.bundle: resnet20_cifar10 for pynq" in result.out
    assert "pynq, 1x16_i8w8a32_15_15_18_17, armv7" in edgectl("inspect", "demo.bundle").out


def test_disassembly(edgectl: Edgectl, demo_bundle: Path) -> None:
    everything = edgectl("inspect", "-d", demo_bundle).out.splitlines()
    assert everything[:2] == ["; program program1", "; resnet20cifar10_relu0_fwd"]
    assert "FINISH" in everything[-1]
    layer = "resnet20cifar10_stage1_activation0"
    alone = edgectl("inspect", "-d", "--layer", layer, demo_bundle).out.splitlines()
    begin = everything.index(f"; {layer}")
    assert alone[0] == f"; {layer} of program program1"
    assert alone[1:] == everything[begin + 1 : begin + len(alone)]
    assert everything[begin + len(alone)].startswith("; ")


def test_boards(edgectl: Edgectl, demo_board: SimulatedBoard) -> None:
    check_golden("boards", edgectl("boards").out)


def test_models(edgectl: Edgectl) -> None:
    check_golden("models", edgectl("models").out)


def test_stop_twice(edgectl: Edgectl, own_board: SimulatedBoard) -> None:
    own_board.ensure()
    check_golden("stop", edgectl("stop").out + edgectl("stop").out)
    assert edgectl("status").code == 3


def test_evaluate(edgectl: Edgectl, labelled: Path) -> None:
    result = edgectl("evaluate", DEMO, "--data", labelled, "--board", "sim", "--layers", "0")
    assert result.code == 0
    check_golden("evaluate", result.out)
    assert "equal to interpreter" in result.out and "24 of 24" in result.out


def test_evaluate_shows_the_worst_layers(edgectl: Edgectl, labelled: Path) -> None:
    lines = edgectl("evaluate", DEMO, "--data", labelled, "--layers", "3").out.splitlines()
    (begin,) = (number for number, line in enumerate(lines) if line.startswith("3 of 25 layers"))
    assert lines[begin + 1].split() == ["layer", "computed", "as", "SQNR", "alone"]
    decibels = [float(re.findall(r"([\d.]+) dB", line)[0]) for line in lines[begin + 2 : begin + 5]]
    assert decibels == sorted(decibels) and all(10 < value < 40 for value in decibels)
    assert lines[begin + 5].startswith("adding most noise by itself: resnet20cifar10_")


def test_evaluate_photographs(edgectl: Edgectl, tmp_path: Path) -> None:
    shutil.copy(DEFAULT_IMAGE, tmp_path / "a.jpg")
    out = edgectl("evaluate", DEMO, "--data", tmp_path, "--layers", "0").out
    assert f"on 1 image of {tmp_path.name}" in out and "same answer as float" in out and "top-1" not in out


def test_the_gate(
    edgectl: Edgectl,
    session_board: SimulatedBoard,
    labelled: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    np.savez(tmp_path / "coarse.npz", x=np.random.default_rng(0).normal(0, 100, (4, 3, 32, 32)).astype(np.float32))
    coarse = ("--calibration", tmp_path / "coarse.npz")
    with monkeypatch.context() as patch:
        patch.setattr("edgectl.mixed_precision.MOST_SHARE", 0.0)
        refused = edgectl("deploy", DEMO, "--data", labelled, "--min-agreement", "1", *coarse)
    assert refused.code == 5 and "--min-agreement 1 asks for 100.00 %" in refused.err and refused.out == ""
    passed = edgectl("deploy", DEMO, "--data", labelled, "--min-agreement", "0.5")
    assert passed.code == 0 and "Accuracy " in passed.out and "same answer as float on 24 images" in passed.out
    assert "same answer as float on 24 images" in edgectl("status").out
    compiled = edgectl("compile", DEMO, "--data", labelled, "-o", "measured.bundle", "--json").document
    assert compiled["accuracy"]["images"] == 24 and compiled["cached"] is True
    assert "accuracy       " in (inspected := edgectl("inspect", "measured.bundle").out)
    assert "same answer as float on 24 images" in inspected
    assert edgectl("inspect", "measured.bundle", "--json").document["accuracy"] == compiled["accuracy"]
    unmeasured = edgectl("compile", DEMO, "--min-agreement", "0.9")
    assert unmeasured.code == 2 and "needs images to measure on: --data" in unmeasured.err


def test_random_weights_are_unmissable(edgectl: Edgectl, own_board: SimulatedBoard) -> None:
    result = edgectl("deploy", "resnet18_v1", "--shape", "3,32,32", "--weights", "random")
    assert result.code == 0
    assert "RANDOM WEIGHTS: predictions are meaningless." in result.err
    assert "--weights random was asked for" in result.err
    later = edgectl("run")
    assert later.code == 0 and "RANDOM WEIGHTS: predictions are meaningless." in later.err
    document = edgectl("bench", "--number", "1", "--repeat", "1", "--json").document
    assert document["weights"]["kind"] == "random" and "meaningless" in document["weights"]["banner"]


def test_switching_models(edgectl: Edgectl, demo_board: SimulatedBoard) -> None:
    before = edgectl("status", "--json").document["live"]["digest"]
    larger = edgectl("deploy", DEMO, "--shape", "3,48,48", "--json").document
    assert edgectl("status", "--json").document["live"]["digest"] == larger["bundle"]["digest"] != before
    again = edgectl("deploy", DEMO, "--json").document
    assert again["bundle"]["digest"] == before
    assert again["top"][0]["label"] == "cat"


@pytest.mark.parametrize("batch", [2, 4])
def test_batches_report_per_sample(edgectl: Edgectl, demo_board: SimulatedBoard, batch: int) -> None:
    one = edgectl("run", "--json").document
    document = edgectl("bench", DEMO, "--batch", batch, "--number", "2", "--repeat", "2", "--json").document
    assert document["batch"] == batch
    mean = document["latency"]["per_sample_ms"]["mean"]
    assert mean * batch == pytest.approx(1e3 * sum(document["latency"]["means_s"]) / 2)
    assert [entry["index"] for entry in document["top"]] == [entry["index"] for entry in one["top"]]
    assert document["top"][0]["score"] == pytest.approx(one["top"][0]["score"], abs=1e-4)
    refused = edgectl("bench", "--batch", "8")
    assert refused.code == 2
    assert f"batches of {batch}, not 8" in refused.err and "edgectl bench resnet20_cifar10 --batch 8" in refused.err
    assert edgectl("bench", "--batch", batch, "--number", "1").code == 0
