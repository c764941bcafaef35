"""What one agent leaves for the next."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.hardware.journal import Entry, Journal


def test_a_run_and_its_end() -> None:
    memory = np.zeros(256, np.uint8)
    assert Journal(memory).read() is None
    Journal(memory).begin(0x12345678, b"12345678")
    assert Journal(memory).read() == Entry(True, 0x12345678, b"12345678")
    Journal(memory).end()
    assert Journal(memory).read() == Entry(False, 0, b"")
    assert not memory[64:].any()


@given(st.integers(0, 47), st.integers(1, 255))
def test_what_is_damaged_says_nothing(position: int, change: int) -> None:
    memory = np.zeros(64, np.uint8)
    Journal(memory).begin(1 << 29, bytes(range(8)))
    written = Journal(memory).read()
    memory[position] ^= change
    assert Journal(memory).read() in (None, written)
    if position < 44:
        assert Journal(memory).read() is None
