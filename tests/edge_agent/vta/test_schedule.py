"""Queues and tokens: order, what is known to have completed, depths, deadlocks."""

from __future__ import annotations

import pytest

from edge_agent.vta.config import Memory
from edge_agent.vta.isa import Finish, Instruction, Load, Store
from edge_agent.vta.schedule import COMMAND_QUEUE_DEPTH, TOKEN_QUEUE_DEPTH, Module, module_of, schedule
from edge_agent.vta.violation import Violation


def load(**flags: bool) -> Instruction:
    return Load(Memory.INP, 0, 0, 0, 0, 0, **flags)


def compute(**flags: bool) -> Instruction:
    return Load(Memory.UOP, 0, 0, 0, 0, 0, **flags)


def store(**flags: bool) -> Instruction:
    return Store(0, 0, 0, 0, 0, **flags)


def test_modules() -> None:
    modules = [module_of(Load(memory, 0, 0, 1, 1, 1)) for memory in Memory]
    assert modules == [Module.COMPUTE, Module.LOAD, Module.LOAD, Module.COMPUTE, Module.COMPUTE, Module.COMPUTE]
    assert (module_of(store()), module_of(Finish())) == (Module.STORE, Module.COMPUTE)


def test_tokens_order_instructions_and_carry_what_came_before() -> None:
    result = schedule([store(pop_prev=True), compute(pop_prev=True, push_next=True), load(), load(push_next=True)])
    assert result.order.tolist() == [2, 3, 1, 0]
    assert result.position.tolist() == [0, 0, 0, 1]
    assert result.before.tolist() == [[2, 1, 0], [2, 0, 0], [0, 0, 0], [1, 0, 0]]


def test_without_a_token_nothing_of_another_module_is_known() -> None:
    assert schedule([load(), compute(), store()]).before.tolist() == [[0, 0, 0]] * 3


def test_a_later_instruction_knows_what_an_earlier_one_of_its_module_knew() -> None:
    result = schedule([load(push_next=True), compute(pop_prev=True), compute(push_next=True), store(pop_prev=True)])
    assert result.before.tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0], [1, 2, 0]]


def test_an_empty_program() -> None:
    assert schedule([]).before.shape == (0, 3)


@pytest.mark.parametrize(
    ("instructions", "message", "where"),
    [
        ([compute(pop_prev=True)], "deadlock: it waits for a token from LOAD that never comes", 0),
        ([compute(), store(pop_prev=True)], "deadlock: it waits for a token from COMPUTE", 1),
        ([load(pop_next=True, push_next=True), compute(pop_prev=True, push_prev=True)], "deadlock", 0),
        ([load(), load(push_next=True)], "token balance: 1 tokens from LOAD to COMPUTE are left over", 1),
        ([store(push_prev=True), store(push_prev=True)], "token balance: 2 tokens from STORE to COMPUTE", 0),
        ([load(pop_prev=True)], "token flags: pop_prev on an instruction of the LOAD module", 0),
        ([load(push_prev=True)], "token flags: push_prev", 0),
        ([store(pop_next=True)], "token flags: pop_next on an instruction of the STORE module", 0),
        ([store(push_next=True)], "token flags: push_next", 0),
    ],
)
def test_violations(instructions: list[Instruction], message: str, where: int) -> None:
    with pytest.raises(Violation) as caught:
        schedule(instructions)
    assert str(caught.value).startswith(message)
    assert caught.value.instruction == where


def test_fetch_stops_at_a_full_command_queue() -> None:
    """Compute waits for a load that is fetched behind the instructions that fill compute's queue."""

    def program(waiting: int) -> list[Instruction]:
        return [compute(pop_prev=True), *[compute()] * (waiting - 1), load(push_next=True)]

    schedule(program(COMMAND_QUEUE_DEPTH))
    with pytest.raises(Violation, match="deadlock: the COMPUTE queue holds its 512 instructions"):
        schedule(program(COMMAND_QUEUE_DEPTH + 1))


def test_a_full_token_queue_blocks_who_pushes() -> None:
    def program(tokens: int) -> list[Instruction]:
        return [*[load(push_next=True)] * tokens, *[compute(pop_prev=True)] * tokens]

    schedule(program(TOKEN_QUEUE_DEPTH + COMMAND_QUEUE_DEPTH))
    with pytest.raises(Violation, match="deadlock: the LOAD queue holds"):
        schedule(program(TOKEN_QUEUE_DEPTH + COMMAND_QUEUE_DEPTH + 1))
