"""What a board makes of images, outputs and bundles."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_agent.boards import profile
from edge_agent.bundle import read_bundle
from edgectl.boards.board import Board, best_classes, model_inputs, open_bundle, preprocessing_of
from edgectl.building import Build
from edgectl.bundle import write_bundle
from edgectl.errors import (
    IncompatibleError,
    UnreachableError,
    UsageError,
    VerificationError,
)
from edgectl.images import DEFAULT_IMAGE, load_image
from edgectl.simulated_board import SimulatedBoard


def manifest(batch: int = 1, **changes: Any) -> dict[str, Any]:
    how = {"resize": 32, "crop": [32, 32], "mean": [0.5] * 3, "std": [0.25] * 3, "channel_order": "RGB"}
    inputs = [{"name": "data", "shape": [batch, 3, 32, 32], "dtype": "float32"}]
    return {"inputs": inputs, "preprocessing": how, **changes}


def test_best_classes_of_logits_and_of_probabilities() -> None:
    logits = np.array([[0.0, 2.0, 1.0]], np.float32)
    probabilities = np.exp(logits) / np.exp(logits).sum()
    for scores in (logits, probabilities, logits.reshape(1, 3, 1, 1)):
        top = best_classes(scores, ["a", "b"], 2)
        assert [(score.index, score.label) for score in top] == [(1, "b"), (2, "class 2")]
        assert [score.score for score in top] == pytest.approx([0.66524, 0.24473], abs=1e-5)


def test_best_classes_of_the_first_sample_and_no_more_than_there_are() -> None:
    scores = np.array([[5.0, 1.0], [1.0, 5.0]], np.float32)
    assert [score.index for score in best_classes(scores, [], 10)] == [0, 1]


def test_large_logits_do_not_overflow() -> None:
    (top, _) = best_classes(np.array([[1e4, -1e4]], np.float32), [])
    assert top.score == 1.0


def test_a_batch_repeats_the_image() -> None:
    inputs = model_inputs(manifest(batch=3), DEFAULT_IMAGE)["data"]
    assert inputs.shape == (3, 3, 32, 32) and inputs.dtype == np.float32
    expected = load_image(DEFAULT_IMAGE, preprocessing_of(manifest()))
    np.testing.assert_array_equal(inputs, np.repeat(expected, 3, axis=0))


def pixel_manifest(batch: int = 1) -> dict[str, Any]:
    return manifest(inputs=[{"name": "data", "shape": [batch, 3, 32, 32], "dtype": "uint8"}])


def test_a_photograph_for_an_input_of_pixels_is_not_normalised() -> None:
    inputs = model_inputs(pixel_manifest(batch=2), DEFAULT_IMAGE)["data"]
    assert inputs.shape == (2, 3, 32, 32) and inputs.dtype == np.uint8
    floats = model_inputs(manifest(batch=2), DEFAULT_IMAGE)["data"]
    np.testing.assert_allclose((inputs / 255 - 0.5) / 0.25, floats, atol=1e-6)


def test_a_tensor_of_another_dtype_is_refused_with_the_repair() -> None:
    pixels, floats = np.zeros((1, 3, 32, 32), np.uint8), np.zeros((1, 3, 32, 32), np.float32)
    np.testing.assert_array_equal(model_inputs(pixel_manifest(), pixels)["data"], pixels)
    with pytest.raises(UsageError, match=r"float32\[1, 3, 32, 32\], the model's input 'data' uint8.* not normalised"):
        model_inputs(pixel_manifest(), floats)
    with pytest.raises(UsageError, match="give the image normalised, or compile the model with --pixels"):
        model_inputs(manifest(), pixels)
    with pytest.raises(UsageError, match=r"convert it: array.astype\(numpy.float32\)"):
        model_inputs(manifest(), floats.astype(np.float64))


def test_an_array_is_used_as_it_is() -> None:
    array = np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32)
    np.testing.assert_array_equal(model_inputs(manifest(batch=2), array)["data"], array)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (
            np.zeros((1, 3, 16, 16), np.float32),
            r"float32\[1, 3, 16, 16\], the model's input 'data' float32\[1, 3, 32, 32\]",
        ),
        (np.zeros((1, 3, 32, 32)), "the image is float64"),
    ],
)
def test_an_array_that_does_not_fit(array: np.ndarray, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        model_inputs(manifest(), array)


def test_a_model_without_preprocessing_or_with_two_inputs_takes_no_photograph() -> None:
    with pytest.raises(UsageError, match="--mean and --std"):
        model_inputs(manifest(preprocessing=None), DEFAULT_IMAGE)
    with pytest.raises(UsageError, match="give each its own: --input NAME=FILE"):
        model_inputs(manifest(inputs=manifest()["inputs"] * 2), DEFAULT_IMAGE)


def test_bundles_as_a_build_as_bytes_and_as_a_file(demo_build: Build, demo_bundle: Path) -> None:
    for form in (demo_build, demo_build.data, demo_bundle, str(demo_bundle)):
        opened = open_bundle(form)
        assert opened.data == demo_build.data
        assert opened.manifest == demo_build.manifest


def test_bad_bundles(tmp_path: Path, demo_build: Build) -> None:
    with pytest.raises(UsageError, match="No such file"):
        open_bundle(tmp_path / "none.bundle")
    with pytest.raises(VerificationError, match="damaged"):
        open_bundle(demo_build.data[:-100])


def test_a_board_that_it_started_ends_with_a_failure(own_board: SimulatedBoard) -> None:
    with pytest.raises(IncompatibleError, match="no model is live"), Board() as board:
        assert board.simulated and board.profile == "sim"
        board.run(DEFAULT_IMAGE)
    assert own_board.find() is None
    with pytest.raises(UnreachableError, match="not running"):
        Board(start=False)


def test_a_board_that_cannot_be_asked_is_ended(own_board: SimulatedBoard, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("edgectl.boards.client.Connection.status", fail)
    with pytest.raises(KeyboardInterrupt):
        Board()
    assert own_board.find() is None


def test_a_board_by_its_address(demo_board: SimulatedBoard, demo_build: Build) -> None:
    running = demo_board.find()
    assert running is not None
    with Board(str(running.address), key=running.state.key) as board:
        assert not board.simulated and board.profile == "sim"
        assert board.run(DEFAULT_IMAGE).top[0].label == "cat"
        assert board.metrics_url == running.metrics_url
    with pytest.raises(IncompatibleError, match="key"):
        Board(str(running.address), key="sim:wrong")


def test_kernels_are_for_the_machine_that_the_agent_runs_on(
    demo_board: SimulatedBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the profile leaves the CPU open: a simulated board on another machine."""
    with Board() as board:
        assert board.target == profile("sim")
        arm = {"cpu": {"machine": "armv7l", "flags": ["neon", "vfpv3"]}}
        monkeypatch.setattr(board, "status_at_connect", {**board.status_at_connect, **arm})
        assert board.target == replace(profile("sim"), cpu="armv7")
        monkeypatch.setattr(board, "status_at_connect", {**board.status_at_connect, **arm, "board": "ultra96"})
        assert board.target == profile("ultra96")


def test_a_bundle_for_another_kind_of_board_is_refused_before_anything_is_sent(
    demo_board: SimulatedBoard, demo_build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = {key: value for key, value in demo_build.manifest.items() if key not in ("schema", "members")}
    members = read_bundle(demo_build.data).members
    with Board() as board:
        monkeypatch.setattr(board.connection, "upload", lambda *arguments: pytest.fail("it was sent"))
        for change, message in (
            ({"cpu": {"machine": "armv7l"}}, f"for armv7l, this board is .*--board {board.profile}"),
            ({"config": "4x8_i8w8a32_15_16_16_18"}, "4x8_i8w8a32_15_16_16_18, this board has 1x16_i8w8a32_15_15_18_17"),
            ({"features": ["alu_mul"]}, r"needs VTA features \['alu_mul'\], this board has"),
            ({"agent_protocol": 99}, "agent protocol 99, this agent has 1"),
        ):
            with pytest.raises(IncompatibleError, match=message):
                board.upload(write_bundle({**manifest, **change}, members))
