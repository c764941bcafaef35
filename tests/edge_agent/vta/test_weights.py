"""Weight matrices: from constants once and shared, from data at run time, in the narrowest exact type."""

from __future__ import annotations

import numpy as np
import pytest

from edge_agent.vta.config import DEFAULT_CONFIG, Memory
from edge_agent.vta.isa import Load
from edge_agent.vta.program import Role
from edge_agent.vta.weights import Weights

from .builder import ProgramBuilder


def weights_of(elements: np.ndarray, role: Role = Role.CONSTANT) -> Weights:
    builder = ProgramBuilder()
    builder.constant("weight", Memory.WGT, elements)
    if role is not Role.CONSTANT:
        del builder.constants["weight"]
        builder.tensor("weight", role, Memory.WGT, elements.shape)
    return Weights(builder.build(), DEFAULT_CONFIG, [elements])


ELEMENTS = np.random.default_rng(0).integers(-128, 128, (6, 16, 16), np.int8)


def expected(first: int) -> np.ndarray:
    """Two blocks of two elements each, as (reduction * in lanes, blocks * out lanes)."""
    blocks = [np.concatenate([ELEMENTS[first + 2 * block + k].T for k in range(2)]) for block in range(2)]
    return np.concatenate(blocks, axis=1)


def test_constant_weights_become_one_matrix_wherever_they_are_loaded() -> None:
    weights = weights_of(ELEMENTS)
    assert weights.load(Load(Memory.WGT, 10, 1, 2, 2, 2), 0) == []
    first = weights.matrix(np.array([[10, 11], [12, 13]]))
    np.testing.assert_array_equal(first, expected(1))
    weights.load(Load(Memory.WGT, 100, 1, 1, 4, 4), 0)
    assert weights.matrix(np.array([[100, 101], [102, 103]])) is first
    weights.load(Load(Memory.WGT, 10, 2, 1, 4, 4), 0)
    np.testing.assert_array_equal(weights.matrix(np.array([[10, 11], [12, 13]])), expected(2))


def test_weights_from_data_are_read_at_run_time() -> None:
    elements = ELEMENTS.copy()
    weights = weights_of(elements, Role.INPUT)
    (step,) = weights.load(Load(Memory.WGT, 0, 0, 1, 4, 4), 0)
    matrix = weights.matrix(np.array([[0, 1], [2, 3]]))
    assert callable(matrix)
    step()
    np.testing.assert_array_equal(matrix(), expected(0))
    elements[0] = 5
    step()
    assert (matrix()[:16, :16] == 5).all()


@pytest.mark.parametrize(
    ("reduction", "value", "dtype"),
    [(64, -128, "float32"), (65, -128, "float64"), (500, 16, "float32"), (513, 16, "float64")],
)
def test_the_float_type_holds_the_largest_possible_sum(reduction: int, value: int, dtype: str) -> None:
    """reduction * 16 * |value| * 128 against 2^24."""
    weights = weights_of(np.full((1, 16, 16), value, np.int8))
    weights.load(Load(Memory.WGT, 0, 0, 1, 1, 1), 0)
    matrix = weights.matrix(np.zeros((1, reduction), np.int64))
    assert isinstance(matrix, np.ndarray) and matrix.dtype == dtype
