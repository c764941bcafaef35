"""Numbers of a measurement."""

from __future__ import annotations

import pytest

from edgectl.measuring import Latency, random_weights_banner


def test_latency_is_per_sample_in_milliseconds() -> None:
    latency = Latency.of((0.002, 0.004, 0.006, 0.008), 2)
    assert latency.mean == pytest.approx(2.5)
    assert latency.std == pytest.approx(1.25**0.5)
    assert latency.p50 == pytest.approx(2.5)
    assert latency.p99 == pytest.approx(3.97)


def test_one_run_has_no_deviation() -> None:
    assert Latency.of((0.5,), 1) == Latency(500.0, 0.0, 500.0, 500.0)


def test_the_banner_belongs_to_random_weights() -> None:
    assert "meaningless" in random_weights_banner({"model": {"weights": {"kind": "random"}}})
    assert random_weights_banner({"model": {"weights": {"kind": "pretrained"}}}) == ""
    assert random_weights_banner({"model": {}}) == ""
