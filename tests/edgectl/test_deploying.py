"""From a source to a measurement, and what a failure on the way leaves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgectl.boards.board import Board
from edgectl.boards.client import Connection
from edgectl.building import build
from edgectl.deploying import compile_source, deploy
from edgectl.errors import EdgectlError, IncompatibleError, UsageError, VerificationError
from edgectl.graph import Preprocessing
from edgectl.images import DEFAULT_IMAGE, load_image, load_pixels
from edgectl.operators.shape import Flatten
from edgectl.simulated_board import SimulatedBoard
from edgectl.sources import Source
from edgectl.stages import Stages
from tests.edgectl.quantization.networks import NetworkBuilder

DEMO = "resnet20_cifar10"


def test_the_measurement(session_board: SimulatedBoard) -> None:
    stages = Stages()
    measurement = deploy(Source(DEMO), number=2, repeat=3, top=2, stages=stages)
    assert measurement.manifest["model"]["name"] == DEMO
    assert len(measurement.bench.means) == 3 and len(measurement.bench.seconds) == 6
    assert measurement.prediction.top[0].label == "cat" and len(measurement.prediction.top) == 2
    assert measurement.timings == stages.seconds and set(stages.seconds) >= {"import", "upload", "measure"}
    assert dict(measurement.bench.counters) == measurement.manifest["counters"]


def test_another_board_is_compiled_for_by_its_profile(demo_board: SimulatedBoard) -> None:
    running = demo_board.find()
    assert running is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGECTL_KEY", running.state.key)
        stages = Stages()
        measurement = deploy(DEMO, str(running.address), stages=stages)
    assert not measurement.simulated and measurement.profile == "sim" and measurement.board == str(running.address)
    assert next(iter(stages.seconds)) == "connect" and "start the board" not in stages.seconds


@pytest.mark.parametrize(
    ("stage", "error"),
    [("upload", EdgectlError("disk")), ("activate", VerificationError("wrong")), ("infer", IncompatibleError("x"))],
)
def test_a_failure_ends_the_board_that_was_started(
    own_board: SimulatedBoard, monkeypatch: pytest.MonkeyPatch, stage: str, error: EdgectlError
) -> None:
    def fail(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(Connection, stage, fail)
    with pytest.raises(type(error), match=str(error)):
        deploy(DEMO)
    assert own_board.find() is None


def test_an_image_that_the_model_cannot_take_is_found_before_anything_goes_live(
    own_board: SimulatedBoard, tmp_path: Path
) -> None:
    np.save(tmp_path / "small.npy", np.zeros((1, 3, 8, 8), np.float32))
    stages = Stages()
    with pytest.raises(UsageError, match=r"float32\[1, 3, 8, 8\]"):
        deploy(DEMO, image=tmp_path / "small.npy", stages=stages)
    assert own_board.find() is None and "start the board" not in stages.seconds


def test_a_tensor_in_a_file(session_board: SimulatedBoard, tmp_path: Path) -> None:
    how = Preprocessing(32, (32, 32), (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
    np.save(tmp_path / "cat.npy", load_image(DEFAULT_IMAGE, how))
    measurement = deploy(DEMO, image=tmp_path / "cat.npy", repeat=1)
    assert measurement.prediction.top[0].label == "cat"


def test_a_bundle_that_takes_pixels(own_board: SimulatedBoard, tmp_path: Path) -> None:
    """A photograph, its pixels and repeated inference; the scores are those of the bundle that takes floats."""
    floats = deploy(DEMO, repeat=1).prediction.reply.outputs
    how = Preprocessing(32, (32, 32), (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
    np.save(tmp_path / "cat.npy", load_pixels(DEFAULT_IMAGE, how))
    np.save(tmp_path / "float.npy", load_image(DEFAULT_IMAGE, how))
    for image in (None, tmp_path / "cat.npy"):
        measurement = deploy(Source(DEMO, pixels=True), image=image, repeat=1)
        assert measurement.manifest["inputs"] == [{"name": "data", "shape": [1, 3, 32, 32], "dtype": "uint8"}]
        for name, scores in measurement.prediction.reply.outputs.items():
            np.testing.assert_array_equal(scores, floats[name])
        assert measurement.prediction.top[0].label == "cat"
    with Board(start=False) as board:
        assert board.run(DEFAULT_IMAGE).top == measurement.prediction.top
        assert len(board.bench(2, 3, DEFAULT_IMAGE).means) == 3 == len(board.bench(2, 3).means)
        with pytest.raises(UsageError, match="compiled with --pixels: give the decoded image as uint8"):
            board.run(tmp_path / "float.npy")
        with pytest.raises(UsageError, match=r"'data' is float32\[1, 3, 32, 32\], the model takes uint8"):
            board.infer({"data": load_image(DEFAULT_IMAGE, how)})
        assert board.status()["live"]["inputs"][0]["dtype"] == "uint8"


def test_a_bad_image_is_found_before_the_work(own_board: SimulatedBoard, tmp_path: Path) -> None:
    stages = Stages()
    with pytest.raises(UsageError, match="there is no image"):
        deploy(DEMO, image=tmp_path / "none.jpg", stages=stages)
    assert stages.seconds == {} and own_board.find() is None


def test_random_weights_are_marked(own_board: SimulatedBoard) -> None:
    measurement = deploy(Source("resnet18_v1", "random", shape=(3, 32, 32), seed=3))
    assert "meaningless" in measurement.banner
    assert measurement.as_dict()["weights"]["source"] == "seed 3"
    with Board(start=False) as board:
        assert board.run(DEFAULT_IMAGE).top == measurement.prediction.top


def test_the_bundle_says_where_it_came_from() -> None:
    build, prepared = compile_source(Source(DEMO), "pynq", Stages())
    assert build.manifest["board"] == "pynq" and build.manifest["cpu"]["machine"] == "armv7l"
    assert build.manifest["model"]["parameters_sha256"] == prepared.origin["parameters_sha256"]
    assert build.manifest["model"]["calibrated_on"] == "synthetic images"


@pytest.mark.parametrize("channels", [1, 2])
def test_a_model_that_takes_no_photograph_is_measured_on_zeros(
    channels: int, session_board: SimulatedBoard, tmp_path: Path
) -> None:
    """A checkpoint of one's own deploys in one command, whatever its input is."""
    net = NetworkBuilder((1, channels, 8, 8))
    name = net.dense("fc", net.add("flat", Flatten(), net.convolution("conv", "data", (channels, 16))), 1024, 5)
    path = tmp_path / "own.bundle"
    path.write_bytes(build(net.model(name)).data)
    measurement = deploy(str(path))
    assert measurement.prediction.top == ()
    assert measurement.per_sample.mean > 0
    assert any("measured on zeros" in notice for notice in measurement.notices)
    assert measurement.as_dict()["top"] == [] and measurement.as_dict()["image"] == ""
