"""Affine views equal gathers, and the index patterns of convolutions are affine."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.vta.affine import affine_view

ELEMENTS = np.arange(400 * 2).reshape(400, 2)


@given(st.lists(st.integers(0, 399), min_size=1, max_size=30))
def test_a_view_is_the_gather_or_there_is_none(indices: list[int]) -> None:
    view = affine_view(ELEMENTS, np.array(indices))
    if view is not None:
        np.testing.assert_array_equal(view.reshape(-1, 2), ELEMENTS[indices])


@given(st.integers(0, 9), st.lists(st.tuples(st.integers(1, 4), st.integers(-1, 9)), min_size=1, max_size=3))
def test_every_view_of_a_loop_nest_is_right(base: int, loops: list[tuple[int, int]]) -> None:
    indices = np.array([200 + base])
    for extent, step in loops:
        indices = (indices[:, None] + step * np.arange(extent)).ravel()
    view = affine_view(ELEMENTS, indices)
    if view is not None:
        np.testing.assert_array_equal(view.reshape(-1, 2), ELEMENTS[indices])


@pytest.mark.parametrize("shape", [(1,), (7,), (3, 5), (2, 3, 5)])
def test_regular_nests_have_views(shape: tuple[int, ...]) -> None:
    strides = [100, 20, 2][-len(shape) :]
    indices = sum(axis * stride for axis, stride in zip(np.indices(shape), strides, strict=True))
    view = affine_view(ELEMENTS, np.asarray(indices))
    assert view is not None and np.shares_memory(view, ELEMENTS)
    np.testing.assert_array_equal(view.reshape(-1, 2), ELEMENTS[np.asarray(indices).ravel()])


def test_irregular_indices_have_none() -> None:
    assert affine_view(ELEMENTS, np.array([0, 1, 3])) is None
    assert affine_view(ELEMENTS, np.array([0, 1, 5, 7])) is None
