"""Networks through the Zynq driver and the register-level model: equal to the interpreter to the bit, whole agents
included, and what they do when hardware fails."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import edge_bitstreams
from edge_agent.boards import profile
from edge_agent.bundle import read_bundle
from edge_agent.devices.zynq_model import FOLDER
from edge_agent.errors import VerificationError as AgentVerificationError
from edge_agent.hardware.journal import Journal
from edge_agent.register_model.files import QUIRKS, ROOT, ModelState
from edge_agent.register_model.quirks import Quirks
from edge_agent.runtime.executor import Runtime
from edgectl.boards.board import Board
from edgectl.building import Build, build
from edgectl.codegen.partition import OFFLOADS, partition
from edgectl.deploying import compile_source
from edgectl.errors import EdgectlError, UnreachableError, VerificationError
from edgectl.flashing import flash
from edgectl.golden import exact_values
from edgectl.interpreter import interpret
from edgectl.quantization.calibration import synthetic_images
from edgectl.simulated_board import SimulatedBoard
from edgectl.sources import Source
from edgectl.stages import Stages
from tests.edge_agent.devices.modelled import Modelled
from tests.edge_agent.fpga.bitfiles import bit_file, configuration
from tests.edgectl.quantization.networks import NETWORKS

NAME = "pynq-model"


@pytest.mark.parametrize("offload", OFFLOADS)
@pytest.mark.parametrize("network", list(NETWORKS))
def test_networks_compute_what_the_interpreter_computes(network: str, offload: str) -> None:
    """Every integer buffer, for images that the network was not quantized on, with delays that hide stale results."""
    built = build(NETWORKS[network](), "sim", offload=offload)
    modelled = Modelled(memory_bytes=16 << 20)
    loaded = Runtime(modelled.driver(patience=60)).load(read_bundle(built.data))
    loaded.self_test()
    modelled.quirks = Quirks(begin_seconds=0.005, done_seconds=0.002)
    packings = partition(built.integer_model, profile("sim").vta).packings
    exact = exact_values(built.integer_model)
    for image in synthetic_images(None, (1, 3, 16, 16), 2, seed=11):
        x = {"data": image[None]}
        values: dict[str, np.ndarray] = {}
        interpret(built.integer_model, x, values.__setitem__)
        inference = loaded.infer(x, observe=True)
        compared = 0
        for name, digest in inference.observed.items():
            value, operator = packings.get(name, (name, None))
            if value in exact:
                array = values[value] if operator is None else operator.evaluate(values[value])
                assert hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest() == digest, name
                compared += 1
        assert compared > 0
        assert inference.counters == built.counters
    loaded.close()


def test_a_flipped_bit_fails_the_self_test() -> None:
    built = build(NETWORKS["residual"](), "sim")
    modelled = Modelled(memory_bytes=16 << 20)
    loaded = Runtime(modelled.driver(patience=60)).load(read_bundle(built.data))
    modelled.quirks = Quirks(flip=1)
    with pytest.raises(AgentVerificationError, match="program the FPGA again"):
        loaded.self_test()
    modelled.quirks = Quirks()
    loaded.self_test()


@pytest.fixture(scope="module")
def demo() -> Build:
    return compile_source(Source("resnet20_cifar10"), NAME, Stages())[0]


@pytest.fixture
def impatient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Agents that are started read a profile whose patience is two seconds."""
    folder = tmp_path / "packages" / "edge_bitstreams"
    shutil.copytree(Path(next(iter(edge_bitstreams.__path__))), folder)
    file = folder / "profiles" / f"{NAME}.json"
    text = file.read_text()
    assert '"patience_seconds": 60' in text
    file.write_text(text.replace('"patience_seconds": 60', '"patience_seconds": 2'))
    monkeypatch.setenv("PYTHONPATH", f"{folder.parent}:{os.environ.get('PYTHONPATH', '')}")


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatedBoard]:
    """A modelled board of one test alone: its agent, and the model behind it."""
    monkeypatch.setenv("EDGECTL_STATE", str(tmp_path))
    simulated = SimulatedBoard(NAME)
    yield simulated
    simulated.stop()
    state = ModelState.read(model_folder(simulated) / ModelState.NAME)
    if state is not None:
        os.kill(state.pid, signal.SIGKILL)


def model_folder(board: SimulatedBoard) -> Path:
    return board.directory / "state" / FOLDER


def status_of(board: SimulatedBoard) -> dict[str, object]:
    running = board.find()
    assert running is not None
    with urllib.request.urlopen(f"{running.http_url}/status", timeout=10) as response:
        document: dict[str, object] = json.load(response)
        return document


