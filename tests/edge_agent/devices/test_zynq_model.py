"""The modelled board: the driver on device files, the hardware in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_agent.boards import profile
from edge_agent.devices.zynq import Zynq
from edge_agent.devices.zynq_model import FOLDER, open_device
from edge_agent.errors import BusyError, DeadlineError, DegradedError, HardwareError
from edge_agent.register_model.__main__ import main
from edge_agent.register_model.files import QUIRKS, ROOT, ModelState
from edge_agent.register_model.quirks import Quirks
from tests.edge_agent.fpga.bitfiles import configuration, swapped

from ..vta.builder import TiledConvolution

X = np.random.default_rng(0).integers(-128, 128, (1, 2, 8, 8, 1, 16), np.int8)
BUILDER = TiledConvolution()

KILLED = """
import os, sys
from pathlib import Path
from edge_agent.boards import profile
from edge_agent.devices.zynq_model import open_device
from tests.edge_agent.vta.builder import TiledConvolution
driver = open_device(profile("pynq-model"), Path(sys.argv[1]))
driver._start(driver.load(TiledConvolution().build()))
os.kill(os.getpid(), 9)
"""


def state_of(directory: Path) -> ModelState | None:
    return ModelState.read(directory / FOLDER / ModelState.NAME)


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    state = state_of(tmp_path)
    if state is not None:
        os.kill(state.pid, signal.SIGKILL)


def check(driver: Zynq) -> None:
    loaded = driver.load(BUILDER.build())
    y = np.full_like(X, 99)
    driver.run(loaded, {"x": X}, {"y": y})
    np.testing.assert_array_equal(y, BUILDER.expected(X))
    driver.unload(loaded)


def opened(directory: Path, patience: int = 60) -> Zynq:
    board = profile("pynq-model")
    assert board.hardware is not None
    driver = open_device(replace(board, hardware=replace(board.hardware, patience_seconds=patience)), directory)
    assert isinstance(driver, Zynq)
    return driver


def test_it_computes_and_ends_with_its_driver(directory: Path) -> None:
    driver = opened(directory)
    state = state_of(directory)
    assert state is not None and driver.describe().kind == "zynq_model"
    with pytest.raises(BusyError, match="another agent drives the model"):
        opened(directory)
    check(driver)
    check(driver)
    driver.close()
    assert not state.is_running() and not (directory / FOLDER / ROOT).exists()
    again = opened(directory)
    check(again)
    again.close()


def test_hardware_survives_a_killed_agent(directory: Path) -> None:
    """The agent is killed in a run, which goes on; the next agent waits for its end and has all of the memory."""
    driver = opened(directory)
    free = driver._memory.free_bytes  # type: ignore[attr-defined]
    driver.close()
    (directory / FOLDER).mkdir(exist_ok=True)
    Quirks(begin_seconds=0.5, done_seconds=0.5).write(directory / FOLDER / QUIRKS)
    killed = subprocess.run([sys.executable, "-c", KILLED, str(directory)], check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    before = state_of(directory)
    assert before is not None
    (directory / FOLDER / QUIRKS).unlink()
    driver = opened(directory)
    assert state_of(directory) == before
    assert driver._memory.free_bytes == free  # type: ignore[attr-defined]
    check(driver)
    driver.close()


def test_a_hang_is_ended_by_the_fabrics_reset(directory: Path) -> None:
    driver = opened(directory, patience=1)
    Quirks(hang="start").write(directory / FOLDER / QUIRKS)
    loaded = driver.load(BUILDER.build())
    with pytest.raises(DeadlineError):
        driver.run(loaded, {"x": X}, {"y": np.empty_like(X)})
    (directory / FOLDER / QUIRKS).unlink()
    driver.reset()
    assert driver.condition() == ""
    check(driver)
    driver.close()


def test_a_hang_that_no_reset_ends_is_ended_by_programming(directory: Path) -> None:
    driver = opened(directory, patience=1)
    Quirks(hang="end", reset_works=False).write(directory / FOLDER / QUIRKS)
    loaded = driver.load(BUILDER.build())
    with pytest.raises(DeadlineError):
        driver.run(loaded, {"x": X}, {"y": np.empty_like(X)})
    driver.reset()
    assert "the fabric's reset did not reach it" in driver.condition()
    with pytest.raises(DegradedError, match="edgectl flash"):
        check(driver)
    (directory / FOLDER / QUIRKS).unlink()
    root = directory / FOLDER / ROOT
    manager = root / "sys" / "class" / "fpga_manager" / "fpga0"
    (root / "lib" / "firmware" / "vta.bin").write_bytes(swapped(configuration()))
    (manager / "firmware").write_text("vta.bin")
    while (manager / "firmware").read_text():
        time.sleep(0.02)
    driver.reprogrammed()
    check(driver)
    driver.close()


def test_a_model_whose_fpga_is_not_programmed(directory: Path) -> None:
    driver = opened(directory)
    state = directory / FOLDER / ROOT / "sys" / "class" / "fpga_manager" / "fpga0" / "state"
    state.write_text("power off\n")
    with pytest.raises(DegradedError, match="the kernel says 'power off'"):
        check(driver)
    state.write_text("operating\n")
    check(driver)
    driver.close()


def test_nobody_drives_it_for_long(tmp_path: Path) -> None:
    assert main(["--directory", str(tmp_path), "--orphan-seconds", "0.3"]) == 0
    assert not (tmp_path / ROOT).exists() and not (tmp_path / ModelState.NAME).exists()


def test_a_profile_that_cannot_be_modelled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--directory", str(tmp_path), "--profile", "sim"]) == 1
    assert "'sim' has no hardware entry" in capsys.readouterr().err


def test_a_model_that_does_not_start_says_why(tmp_path: Path) -> None:
    board = replace(profile("pynq-model"), name="sim")
    with pytest.raises(HardwareError, match="did not start: register model: board profile 'sim'"):
        open_device(board, tmp_path)


def test_a_model_that_was_killed_is_replaced(directory: Path) -> None:
    driver = opened(directory)
    state = state_of(directory)
    assert state is not None
    os.kill(state.pid, signal.SIGKILL)
    os.waitpid(state.pid, 0)
    driver.close()
    driver = opened(directory)
    check(driver)
    driver.close()
