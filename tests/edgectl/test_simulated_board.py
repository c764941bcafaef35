"""The life of the simulated board: found, started once, ended, nothing left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.state_file import AgentState, start_ticks
from edgectl.errors import BusyError, EdgectlError
from edgectl.simulated_board import RunningBoard, SimulatedBoard, state_directory


@pytest.fixture
def simulated(tmp_path: Path) -> Iterator[SimulatedBoard]:
    board = SimulatedBoard(directory=tmp_path)
    yield board
    board.stop()


def _gone(board: RunningBoard) -> bool:
    deadline = time.monotonic() + 30
    while board.state.is_running():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_started_once_found_later_and_stopped(simulated: SimulatedBoard) -> None:
    assert simulated.find() is None and not simulated.stop()
    first = simulated.ensure()
    assert first.started_here
    second = simulated.ensure()
    assert second.state == first.state and not second.started_here
    with second.connect() as connection:
        assert connection.status()["board"] == "sim"
    assert second.metrics_url == f"http://127.0.0.1:{first.state.http_port}/metrics"
    assert simulated.stop() and _gone(first)
    assert simulated.find() is None and not simulated.stop()


def test_it_is_detached(simulated: SimulatedBoard) -> None:
    board = simulated.ensure()
    assert os.getsid(board.state.pid) == board.state.pid != os.getsid(0)
    assert "RPC on 127.0.0.1" in simulated.log_file.read_text()


def test_two_starts_at_once_make_one(tmp_path: Path) -> None:
    found: list[RunningBoard] = []
    threads = [
        threading.Thread(target=lambda: found.append(SimulatedBoard(directory=tmp_path).ensure())) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({board.state.pid for board in found}) == 1
    assert [board.started_here for board in found].count(True) == 1
    assert SimulatedBoard(directory=tmp_path).stop()


def test_a_killed_board_is_replaced(simulated: SimulatedBoard) -> None:
    first = simulated.ensure()
    os.kill(first.state.pid, signal.SIGKILL)
    assert _gone(first)
    assert simulated.find() is None
    second = simulated.ensure()
    assert second.started_here and second.state.pid != first.state.pid


@pytest.mark.parametrize("text", ["", "{", '{"pid": 1}'])
def test_a_damaged_state_file_is_replaced(simulated: SimulatedBoard, text: str) -> None:
    simulated.directory.mkdir(parents=True)
    (simulated.directory / "agent.json").write_text(text)
    assert simulated.find() is None
    assert not (simulated.directory / "agent.json").exists()


def test_a_state_file_of_somebody_elses_process_ends_nobody(simulated: SimulatedBoard) -> None:
    simulated.directory.mkdir(parents=True)
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    ticks = start_ticks(other.pid)
    assert ticks is not None
    AgentState(other.pid, ticks - 1, "127.0.0.1", 1, 2, "sim", "k", "127.0.0.1").write(
        simulated.directory / "agent.json"
    )
    assert simulated.find() is None and not simulated.stop()
    assert other.poll() is None
    other.communicate(b"\n")


def test_a_failure_ends_what_was_started_here_only(simulated: SimulatedBoard) -> None:
    with pytest.raises(KeyboardInterrupt), simulated.started_here() as board:
        raise KeyboardInterrupt
    assert _gone(board)
    with simulated.started_here() as board:
        pass
    assert board.state.is_running()
    with pytest.raises(ValueError, match="later"), simulated.started_here() as again:
        raise ValueError("later")
    assert again.state == board.state and board.state.is_running()


def test_an_interrupted_starter_leaves_no_agent(tmp_path: Path) -> None:
    """Ctrl-C during a deploy that has started the board."""
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom edgectl.simulated_board import SimulatedBoard\n"
        "with SimulatedBoard(directory=Path(sys.argv[1])).started_here() as board:\n"
        "    print(board.state.pid, flush=True)\n    time.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    assert start_ticks(pid) is not None
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert start_ticks(pid) is None


def test_a_taken_port_is_busy_and_leaves_nothing(simulated: SimulatedBoard) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(BusyError, match=f"127.0.0.1:{taken.getsockname()[1]}"),
    ):
        simulated.ensure(port=taken.getsockname()[1])
    assert simulated.find() is None


def test_it_ends_when_idle(simulated: SimulatedBoard) -> None:
    assert _gone(simulated.ensure(idle_seconds=0.3))
    assert simulated.find() is None


def test_an_unusable_directory_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EdgectlError, match="EDGECTL_STATE"):
        SimulatedBoard(directory=tmp_path / "file").ensure()


def test_the_state_directory_can_be_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGECTL_STATE", str(tmp_path))
    assert state_directory() == tmp_path
    monkeypatch.delenv("EDGECTL_STATE")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    assert state_directory() == tmp_path / "xdg" / "edgectl"