def give(board: SimulatedBoard, quirks: Quirks) -> None:
    """From the next run on."""
    quirks.write(model_folder(board) / QUIRKS)


def is_running(board: SimulatedBoard) -> bool:
    """Whether the driver's journal says that a run is under way."""
    with (model_folder(board) / ROOT / "dev" / "udmabuf0").open("rb") as device:
        entry = Journal(np.frombuffer(device.read(64), np.uint8)).read()
    return entry is not None and entry.running


def test_a_deploy_to_the_modelled_board(board: SimulatedBoard, demo: Build) -> None:
    """`edgectl deploy --board pynq-model`, as a script does it; nothing is left when it is stopped."""
    inputs = {"data": np.zeros((1, 3, 32, 32), np.float32)}
    with Board(NAME) as connected:
        assert connected.simulated and connected.profile == NAME
        connected.deploy(demo)
        modelled = connected.infer(inputs)
        assert modelled.counters == demo.counters.as_dict()
    state = ModelState.read(model_folder(board) / ModelState.NAME)
    assert state is not None
    with Board("sim") as simulated:
        simulated.deploy(demo)
        expected = simulated.infer(inputs)
    SimulatedBoard("sim").stop()
    for name, array in expected.outputs.items():
        np.testing.assert_array_equal(modelled.outputs[name], array)
    assert board.stop() and not state.is_running()
    log = board.log_file.read_text()
    assert "registers through UIO, DMA memory from" in log and "Traceback" not in log


def test_an_agent_killed_in_an_inference_serves_again(board: SimulatedBoard, demo: Build) -> None:
    """Fault 5: the client is told at once; the next agent waits for the run that goes on, and has all DMA memory."""
    with Board(NAME) as connected:
        connected.deploy(demo)
    give(board, Quirks(begin_seconds=3.0))
    running = board.find()
    assert running is not None
    model = ModelState.read(model_folder(board) / ModelState.NAME)

    def kill() -> None:
        while not is_running(board):
            time.sleep(0.01)
        os.kill(running.state.pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(UnreachableError), running.connect() as connection:
        connection.infer({"data": np.zeros((1, 3, 32, 32), np.float32)})
    killer.join()
    (model_folder(board) / QUIRKS).unlink()
    again = board.ensure()
    assert ModelState.read(model_folder(board) / ModelState.NAME) == model
    with again.connect() as connection:
        assert connection.status()["live"]["digest"] == demo.digest
        connection.infer({"data": np.zeros((1, 3, 32, 32), np.float32)})
    assert "an agent was killed during a run" in board.log_file.read_text()


def test_wrong_results_never_go_live(board: SimulatedBoard, demo: Build) -> None:
    """Fault 16: the golden self-test after loading; what was live stays."""
    with Board(NAME) as connected:
        connected.deploy(demo)
        give(board, Quirks(flip=3))
        other = build(NETWORKS["residual"](), NAME)
        with pytest.raises(VerificationError, match="self-test"):
            connected.deploy(other)
        give(board, Quirks())
        assert connected.status()["live"]["digest"] == demo.digest
        connected.infer({"data": np.zeros((1, 3, 32, 32), np.float32)})


def test_an_accelerator_that_never_finishes(impatient: None, board: SimulatedBoard, demo: Build) -> None:
    """Fault 15: deadline, reset; where no reset reaches it, degraded: refused by name until the FPGA is programmed."""
    with Board(NAME) as connected:
        connected.deploy(demo)
        inputs = {"data": np.zeros((1, 3, 32, 32), np.float32)}
        give(board, Quirks(hang="start"))
        with pytest.raises(EdgectlError, match="did not finish within"):
            connected.infer(inputs)
        give(board, Quirks())
        connected.infer(inputs)  # the fabric's reset brought it back
        assert status_of(board)["degraded"] == ""
        give(board, Quirks(hang="end", reset_works=False))
        with pytest.raises(EdgectlError, match="did not finish within"):
            connected.infer(inputs)
        with pytest.raises(EdgectlError, match=r"cannot be used: a run did not finish; .*edgectl flash"):
            connected.infer(inputs)
        status = status_of(board)
        assert not status["ready"] and "did not reach it" in str(status["degraded"])


def metrics_of(board: SimulatedBoard) -> dict[str, float]:
    running = board.find()
    assert running is not None
    with urllib.request.urlopen(f"{running.http_url}/metrics", timeout=10) as response:
        lines = response.read().decode().splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}


