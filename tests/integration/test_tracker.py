"""Registration with a stock tracker, and with one that misbehaves."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from edge_agent.rpc.channel import Channel
from edge_agent.rpc.tracker import MAGIC, Registration, Tracker
from edgectl.boards.client import Address, Connection
from edgectl.boards.scrape_targets import find_targets
from edgectl.boards.tracked import TrackedBoard, TrackerChoice, registered
from edgectl.errors import BusyError, IncompatibleError, UnreachableError, UsageError, VerificationError
from tests.edge_agent.fakes import ID, KEY, Board, board, bundle_bytes
from tests.integration.test_stock_client import run_client

pytest.importorskip("tvm")
pytest.importorskip("tornado")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def _tracker(port: int) -> Iterator[tuple[str, int]]:
    command = [
        sys.executable,
        "-m",
        "tvm.exec.rpc_tracker",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--port-end",
        str(port + 1),
    ]
    # A session of its own: the tracker starts a worker that has to end with it.
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _eventually(lambda: _connects(port))
        yield ("127.0.0.1", port)
    finally:
        _end_group(process)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _connects(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.05)


def _summary(address: tuple[str, int]) -> dict[str, Any]:
    channel = Channel(socket.create_connection(address, timeout=5))
    deadline = time.monotonic() + 5
    channel.send_bytes(struct.pack("<i", MAGIC), deadline)
    channel.receive_exactly(4, deadline)
    message = json.dumps([6]).encode()
    channel.send_bytes(struct.pack("<i", len(message)) + message, deadline)
    (length,) = struct.unpack("<i", channel.receive_exactly(4, deadline))
    answer = json.loads(channel.receive_exactly(length, deadline))
    channel.close()
    summary: dict[str, Any] = answer[1]
    return summary


def _free(address: tuple[str, int]) -> int:
    try:
        return int(_summary(address)["queue_info"].get("pynq", {"free": 0})["free"])
    except Exception:
        return 0


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Board]:
    with board(tmp_path / "state") as running:
        yield running


@contextmanager
def _registered(agent: Board, address: tuple[str, int], patience: float = 10.0) -> Iterator[None]:
    registration = Registration(address, "pynq", agent.server, "127.0.0.1", period=0.05, patience=patience)
    registration.start()
    try:
        yield
    finally:
        registration.close()


def test_found_through_a_stock_tracker_again_and_again(agent: Board, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    bundle.write_bytes(bundle_bytes())
    port = _free_port()
    with _tracker(port) as address, _registered(agent, address):
        for _ in range(2):
            _eventually(lambda: _free(address) == 1)
            assert run_client("tracker", address, "pynq", bundle)["tensor"] == [[0, 1, 2], [3, 4, 5]]
        _eventually(lambda: _free(address) == 1)
        assert _summary(address)["server_info"][0]["key"] == "server:pynq"


def test_registered_again_when_the_tracker_restarts(agent: Board) -> None:
    port = _free_port()
    with _registered(agent, ("127.0.0.1", port)):
        for _ in range(2):
            with _tracker(port) as address:
                _eventually(lambda address=address: _free(address) == 1)  # type: ignore[misc]


def lent(address: tuple[str, int], key: str = KEY, deadline: float = 10.0) -> Connection:
    return TrackerChoice(Address(*address), "pynq", key).connect(deadline)


def test_the_controller_takes_a_board_that_proves_its_key_again_and_again(agent: Board) -> None:
    with _tracker(_free_port()) as address, _registered(agent, address):
        for _ in range(2):
            _eventually(lambda: _free(address) == 1)
            assert registered(Address(*address)) == [TrackedBoard("pynq", Address(*agent.address), 1)]
            with lent(address) as connection:
                assert connection.status()["id"] == ID
                connection.drop()
                assert connection.status()["id"] == ID  # made again with the board's own key
        with pytest.raises(UnreachableError, match="has no 'zcu104'"):
            TrackerChoice(Address(*address), "zcu104", KEY).connect(5)
        with pytest.raises(UsageError, match="set EDGECTL_KEY"):
            TrackerChoice(Address(*address), "pynq", "").connect(5)


def test_a_board_in_use_is_waited_for_no_longer_than_told(agent: Board) -> None:
    with _tracker(_free_port()) as address, _registered(agent, address):
        _eventually(lambda: _free(address) == 1)
        with lent(address), pytest.raises(BusyError, match=r"every .pynq. of the tracker at .* is in use"):
            lent(address, deadline=1.0)


def test_a_rogue_registration_is_not_used_and_learns_no_key(agent: Board, tmp_path: Path) -> None:
    """Another agent registers under the same type: it knows not the boards' key, and is told nothing of it."""
    with _tracker(_free_port()) as address, board(tmp_path / "rogue") as rogue:
        object.__setattr__(rogue.endpoint, "key", "pynq:guess")
        seen: list[str] = []
        greet = rogue.server._greeted

        def spy(pending: Any, greeting: Any) -> None:
            seen.append(greeting.key)
            greet(pending, greeting)

        rogue.server._greeted = spy  # type: ignore[method-assign]
        with _registered(rogue, address):
            _eventually(lambda: _free(address) == 1)
            with pytest.raises(VerificationError, match="does not know the key of EDGECTL_KEY: it is not your board"):
                lent(address)
            assert seen and not any(KEY in key for key in seen)
        with _registered(agent, address):  # and the right one is found again once the rogue has left
            _eventually(lambda: _free(address) == 1)
            lent(address).close()


