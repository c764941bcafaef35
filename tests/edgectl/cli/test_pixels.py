"""Bundles that take pixels, verb by verb."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_agent.bundle import read_bundle
from edgectl.images import DEFAULT_IMAGE
from edgectl.simulated_board import SimulatedBoard
from tests.edgectl.cli.conftest import Edgectl

DEMO = "resnet20_cifar10"


def test_from_compiling_to_measuring(edgectl: Edgectl, own_board: SimulatedBoard, labelled: Path) -> None:
    assert edgectl("compile", DEMO, "-o", "floats.bundle").code == 0
    compiled = edgectl("compile", DEMO, "--pixels", "-o", "pixels.bundle", "--json").document
    assert "uint8[1, 3, 32, 32]" in edgectl("inspect", "pixels.bundle").out
    steps = [step["step"] for step in compiled["predicted"]["steps"]]
    assert steps[0] == "copy the inputs"
    scores = edgectl("deploy", "floats.bundle", "--json").document["top"]
    assert edgectl("deploy", "pixels.bundle", "--json").document["top"] == scores
    again = edgectl("deploy", DEMO, "--pixels", "--json").document
    assert again["cached"] and again["bundle"] == compiled["bundle"] and again["top"] == scores
    assert edgectl("run", DEFAULT_IMAGE, "--json").document["top"] == scores
    assert "normalised on the board: mean (0.4914" in edgectl("run").out
    assert edgectl("bench", "--number", "2", "--repeat", "2", "--json").document["top"] == scores
    assert edgectl("bench", DEMO, "--pixels", "--repeat", "1", "--json").document["cached"]
    evaluated = edgectl("evaluate", "pixels.bundle", "--data", labelled, "--json").document
    assert evaluated["forms"]["board"]["equal"]["count"] == evaluated["n"] == 24


def test_the_self_test_compares_what_is_looked_up(edgectl: Edgectl) -> None:
    edgectl("compile", DEMO, "--pixels", "-o", "pixels.bundle")
    bundle = read_bundle(Path("pixels.bundle"))
    golden = bundle.manifest["golden"]
    image = bundle.array(golden["inputs"]["data"])
    assert image.dtype == np.uint8 and image.min() == 0 and image.max() == 255
    assert set(bundle.plan.observed) == set(golden["integers"])
    assert any(name.endswith(".patches.packed") for name in golden["integers"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["deploy", "any.bundle", "--pixels"], "any.bundle is compiled already: --pixels cannot apply to it"),
        (["bench", "--pixels"], "--pixels needs MODEL"),
    ],
)
def test_where_nothing_is_compiled(edgectl: Edgectl, arguments: list[str], message: str) -> None:
    result = edgectl(*arguments)
    assert result.code == 2 and message in result.err


def test_a_tensor_must_have_the_inputs_dtype(edgectl: Edgectl) -> None:
    np.save("floats.npy", np.zeros((1, 3, 32, 32), np.float32))
    result = edgectl("deploy", DEMO, "--pixels", "--input", "floats.npy")
    assert result.code == 2 and "it was compiled with --pixels: give the decoded image as uint8" in result.err
    np.save("pixels.npy", np.zeros((1, 3, 32, 32), np.uint8))
    result = edgectl("deploy", DEMO, "--input", "pixels.npy")
    assert result.code == 2 and "or compile the model with --pixels" in result.err
