"""A driver that has mapped the model's device files: everything but the silicon is what runs on a board."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_agent.boards import BoardProfile, Hardware, profile
from edge_agent.devices.zynq import Zynq, open_zynq
from edge_agent.errors import DeadlineError
from edge_agent.hardware.system import System
from edge_agent.register_model.core import ModelCore
from edge_agent.register_model.machine import Machine
from edge_agent.register_model.quirks import Quirks
from edge_agent.register_model.tree import MEMORY_BASE, make_tree
from edge_agent.register_model.watch import Watcher
from tests.edge_agent.vta.builder import TiledConvolution

X = np.random.default_rng(0).integers(-128, 128, (1, 2, 8, 8, 1, 16), np.int8)


class Board:
    """A modelled board whose hardware is a thread; the profile is a real board's."""

    def __init__(self, root: Path, board: BoardProfile, uio: bool) -> None:
        assert board.hardware is not None
        self.quirks = Quirks()
        self.board = board
        self.root = root
        self.tree = make_tree(root, board.hardware, 1 << 20, uio)
        machine = Machine(self.tree.memory, board.vta, board.features)
        self.watcher = Watcher(self.tree, ModelCore(machine, lambda: self.quirks))
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()

    def watch(self) -> None:
        while not self.stop.is_set():
            self.watcher.step(self.quirks)
            self.watcher.pause()

    def driver(self) -> Zynq:
        return open_zynq("zynq", self.board, System(self.root), self.root)


def hardware(coherent: bool, reset: str = "zynq_slcr") -> Hardware:
    base = 0xA0000000 if not coherent else 0x43C00000
    names = ("fetch", "load", "compute", "store")
    registers = {name: base + 0x1000 * index for index, name in enumerate(names)}
    return Hardware(registers, 0x1000, coherent, reset, 1)


@pytest.fixture(params=[True, False], ids=["uio", "mem"])
def board(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Board]:
    running = Board(tmp_path, replace(profile("pynq"), hardware=hardware(True)), request.param)
    yield running
    running.stop.set()
    running.thread.join()


def check(driver: Zynq, seed: int) -> None:
    builder = TiledConvolution(seed=seed)
    loaded = driver.load(builder.build())
    for _ in range(2):
        y = np.full_like(X, 99)
        driver.run(loaded, {"x": X}, {"y": y})
        np.testing.assert_array_equal(y, builder.expected(X))


def test_runs_through_device_files(board: Board) -> None:
    driver = board.driver()
    for seed in range(3):
        check(driver, seed)
    driver.close()
    check(board.driver(), 4)


def test_slow_and_stale_done(board: Board) -> None:
    driver = board.driver()
    check(driver, 0)
    board.quirks = Quirks(begin_seconds=0.05, done_seconds=0.05)
    check(driver, 1)
    driver.close()


def test_the_reset_of_a_hang(board: Board) -> None:
    driver = board.driver()
    loaded = driver.load(TiledConvolution().build())
    board.quirks = Quirks(hang="start")
    with pytest.raises(DeadlineError):
        driver.run(loaded, {"x": X}, {"y": np.empty_like(X)})
    board.quirks = Quirks()
    driver.reset()
    assert driver.condition() == ""
    check(driver, 1)
    driver.close()


def test_a_port_that_is_not_coherent_is_told_of_every_range(tmp_path: Path) -> None:
    """As on ZynqMP: other addresses, cache maintenance through u-dma-buf's attributes. What it is for,
    tests/edge_agent/devices/test_zynq.py shows."""
    board = Board(tmp_path, replace(profile("pynq"), hardware=hardware(False, "")), True)
    driver = board.driver()
    check(driver, 0)
    attributes = tmp_path / "sys" / "class" / "u-dma-buf" / "udmabuf0"
    entries = {name: (attributes / name).read_text().split("\n")[0] for name in ("sync_for_cpu", "sync_for_device")}
    assert entries == {"sync_for_cpu": "1", "sync_for_device": "1"}
    assert int((attributes / "phys_addr").read_text(), 0) == MEMORY_BASE
    driver.close()
    board.stop.set()
    board.thread.join()