def test_the_controller_after_the_tracker_restarted(agent: Board) -> None:
    port = _free_port()
    with _registered(agent, ("127.0.0.1", port)):
        for _ in range(2):
            with _tracker(port) as address:
                _eventually(lambda address=address: _free(address) == 1)  # type: ignore[misc]
                lent(address).close()
        with pytest.raises(UnreachableError, match=r"no tracker answers at .*rpc_tracker"):
            lent(("127.0.0.1", port))


def test_hostile_registrations_are_listed_harmlessly(agent: Board) -> None:
    with _tracker(_free_port()) as address, _registered(agent, address):
        _eventually(lambda: _free(address) == 1)
        rogues = [Tracker(address, 5) for _ in range(4)]
        for rogue, key, host, at in (
            (rogues[0], "\x1b[2Jpynq", "10.0.0.1", 1),
            (rogues[1], "x" * 5000, "10.0.0.2", 2),
            (rogues[2], "pynq", "10.0.0.3/../\x1b]0;", 3),
            (rogues[3], "pynq", "10.0.0.4", 70000),
        ):
            rogue.register(key, host, at)
        found = registered(Address(*address))
        assert Address(*agent.address) in [each.address for each in found] and len(found) == 3
        assert all(each.kind.isprintable() and len(each.kind) <= 64 for each in found)
        targets = {str(target.address): target.board for target in find_targets(Address(*address)).targets}
        assert set(targets) >= {"10.0.0.1:9092", "10.0.0.2:9092", f"{agent.address[0]}:9092"}
        assert all(name.isprintable() for name in targets.values())
        for rogue in rogues:
            rogue.close()


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400", struct.pack("<i", MAGIC) + struct.pack("<i", 2**31 - 1), b""])
def test_what_is_no_tracker_is_said(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            accepted = listener.accept()[0]
            accepted.recv(100)
            accepted.sendall(answer)
            accepted.close()

        threading.Thread(target=serve, daemon=True).start()
        with pytest.raises((IncompatibleError, UnreachableError), match=r"127\.0\.0\.1"):
            registered(Address(*listener.getsockname()), 5)


def test_an_outage_is_logged_once(agent: Board, caplog: pytest.LogCaptureFixture) -> None:
    def warnings() -> int:
        return sum(record.levelno == logging.WARNING for record in caplog.records)

    port = _free_port()
    with caplog.at_level(logging.DEBUG, "edge_agent.rpc.tracker"), _registered(agent, ("127.0.0.1", port)):
        _eventually(lambda: len(caplog.records) >= 4)
        assert warnings() == 1
        with _tracker(port) as address:
            _eventually(lambda: _free(address) == 1)
        _eventually(lambda: warnings() > 1)


def test_an_offer_that_is_taken_but_not_used_is_withdrawn(agent: Board) -> None:
    port = _free_port()
    with _tracker(port) as address, _registered(agent, address, patience=0.2):
        _eventually(lambda: _free(address) == 1)
        channel = Channel(socket.create_connection(address, timeout=5))
        deadline = time.monotonic() + 10
        channel.send_bytes(struct.pack("<i", MAGIC), deadline)
        channel.receive_exactly(4, deadline)
        message = json.dumps([4, "pynq", "", 1]).encode()
        channel.send_bytes(struct.pack("<i", len(message)) + message, deadline)
        (length,) = struct.unpack("<i", channel.receive_exactly(4, deadline))
        code, (_, offered_port, match_key) = json.loads(channel.receive_exactly(length, deadline))
        assert (code, offered_port) == (0, agent.server.port)
        _eventually(lambda: not agent.server.is_offered(match_key))
        _eventually(lambda: _free(address) == 1)
        channel.close()


def test_what_is_no_tracker_does_not_stop_the_agent(agent: Board) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, _registered(agent, listener.getsockname()):
        for answer in (
            b"HTTP",
            struct.pack("<i", MAGIC) + struct.pack("<i", 2**31 - 1),
            struct.pack("<ii", MAGIC, 3) + b"{x}",
            b"",
        ):
            accepted = listener.accept()[0]
            accepted.recv(100)
            accepted.sendall(answer)
            accepted.close()
        listener.accept()[0].close()
