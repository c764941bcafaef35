"""A compiled demo model and a simulated board that runs it, made once for all tests that need them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edgectl.boards.board import Board
from edgectl.building import Build
from edgectl.deploying import compile_source
from edgectl.simulated_board import SimulatedBoard
from edgectl.sources import Source
from edgectl.stages import Stages

DEMO = "resnet20_cifar10"


@pytest.fixture(scope="session")
def demo_build() -> Build:
    """The demo model for the simulated board."""
    built, _ = compile_source(Source(DEMO), "sim", Stages())
    return built


@pytest.fixture(scope="session")
def demo_bundle(demo_build: Build, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo model's bundle in a file. Do not write to it."""
    path = tmp_path_factory.mktemp("bundle") / f"{DEMO}.bundle"
    path.write_bytes(demo_build.data)
    return path


@pytest.fixture(scope="session")
def session_board(own_environment: None) -> Iterator[SimulatedBoard]:
    """The simulated board of this test session: ends with it."""
    board = SimulatedBoard()
    yield board
    board.stop()


@pytest.fixture
def demo_board(session_board: SimulatedBoard, demo_build: Build) -> SimulatedBoard:
    """The session's board with the demo model live, whatever was live before."""
    with Board() as board:
        live = board.status()["live"]
        if live is None or live["digest"] != demo_build.digest:
            board.deploy(demo_build)
    return session_board


@pytest.fixture
def own_board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatedBoard]:
    """A simulated board of one test alone, not yet running."""
    monkeypatch.setenv("EDGECTL_STATE", str(tmp_path / "state"))
    board = SimulatedBoard()
    yield board
    board.stop()
