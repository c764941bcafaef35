"""Micro-ops are shared, and survive an overflow of UOP memory."""

from __future__ import annotations

import numpy as np

from edge_agent.vta.config import DEFAULT_CONFIG, Memory
from edgectl.codegen.vta.micro_ops import MicroOpTable

DEPTH = DEFAULT_CONFIG.depth(Memory.UOP)


def sequence(begin: int, count: int) -> bytes:
    return np.arange(begin, begin + count, dtype=np.uint32).tobytes()


def table() -> tuple[MicroOpTable, list[tuple[int, int, int]]]:
    loads: list[tuple[int, int, int]] = []
    return MicroOpTable(DEFAULT_CONFIG, lambda *load: loads.append(load)), loads


def test_a_known_sequence_is_not_loaded_again() -> None:
    micro_ops, loads = table()
    assert micro_ops.place(sequence(100, 10)) == (0, 10)
    assert micro_ops.place(sequence(100, 10)) == (0, 10)
    assert micro_ops.place(sequence(103, 4)) == (3, 7)
    assert loads == [(0, 0, 10)]
    assert micro_ops.image == sequence(100, 10)


def test_bytes_that_match_out_of_step_are_no_match() -> None:
    micro_ops, _ = table()
    micro_ops.place(b"\x00\x01\x00\x01" * 4)
    assert micro_ops.place(b"\x01\x00\x01\x00") == (4, 5)


def test_a_full_memory_starts_over_and_the_image_keeps_everything() -> None:
    micro_ops, loads = table()
    half = DEPTH // 2 + 1
    first, second = sequence(0, half), sequence(10_000, half)
    micro_ops.place(first)
    assert micro_ops.place(second) == (0, half)
    assert micro_ops.place(first) == (0, half)
    assert loads == [(0, 0, half), (0, half, half), (0, 0, half)]
    assert micro_ops.image == first + second
