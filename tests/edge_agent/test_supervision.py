"""What systemd hears, on a real datagram socket."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.supervision import Supervisor


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(30)
        yield listener


def environment(manager: socket.socket, **more: str) -> dict[str, str]:
    return {"NOTIFY_SOCKET": manager.getsockname(), **more}


def test_it_says_that_it_is_ready_and_that_it_ends(manager: socket.socket) -> None:
    supervisor = Supervisor(environment=environment(manager))
    supervisor.ready()
    supervisor.stopping()
    supervisor.stopping()
    assert [manager.recv(100), manager.recv(100)] == [b"READY=1", b"STOPPING=1"]
    manager.setblocking(False)
    with pytest.raises(BlockingIOError):
        manager.recv(100)


def test_signs_of_life_come_only_while_there_is_life(manager: socket.socket) -> None:
    alive, asked = threading.Event(), threading.Semaphore(0)
    alive.set()

    def lives() -> bool:
        asked.release()
        return alive.is_set()

    watched = environment(manager, WATCHDOG_USEC="30000", WATCHDOG_PID=str(os.getpid()))
    supervisor = Supervisor(lives, watched)
    supervisor.ready()
    assert [manager.recv(100) for _ in range(4)] == [b"READY=1", *[b"WATCHDOG=1"] * 3]
    alive.clear()
    while asked.acquire(blocking=False):
        pass
    for _ in range(3):  # asked again, and again: it said no each time
        assert asked.acquire(timeout=30)
    supervisor.stopping()
    heard = []
    while (said := manager.recv(100)) != b"STOPPING=1":
        heard.append(said)
    assert len(heard) <= 3  # those under way when it was cleared


@pytest.mark.parametrize("period", [{}, {"WATCHDOG_USEC": "x"}, {"WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"}])
def test_it_is_not_watched_unless_it_is_meant(manager: socket.socket, period: dict[str, str]) -> None:
    supervisor = Supervisor(environment=environment(manager, **period))
    supervisor.ready()
    supervisor.stopping()
    assert [manager.recv(100), manager.recv(100)] == [b"READY=1", b"STOPPING=1"]


def test_an_abstract_address_and_one_that_nobody_has() -> None:
    name = f"@edge-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0" + name[1:])
        listener.settimeout(30)
        Supervisor(environment={"NOTIFY_SOCKET": name}).ready()
        assert listener.recv(100) == b"READY=1"
    Supervisor(environment={"NOTIFY_SOCKET": "/nonexistent"}).ready()
    Supervisor(environment={}).ready()
