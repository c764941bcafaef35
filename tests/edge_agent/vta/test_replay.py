"""When each instruction runs and what it waits for, reckoned by hand and on a tiled convolution."""

from __future__ import annotations

import numpy as np
import pytest

from edge_agent.vta.config import DEFAULT_CONFIG, Memory
from edge_agent.vta.counters import Counters
from edge_agent.vta.isa import Finish, Gemm, Instruction, Load, Store, encode_stream
from edge_agent.vta.program import Program
from edge_agent.vta.schedule import Module
from edge_agent.vta.timing import Parameters, Trace, Wait, predict, trace
from tests.edge_agent.vta.builder import TiledConvolution


def traced(*instructions: Instruction, parameters: Parameters | None = None) -> Trace:
    words = encode_stream(instructions, DEFAULT_CONFIG)
    program = Program("test", DEFAULT_CONFIG.name, frozenset(), words, (), {}, (), (), Counters())
    return trace(program, 8, parameters or Parameters())


def load(**tokens: bool) -> Load:
    """30 to issue, 40 of latency, 128 beats."""
    return Load(Memory.INP, 0, 0, 1, 64, 64, **tokens)


def store(**tokens: bool) -> Store:
    return Store(0, 0, 1, 64, 64, **tokens)


def gemm(**tokens: bool) -> Gemm:
    """30 to issue, then 100 + 8."""
    return Gemm(reset=False, uop_bgn=0, uop_end=100, **tokens)


def test_a_chain_of_tokens() -> None:
    found = traced(
        load(push_next=True), gemm(pop_prev=True, push_next=True), store(pop_prev=True, push_prev=True),
        Finish(pop_next=True),
    )  # fmt: skip
    assert found.module.tolist() == [Module.LOAD, Module.COMPUTE, Module.STORE, Module.COMPUTE]
    assert found.start.tolist() == [2, 200, 338, 536]
    assert found.end.tolist() == [200, 338, 536, 566]
    assert found.idle.tolist() == [2, 200, 338, 198]
    assert found.reason.tolist() == [Wait.FETCH, Wait.LOAD, Wait.COMPUTE, Wait.STORE]
    assert found.bus_wait.tolist() == [0, 0, 0, 0]
    assert found.beats.tolist() == [128, 0, 128, 0]
    assert found.timing.cycles == 566


def test_the_bus_goes_to_who_started_first() -> None:
    found = traced(load(), store())
    assert found.start.tolist() == [2, 4]
    assert found.bus_wait.tolist() == [0, 2 + 30 + 40 + 128 - (4 + 30 + 40)]
    assert found.end.tolist() == [200, 328]


def test_a_module_that_is_still_busy_waits_for_nothing() -> None:
    found = traced(gemm(push_prev=True), gemm(), load(pop_next=True))
    assert found.idle.tolist() == [2, 0, 140]
    assert found.reason.tolist() == [Wait.FETCH, Wait.NONE, Wait.COMPUTE]


def test_the_later_of_two_tokens_is_the_reason() -> None:
    both = gemm(pop_prev=True, pop_next=True)
    found = traced(load(push_next=True), store(push_prev=True), both)
    assert (found.start[2], found.reason[2]) == (328, Wait.STORE)


def test_slow_fetch_is_a_reason() -> None:
    found = traced(gemm(), gemm(), parameters=Parameters(fetch=500))
    assert (found.idle[1], found.reason[1]) == (1000 - 638, Wait.FETCH)


def test_a_full_token_queue_holds_up_who_gives() -> None:
    """1,024 tokens fit: from then on each GEMM waits until STORE, which begins late and is slower, has taken one."""
    slow = [Store(0, 0, 1, 2048, 2048)] * 10
    pushes = [Gemm(reset=False, uop_bgn=0, uop_end=1, push_next=True)] * 1100
    pops = [store(pop_prev=True)] * 1100
    found = traced(*slow, *pushes, *pops)
    first_pop = 2 + 10 * (30 + 16 * 40 + 4096)
    assert found.start[10 + 1023] == found.start[10] + 1023 * 39
    assert found.start[[1110, 1111]].tolist() == [first_pop, first_pop + 198]
    assert found.start[[10 + 1024, 10 + 1025]].tolist() == [first_pop, first_pop + 198]
    assert found.reason[[10 + 1024, 10 + 1025]].tolist() == [Wait.STORE, Wait.STORE]


@pytest.mark.parametrize("bus_bytes", [8, 16])
def test_modules_are_busy_or_idle_at_any_time(bus_bytes: int) -> None:
    program = TiledConvolution().build()
    found = trace(program, bus_bytes)
    assert found.timing == predict(program, bus_bytes)
    busy = []
    for module in Module:
        mine = found.module == module
        start, end, idle = found.start[mine], found.end[mine], found.idle[mine]
        np.testing.assert_array_equal(start - idle, np.concatenate([[0], end[:-1]]))
        assert ((found.reason[mine] == Wait.NONE) == (idle == 0)).all()
        busy.append(int((end - start).sum()))
    timing = found.timing
    assert busy == [timing.load_busy, timing.compute_busy, timing.store_busy]
    assert found.beats.sum() <= found.end.max() == timing.cycles
