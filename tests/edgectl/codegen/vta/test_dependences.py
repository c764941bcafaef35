"""Tokens: as many as needed, matched in order, never redundant."""

from __future__ import annotations

from edge_agent.vta.config import DEFAULT_CONFIG, Memory
from edge_agent.vta.schedule import Module
from edgectl.codegen.vta.dependences import Dependences


def test_a_reader_waits_for_its_writer_once() -> None:
    tracker = Dependences(DEFAULT_CONFIG)
    load = tracker.add(Module.LOAD)
    tracker.write(load, Memory.INP, 0, 16)
    first, second = tracker.add(Module.COMPUTE), -1
    tracker.read(first, Memory.INP, 0, 8)
    second = tracker.add(Module.COMPUTE)
    tracker.read(second, Memory.INP, 8, 16)
    assert tracker.flags == [{"push_next"}, {"pop_prev"}, set()]


def test_overwriting_waits_for_the_last_reader() -> None:
    tracker = Dependences(DEFAULT_CONFIG)
    tracker.write(tracker.add(Module.LOAD), Memory.WGT, 0, 4)
    reader = tracker.add(Module.COMPUTE)
    tracker.read(reader, Memory.WGT, 0, 4)
    other = tracker.add(Module.LOAD)
    tracker.write(other, Memory.WGT, 4, 8)
    again = tracker.add(Module.LOAD)
    tracker.write(again, Memory.WGT, 3, 5)
    assert tracker.flags[reader] == {"pop_prev", "push_prev"}
    assert tracker.flags[other] == set()
    assert tracker.flags[again] == {"pop_next"}


def test_what_one_module_knows_reaches_the_next_with_its_token() -> None:
    tracker = Dependences(DEFAULT_CONFIG)
    load = tracker.add(Module.LOAD)
    tracker.write(load, Memory.INP, 0, 1)
    gemm = tracker.add(Module.COMPUTE)
    tracker.read(gemm, Memory.INP, 0, 1)
    tracker.write(gemm, Memory.OUT, 0, 1)
    store = tracker.add(Module.STORE)
    assert not tracker.knows(Module.STORE, load)
    tracker.read(store, Memory.OUT, 0, 1)
    assert tracker.knows(Module.STORE, load)
    assert tracker.flags[store] == {"pop_prev"}
