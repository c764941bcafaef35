"""Whether the agent is in use."""

from __future__ import annotations

import threading

import pytest

from edge_agent import activity
from edge_agent.activity import Activity


def test_idle_time_begins_when_the_last_thing_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(activity.time, "monotonic", lambda: now)
    found = Activity()
    now = 103.0
    assert found.idle_seconds == 3
    with found.working():
        now = 110.0
        with found.working():
            now = 120.0
        assert found.idle_seconds == 0
    now = 125.0
    assert found.idle_seconds == 5


def test_waiting_for_the_end() -> None:
    found, begun, end = Activity(), threading.Event(), threading.Event()

    def work() -> None:
        with found.working():
            begun.set()
            end.wait(10)

    thread = threading.Thread(target=work)
    thread.start()
    begun.wait(10)
    assert not found.wait_idle(0.01)
    end.set()
    assert found.wait_idle(10)
    thread.join()


def test_a_failure_ends_work_too() -> None:
    found = Activity()
    with pytest.raises(ValueError, match="inside"), found.working():
        raise ValueError("inside")
    assert found.wait_idle(0)