def infer_when_possible(connected: Board, inputs: dict[str, np.ndarray]) -> np.ndarray:
    """The first answer; refusals on the way say that the accelerator is degraded."""
    deadline = time.monotonic() + 120
    while True:
        try:
            return next(iter(connected.infer(inputs).outputs.values()))
        except EdgectlError as error:
            assert "cannot be used: a run did not finish" in str(error) and time.monotonic() < deadline
            time.sleep(0.05)


@pytest.fixture
def flashed(board: SimulatedBoard, demo: Build, tmp_path: Path) -> Iterator[tuple[Board, list[str]]]:
    """A board with a bitstream and a model; files of that bitstream and another."""
    files = [str(tmp_path / f"vta-{seed}.bit") for seed in range(2)]
    for seed, file in enumerate(files):
        Path(file).write_bytes(bit_file(configuration(seed=seed)))
    with Board(NAME) as connected:
        flash(NAME, files[0])
        connected.deploy(demo)
        yield connected, files


def test_a_hang_that_no_reset_ends_is_ended_by_programming(
    impatient: None, board: SimulatedBoard, flashed: tuple[Board, list[str]]
) -> None:
    """Fault 15: the agent knows what to program, does so by itself, tests it, and serves the next request."""
    connected = flashed[0]
    inputs = {"data": np.random.default_rng(3).standard_normal((1, 3, 32, 32)).astype(np.float32)}
    expected = next(iter(connected.infer(inputs).outputs.values()))
    give(board, Quirks(hang="end", reset_works=False, upset=True))
    with pytest.raises(EdgectlError, match="did not finish within"):
        connected.infer(inputs)
    np.testing.assert_array_equal(infer_when_possible(connected, inputs), expected)
    status, metrics = status_of(board), metrics_of(board)
    assert status["ready"] and status["degraded"] == "" and metrics["edge_accelerator_degraded"] == 0
    assert metrics['edge_inference_failures_total{reason="timeout"}'] == 1
    log = board.log_file.read_text()
    assert "the accelerator is degraded: a run did not finish" in log
    assert "programming the FPGA again: a run did not finish; the fabric's reset did not reach it" in log
    assert (model_folder(board) / "model.log").read_text().count("image edge-vta.bin: operating") == 2


@pytest.mark.parametrize("fault", ["the FPGA takes no image", "the image is damaged"])
def test_a_hang_that_programming_cannot_end(
    impatient: None, board: SimulatedBoard, flashed: tuple[Board, list[str]], fault: str
) -> None:
    """Fault 15: degraded, each request refused at once and by name, until somebody programs the FPGA."""
    connected, files = flashed
    inputs = {"data": np.zeros((1, 3, 32, 32), np.float32)}
    expected = next(iter(connected.infer(inputs).outputs.values()))
    takes_images = fault == "the image is damaged"
    stored = next((board.directory / "state" / "bitstreams").glob("*.bitstream"))
    if takes_images:
        stored.write_bytes(stored.read_bytes()[:-1] + b"x")
    give(board, Quirks(hang="end", reset_works=False, upset=True, takes_images=takes_images))
    with pytest.raises(EdgectlError, match="did not finish within"):
        connected.infer(inputs)
    problem = "the bitstream vta-0.bit could not be brought back: " + (
        "the bitstream has SHA-256" if takes_images else "the kernel could not program the FPGA: its state is 'write"
    )
    deadline = time.monotonic() + 60
    while not str(status_of(board)["degraded"]).startswith(problem):
        assert time.monotonic() < deadline, status_of(board)
        time.sleep(0.05)
    assert not status_of(board)["ready"] and metrics_of(board)["edge_accelerator_degraded"] == 1
    for _ in range(2):
        with pytest.raises(EdgectlError, match=r"cannot be used: the bitstream vta-0.bit could not .*`edgectl flash"):
            connected.infer(inputs)
    assert metrics_of(board)['edge_inference_failures_total{reason="degraded"}'] == 2
    give(board, Quirks(reset_works=False))
    flash(NAME, files[0])  # the same bitstream as before, as its owner has it
    np.testing.assert_array_equal(next(iter(connected.infer(inputs).outputs.values())), expected)
    status = status_of(board)
    assert status["ready"] and status["degraded"] == "" and metrics_of(board)["edge_accelerator_degraded"] == 0


def test_another_configuration() -> None:
    """Other elements, other addresses: four rows of eight lanes."""
    board = replace(profile("pynq-model"), config="4x8_i8w8a32_15_16_16_18")
    built = build(NETWORKS["residual"]().with_batch(4), board)
    assert built.programs
    loaded = Runtime(Modelled(board=board, memory_bytes=16 << 20).driver(patience=60)).load(read_bundle(built.data))
    loaded.self_test()
    loaded.close()
