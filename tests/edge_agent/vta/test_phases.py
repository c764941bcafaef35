"""Executing phase by phase equals executing one micro-op after the other."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.vta.phases import phases
from edge_agent.vta.walk import Walk

NO_WEIGHTS = np.zeros(0, np.int64)


@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), min_size=1, max_size=40))
def test_phases_equal_sequential_execution(pairs: list[tuple[int, int]]) -> None:
    dst, src = np.array(pairs, np.int64).T
    sequential = np.arange(1, 9, dtype=np.int64)
    phased = sequential.copy()
    for d, s in pairs:
        sequential[d] = 3 * sequential[d] + sequential[s]
    ranges = phases(Walk(dst, src, NO_WEIGHTS), immediate=False)
    for phase in ranges:
        phased[dst[phase]] = 3 * phased[dst[phase]] + phased[src[phase]]
    np.testing.assert_array_equal(phased, sequential)
    assert [p.start for p in ranges] == [0, *[p.stop for p in ranges[:-1]]] and ranges[-1].stop == len(pairs)


def test_independent_executions_are_one_phase() -> None:
    dst = np.arange(100)
    assert phases(Walk(dst, dst, NO_WEIGHTS), immediate=True) == [slice(0, 100)]
    assert phases(Walk(dst, dst + 100, NO_WEIGHTS), immediate=False) == [slice(0, 100)]
    # reading an element before it is overwritten needs no new phase
    assert phases(Walk(dst, dst + 1, NO_WEIGHTS), immediate=False) == [slice(0, 100)]


def test_a_pooling_window_is_a_phase_for_each_tap() -> None:
    dst = np.tile(np.arange(10), 3)
    assert phases(Walk(dst, 20 + np.arange(30), NO_WEIGHTS), immediate=False) == [
        slice(0, 10),
        slice(10, 20),
        slice(20, 30),
    ]
