"""The boards that this machine knows, in every state."""

from __future__ import annotations

import os
import signal

import pytest

from edgectl.boards.client import Connection
from edgectl.boards.listing import BoardEntry, list_boards
from edgectl.cli import main
from edgectl.errors import DeadlineError
from edgectl.simulated_board import RunningBoard, SimulatedBoard


def entry(name: str) -> BoardEntry:
    return {board.name: board for board in list_boards()}[name]


def test_stopped_and_running_without_a_model(own_board: SimulatedBoard) -> None:
    assert (entry("sim").state, entry("sim").address) == ("stopped", "")
    running = own_board.ensure()
    found = entry("sim")
    assert (found.state, found.address, found.model) == ("running", str(running.address), "")
    assert found.metrics_url == running.metrics_url
    assert entry("pynq").state == "compile only"
    assert entry("pynq").config == found.config == "1x16_i8w8a32_15_15_18_17"


def test_a_model_that_is_live(demo_board: SimulatedBoard) -> None:
    assert entry("sim").model == "resnet20_cifar10"
    assert entry("sim").as_dict()["state"] == "running"


def test_a_hung_board_is_said(
    own_board: SimulatedBoard, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pid = own_board.ensure().state.pid
    monkeypatch.setattr(RunningBoard, "connect", lambda self: Connection(self.address, self.state.key, 0.2))
    os.kill(pid, signal.SIGSTOP)
    assert entry("sim").state == "not answering"
    assert main(["status"]) == DeadlineError.exit_code
    assert "end it with `edgectl stop`" in capsys.readouterr().err
    os.kill(pid, signal.SIGCONT)


def test_a_killed_board_is_stopped(own_board: SimulatedBoard) -> None:
    pid = own_board.ensure().state.pid
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert entry("sim").state == "stopped"
