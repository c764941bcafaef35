"""No two blocks overlap, nothing is lost, and the same calls give the same addresses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.hardware.allocator import Allocator

SIZE = 1 << 14


def test_first_fit_at_the_lowest_address() -> None:
    allocator = Allocator(1024, 256)
    assert [allocator.allocate(nbytes) for nbytes in (1, 257, 256)] == [0, 256, 768]
    assert allocator.allocate(1) is None and allocator.free_bytes == 0
    allocator.free(256)
    assert allocator.largest == 512 and allocator.allocate(513) is None
    assert allocator.allocate(256) == 256 and allocator.allocate(256) == 512


def test_neighbours_become_one_hole_again() -> None:
    for order in ((0, 1, 2), (2, 1, 0), (0, 2, 1), (1, 0, 2)):
        allocator = Allocator(3 * 256)
        blocks = [allocator.allocate(256) for _ in range(3)]
        for index in order:
            offset = blocks[index]
            assert offset is not None
            allocator.free(offset)
        assert allocator.largest == 3 * 256


def test_what_does_not_fit_the_alignment_is_not_given_out() -> None:
    allocator = Allocator(1023, 256)
    assert allocator.free_bytes == 768 and Allocator(255).allocate(1) is None


@pytest.mark.parametrize("offset", [1, 256, -256])
def test_freeing_what_is_no_block(offset: int) -> None:
    allocator = Allocator(1024)
    allocator.allocate(300)
    with pytest.raises(ValueError, match="no block begins"):
        allocator.free(offset)
    allocator.free(0)
    with pytest.raises(ValueError, match="no block begins"):
        allocator.free(0)


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one byte, not 0"):
        Allocator(1024).allocate(0)
    with pytest.raises(ValueError, match="cannot be divided"):
        Allocator(1024, 0)


@given(
    st.sampled_from([64, 256, 1024]),
    st.lists(st.one_of(st.integers(1, SIZE // 3), st.integers(-20, -1)), max_size=80),
)
def test_blocks_are_disjoint_and_memory_is_conserved(alignment: int, steps: list[int]) -> None:
    """Positive numbers allocate so many bytes, negative ones free the block at that place of the list."""
    first, second = Allocator(SIZE, alignment), Allocator(SIZE, alignment)
    blocks: list[tuple[int, int]] = []
    for step in steps:
        if step > 0:
            largest = first.largest
            offset = first.allocate(step)
            assert offset == second.allocate(step)
            padded = step + -step % alignment
            assert (offset is None) == (padded > largest)
            if offset is None:
                continue
            assert offset % alignment == 0 and offset + padded <= SIZE
            assert all(offset >= begin + size or offset + padded <= begin for begin, size in blocks)
            blocks.append((offset, padded))
        elif blocks:
            begin, _ = blocks.pop(step % len(blocks))
            first.free(begin)
            second.free(begin)
        assert first.free_bytes == SIZE - sum(size for _, size in blocks)
    for begin, _ in blocks:
        first.free(begin)
    assert first.largest == SIZE
