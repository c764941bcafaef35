"""Timed repetition: how often it calls, and what it returns."""

from __future__ import annotations

import struct

import pytest

from edge_agent.errors import InputError
from edge_agent.rpc import evaluator
from edge_agent.rpc.evaluator import Evaluation


class Clock:
    """Time that passes only during calls."""

    def __init__(self, seconds: float) -> None:
        self.now, self.seconds, self.calls = 0.0, seconds, 0

    def perf_counter(self) -> float:
        return self.now

    def call(self) -> None:
        self.now += self.seconds
        self.calls += 1


def _run(monkeypatch: pytest.MonkeyPatch, evaluation: Evaluation, seconds: float) -> tuple[Clock, tuple[float, ...]]:
    clock = Clock(seconds)
    monkeypatch.setattr(evaluator.time, "perf_counter", clock.perf_counter)
    result = evaluation.run(clock.call, lambda: None)
    return clock, struct.unpack(f"<{len(result) // 8}d", result)


def test_number_and_repeat_and_one_to_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, means = _run(monkeypatch, Evaluation(3, 4), 0.5)
    assert clock.calls == 1 + 3 * 4
    assert means == pytest.approx((0.5,) * 4)


def test_number_grows_until_a_repeat_lasts_long_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, means = _run(monkeypatch, Evaluation(1, 2, minimum_seconds=0.1), 0.001)
    assert means == pytest.approx((0.001, 0.001))
    # One call is too short; 101 are enough, and stay enough for the second repeat.
    assert clock.calls == 1 + 1 + 101 + 101


@pytest.mark.parametrize(
    "evaluation",
    [
        Evaluation(0, 1),
        Evaluation(1, 0),
        Evaluation(-1, -1),
        Evaluation(10**6, 2),
        Evaluation(1, 1, -1.0),
        Evaluation(1, 1, 0.0, 1e9),
    ],
)
def test_impossible_numbers(evaluation: Evaluation) -> None:
    with pytest.raises(InputError):
        evaluation.run(lambda: None, lambda: None)


def test_it_stops_when_told() -> None:
    calls: list[int] = []

    def pause() -> None:
        if len(calls) == 5:
            raise InputError("stop")

    with pytest.raises(InputError, match="stop"):
        Evaluation(100, 1).run(lambda: calls.append(1), pause)
    assert len(calls) == 5
