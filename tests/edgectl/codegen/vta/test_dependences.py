"""Tokens: as many as needed, matched in order, never redundant."""

from __future__ import annotations

from edge_agent.vta.config import DEFAULT_CONFIG, Memory
from edge_agent.vta.schedule import Module
from edgectl.codegen.vta.dependences import Dependences


def test_a_reader_waits_for_its_writer_once() -> None:
    tracker = Dependences(DEFAULT_CONFIG)
    load = tracker.add(Module.LOAD)
    tracker.access(load, writes=[(Memory.INP, 0, 16)])
    first, second = tracker.add(Module.COMPUTE), -1
    tracker.access(first, reads=[(Memory.INP, 0, 8)])
    second = tracker.add(Module.COMPUTE)
    tracker.access(second, reads=[(Memory.INP, 8, 16)])
    assert tracker.flags == [{"push_next"}, {"pop_prev"}, set()]


def test_overwriting_waits_for_the_last_reader() -> None:
    tracker = Dependences(DEFAULT_CONFIG)
    tracker.access(tracker.add(Module.LOAD), writes=[(Memory.WGT, 0, 4)])
    reader = tracker.add(Module.COMPUTE)
    tracker.access(reader, reads=[(Memory.WGT, 0, 4)])
    other = tracker.add(Module.LOAD)
    tracker.access(other, writes=[(Memory.WGT, 4, 8)])
    again = tracker.add(Module.LOAD)
    tracker.access(again, writes=[(Memory.WGT, 3, 5)])
    assert tracker.flags[reader] == {"pop_prev", "push_prev"}
    assert tracker.flags[other] == set()
    assert tracker.flags[again] == {"pop_next"}


def test_what_one_module_knows_reaches_the_next_with_its_token() -> None:
    tracker = Dependences(DEFAULT_CONFIG)
    load = tracker.add(Module.LOAD)
    tracker.access(load, writes=[(Memory.INP, 0, 1)])
    gemm = tracker.add(Module.COMPUTE)
    tracker.access(gemm, reads=[(Memory.INP, 0, 1)])
    tracker.access(gemm, writes=[(Memory.OUT, 0, 1)])
    store = tracker.add(Module.STORE)
    assert not tracker.knows(Module.STORE, load)
    tracker.access(store, reads=[(Memory.OUT, 0, 1)])
    assert tracker.knows(Module.STORE, load)
    assert tracker.flags[store] == {"pop_prev"}


def test_two_loads_that_one_instruction_reads_take_one_token() -> None:
    tracker = Dependences(DEFAULT_CONFIG)
    first, second = tracker.add(Module.LOAD), tracker.add(Module.LOAD)
    tracker.access(first, writes=[(Memory.INP, 0, 1)])
    tracker.access(second, writes=[(Memory.WGT, 0, 1)])
    gemm = tracker.add(Module.COMPUTE)
    tracker.access(gemm, reads=[(Memory.INP, 0, 1), (Memory.WGT, 0, 1)])
    assert tracker.flags == [set(), {"push_next"}, {"pop_prev"}]
