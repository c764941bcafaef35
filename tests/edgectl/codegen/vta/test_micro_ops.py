"""Micro-ops are shared, and survive an overflow of UOP memory."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.vta.config import DEFAULT_CONFIG, Memory
from edgectl.codegen.vta.micro_ops import MicroOpTable

DEPTH = DEFAULT_CONFIG.depth(Memory.UOP)


def sequence(begin: int, count: int) -> bytes:
    return np.arange(begin, begin + count, dtype=np.uint32).tobytes()


def table(pinned: bytes = b"") -> tuple[MicroOpTable, list[tuple[int, int, int]]]:
    loads: list[tuple[int, int, int]] = []
    return MicroOpTable(DEFAULT_CONFIG, pinned, lambda *load: loads.append(load)), loads


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
    """What is loaded again comes from another place of the image: queued loads stay valid."""
    micro_ops, loads = table()
    half = DEPTH // 2 + 1
    first, second = sequence(0, half), sequence(10_000, half)
    micro_ops.place(first)
    assert micro_ops.place(second) == (0, half)
    assert micro_ops.place(first) == (0, half)
    assert loads == [(0, 0, half), (0, half, half), (0, 2 * half, half)]
    assert micro_ops.image == first + second + first


def test_the_pinned_sequence_is_loaded_once_and_stays() -> None:
    micro_ops, loads = table(sequence(500, 100))
    assert micro_ops.place(sequence(0, 10)) == (100, 110)
    assert micro_ops.pinned() == micro_ops.pinned() == 0
    for begin in range(1000, 1000 * 30, 1000):
        first, last = micro_ops.place(sequence(begin, 900))
        assert (last - first, first >= 100, last <= DEPTH) == (900, True, True)
    assert [load for load in loads if load[0] == 0] == [(0, 10, 100)]


def test_what_a_layer_needs_is_loaded_in_one_transfer() -> None:
    """Without what is on chip, and without parts of others."""
    micro_ops, loads = table(sequence(0, 4))
    micro_ops.place(sequence(100, 10))
    wanted = [sequence(200, 5), sequence(102, 3), sequence(300, 7), sequence(201, 2), sequence(200, 5)]
    micro_ops.prepare(wanted)
    assert loads == [(4, 0, 10), (14, 10, 12)]
    assert [micro_ops.place(each) for each in wanted] == [(14, 19), (6, 9), (19, 26), (15, 17), (14, 19)]
    micro_ops.prepare(wanted)
    assert len(loads) == 2


@given(
    st.lists(st.lists(st.tuples(st.integers(0, 40), st.integers(1, DEPTH // 16)), min_size=1, max_size=12), max_size=8),
    st.integers(0, 2048),
)
@settings(max_examples=60)
def test_every_sequence_is_in_memory_when_it_is_used(layers: list[list[tuple[int, int]]], pinned: int) -> None:
    """As loads bring it there, from the image as it is in the end; the pinned one never goes."""
    micro_ops, loads = table(sequence(7, pinned))
    used: list[tuple[int, int, bytes]] = []
    for layer in layers:
        wanted = [sequence(begin * 97, count) for begin, count in layer]
        micro_ops.prepare(wanted)
        for each in wanted:
            begin, end = micro_ops.place(each)
            used.append((len(loads), begin, each))
            assert 0 <= begin < end <= DEPTH
        if pinned:
            place = micro_ops.pinned()
            used.append((len(loads), place, sequence(7, pinned)))
    memory, done = bytearray(4 * DEPTH), 0
    for count, begin, each in used:
        for sram, dram, size in loads[done:count]:
            memory[4 * sram : 4 * (sram + size)] = micro_ops.image[4 * dram : 4 * (dram + size)]
        done = count
        assert memory[4 * begin : 4 * begin + len(each)] == each
