"""Nests walk exactly the asked-for indices, without read-after-write hazards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import product

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.vta.config import DEFAULT_CONFIG, Memory
from edge_agent.vta.isa import decode_micro_ops
from edgectl.codegen.vta.loops import (
    HAZARD_DISTANCE,
    INSTRUCTION_CYCLES,
    LONGEST_LIST,
    MICRO_OP_CYCLES,
    REENTRY_CYCLES,
    Dimension,
    Nest,
    Region,
    Step,
    cost,
    nests,
)


def walk(nest: Nest) -> list[tuple[int, int, int]]:
    dst, src, wgt = decode_micro_ops(np.frombuffer(nest.micro_ops, np.uint32), DEFAULT_CONFIG)
    return [
        (
            int(d) + a * nest.outer.dst + b * nest.inner.dst,
            int(s) + a * nest.outer.src + b * nest.inner.src,
            int(w) + a * nest.outer.wgt + b * nest.inner.wgt,
        )
        for a in range(nest.outer.extent)
        for b in range(nest.inner.extent)
        for d, s, w in zip(dst, src, wgt, strict=True)
    ]


@given(
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 5),
    st.integers(1, 5),
    st.integers(1, 3),
    st.sampled_from([1.0, 30.0, 1000.0]),
)
@settings(max_examples=100)
def test_every_multiplication_happens_once_and_none_too_close(
    ky: int, kx: int, ins: int, rows: int, columns: int, outs: int, reuse: float
) -> None:
    """Kernel taps as starts, reductions over inputs, and pixels of several output blocks."""
    width = columns + kx - 1
    region = Region(
        tuple((7, 5 + p * width + q, 3 + p * kx + q) for p in range(ky) for q in range(kx)),
        (
            Dimension(ins, 0, (rows + ky - 1) * width, ky * kx),
            Dimension(rows, columns, width, 0),
            Dimension(columns, 1, 1, 0),
            Dimension(outs, rows * columns, 0, ins * ky * kx),
        ),
    )
    made = nests(region, DEFAULT_CONFIG, reuse)
    expected = Counter(
        (
            7 + o * rows * columns + y * columns + x,
            5 + i * (rows + ky - 1) * width + (y + p) * width + x + q,
            3 + (o * ins + i) * ky * kx + p * kx + q,
        )
        for o in range(outs)
        for i in range(ins)
        for y in range(rows)
        for x in range(columns)
        for p in range(ky)
        for q in range(kx)
    )
    assert steps_of(made) == expected
    assert region.size == sum(expected.values())


def steps_of(made: Sequence[Nest]) -> Counter[Step]:
    """What `made` walks, after a check that no element is updated again too soon."""
    steps: Counter[Step] = Counter()
    for nest in made:
        order = walk(nest)
        steps.update(order)
        for first in range(len(order)):
            for second in range(first + 1, min(first + HAZARD_DISTANCE, len(order))):
                assert order[first][0] != order[second][0]
    return steps


dimensions = st.builds(
    Dimension, st.integers(1, 6), st.sampled_from([0, 0, 1, 2, 7]), st.integers(0, 9), st.integers(0, 9)
)


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=9),
    st.lists(dimensions, max_size=4),
    st.sampled_from([1.0, 8.0, 300.0]),
)
@settings(max_examples=100)
def test_any_region_is_walked_once(starts: list[Step], loops: list[Dimension], reuse: float) -> None:
    """Also where loops meet the same element again and again."""
    region = Region(tuple(starts), tuple(loops))
    expected: Counter[Step] = Counter()
    for place in product(*(range(loop.extent) for loop in loops)):
        moves = [
            sum(step * amount for step, amount in zip(place, amounts, strict=True))
            for amounts in ([d.dst for d in loops], [d.src for d in loops], [d.wgt for d in loops])
        ]
        expected.update((d + moves[0], s + moves[1], w + moves[2]) for d, s, w in starts)
    assert steps_of(nests(region, DEFAULT_CONFIG, reuse)) == expected


def test_a_region_moved_is_the_same_region_elsewhere() -> None:
    region = Region(((1, 2, 3), (4, 5, 6)), (Dimension(2, 8, 8, 8),))
    assert region.moved(10, 20, 30) == Region(((11, 22, 33), (14, 25, 36)), region.dimensions)


PIXELS = Region(((0, 0, 0),), (Dimension(14, 14, 16, 0), Dimension(14, 1, 1, 0), Dimension(9, 0, 1, 1)))


def test_lists_that_serve_often_are_longer() -> None:
    """A list of n micro-ops costs n to load, and saves passes whenever it is used."""
    ((once,), (often,)) = (nests(PIXELS, DEFAULT_CONFIG, reuse) for reuse in (1.0, 1000.0))
    assert len(often.micro_ops) > len(once.micro_ops)
    assert cost(PIXELS, DEFAULT_CONFIG, 1000.0) < cost(PIXELS, DEFAULT_CONFIG, 1.0)


def test_a_list_takes_a_part_of_the_memory_at_most() -> None:
    nest = nests(Region(((0, 0, 0),), (Dimension(3000, 0, 0, 0),)), DEFAULT_CONFIG, 1e9)
    assert max(len(part.micro_ops) for part in nest) <= DEFAULT_CONFIG.depth(Memory.UOP) // LONGEST_LIST * 4


def test_cost_counts_passes_instructions_and_micro_ops() -> None:
    """One instruction, 14 x 14 passes through a list of 9 at most: whatever is cheapest is no dearer than that."""
    dearest = INSTRUCTION_CYCLES + 14 * 14 * REENTRY_CYCLES + 9 * MICRO_OP_CYCLES
    assert INSTRUCTION_CYCLES < cost(PIXELS, DEFAULT_CONFIG, 1.0) <= dearest
    single = Region(((3, 4, 5),), ())
    assert cost(single, DEFAULT_CONFIG, 1.0) == INSTRUCTION_CYCLES + REENTRY_CYCLES + MICRO_OP_CYCLES
