"""Buffers as aligned views of shared storages; constants are read-only and must lie in their member."""

from __future__ import annotations

import numpy as np
import pytest

from edge_agent.errors import IncompatibleError
from edge_agent.runtime.memory import ALIGNMENT, allocate_buffers
from edge_agent.runtime.plan import Buffer, Plan


def plan(*buffers: Buffer, storages: tuple[int, ...] = (256,)) -> Plan:
    return Plan(buffers, storages, (), {}, {})


def test_buffers_of_one_storage_share_memory() -> None:
    first, second, other = allocate_buffers(
        plan(Buffer("a", (4, 4), "float32", 0), Buffer("b", (64,), "int8", 0), Buffer("c", (64,), "int8", 0, 64)), {}
    )
    first[...] = np.float32(1.0)
    assert bytes(second[:4]) == np.float32(1.0).tobytes()
    assert not other.any() and all(a.ctypes.data % ALIGNMENT == 0 for a in (first, second, other))
    assert (first.shape, first.dtype) == ((4, 4), np.float32)


def test_constants_are_read_only_views_of_their_member() -> None:
    blob = np.arange(48, dtype=np.int32).tobytes()
    (constant,) = allocate_buffers(plan(Buffer("w", (2, 4), "int32", -1, 64, "constants.bin")), {"constants.bin": blob})
    np.testing.assert_array_equal(constant, np.arange(16, 24).reshape(2, 4))
    assert not constant.flags.writeable and constant.ctypes.data % ALIGNMENT == 0


@pytest.mark.parametrize(
    ("buffer", "message"),
    [
        (Buffer("w", (17,), "int32", -1, 0, "constants.bin"), r"bytes 0 to 68 of 64"),
        (Buffer("w", (1,), "int32", -1, 4, "constants.bin"), r"multiple of 64"),
        (Buffer("w", (1,), "int32", -1, 0, "other.bin"), r"no member 'other.bin'"),
        (Buffer("w", (1,), "int32", 0, 32), r"multiple of 64"),
    ],
)
def test_misplaced_buffers_are_refused(buffer: Buffer, message: str) -> None:
    with pytest.raises(IncompatibleError, match=message):
        allocate_buffers(plan(buffer), {"constants.bin": bytes(64)})
