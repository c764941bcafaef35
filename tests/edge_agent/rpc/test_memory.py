"""A session's tensors: bounds, budget, handles."""

from __future__ import annotations

import numpy as np
import pytest

from edge_agent.errors import BusyError, InputError
from edge_agent.rpc.codec import DataType, Device, Tensor
from edge_agent.rpc.memory import Budget, Memory


def _tensor(handle: int, shape: tuple[int, ...], byte_offset: int = 0) -> Tensor:
    return Tensor(handle, Device(1), DataType(2, 32), shape, byte_offset)


def test_a_tensor_is_a_view_of_its_memory() -> None:
    memory = Memory(Budget(1000))
    handle = memory.allocate(24)
    memory.array(_tensor(handle, (2, 3)))[...] = np.arange(6).reshape(2, 3)
    assert memory.array(_tensor(handle, (3,), 12)).tolist() == [3, 4, 5]
    assert memory.bytes_of(_tensor(handle, (2, 3)), 4).tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(("shape", "offset"), [((7,), 0), ((6,), 1), ((1,), 2**64 - 1), ((2**31, 2**31), 0)])
def test_outside_is_refused(shape: tuple[int, ...], offset: int) -> None:
    memory = Memory(Budget(1000))
    with pytest.raises(InputError, match="lie outside its 24 bytes"):
        memory.array(_tensor(memory.allocate(24), shape, offset))


def test_unknown_and_freed_handles_are_refused() -> None:
    memory = Memory(Budget(1000))
    handle = memory.allocate(4)
    assert memory.free(handle) and not memory.free(handle)
    for unknown in (handle, handle + 1, 0):
        with pytest.raises(InputError, match="no tensor memory"):
            memory.array(_tensor(unknown, (1,)))


def test_sessions_share_a_budget() -> None:
    budget = Budget(100)
    first, second = Memory(budget), Memory(budget)
    kept = first.allocate(60)
    with pytest.raises(BusyError, match=r"60 bytes .* 40 of 100 are free"):
        second.allocate(60)
    first.free(kept)
    second.allocate(60)
    second.clear()
    first.allocate(100)


def test_a_refused_allocation_takes_nothing() -> None:
    budget = Budget(100)
    memory = Memory(budget)
    for nbytes in (101, 2**62):
        with pytest.raises(BusyError):
            memory.allocate(nbytes)
    with pytest.raises(InputError):
        memory.allocate(-1)
    memory.allocate(100)
