"""Ways to walk one axis of a convolution: each pair of an output and a tap that meet a pixel, once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import product as combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgectl.codegen.vta.axis import Axis, Window, by_output, by_pairs, by_tap, product
from edgectl.codegen.vta.loops import Dimension, Region, Step

windows = st.builds(
    Window, st.integers(1, 12), st.integers(1, 7), st.integers(1, 4), st.integers(1, 3), st.integers(0, 9)
)


def steps(regions: tuple[Region, ...]) -> Iterator[Step]:
    for region in regions:
        for place in combinations(*(range(loop.extent) for loop in region.dimensions)):
            for start in region.starts:
                at = list(start)
                for number, loop in zip(place, region.dimensions, strict=True):
                    at = [value + number * move for value, move in zip(at, (loop.dst, loop.src, loop.wgt), strict=True)]
                yield at[0], at[1], at[2]


@st.composite
def axes(draw: st.DrawFn) -> Axis:
    """Outputs anywhere along the axis, in any order on chip; a kernel of one tap may skip pixels."""
    window = draw(windows)
    first = draw(st.integers(0, 6))
    outputs = (first, first + draw(st.integers(1, 8)))
    count = outputs[1] - outputs[0]
    position = draw(st.permutations(range(count))) if draw(st.booleans()) else range(count)
    spacing = window.stride if window.kernel == 1 and draw(st.booleans()) else 1
    origin = outputs[0] * window.stride - window.before
    return Axis(window, outputs, tuple(position), origin, spacing)


@given(axes())
def test_all_ways_walk_the_pairs_that_meet_a_pixel(axis: Axis) -> None:
    window = axis.window
    expected = Counter(
        (
            axis.position[output - axis.outputs[0]],
            (pixel - axis.origin) // axis.spacing,
            tap,
        )
        for output in range(*axis.outputs)
        for tap in range(window.kernel)
        if 0 <= (pixel := output * window.stride + tap * window.dilation - window.before) < window.extent
    )
    for way in (by_pairs, by_tap, by_output):
        assert Counter(steps(way(axis))) == expected, way


@given(axes())
def test_loops_of_several_steps_go_upwards(axis: Axis) -> None:
    """The hardware's factors are unsigned."""
    for way in (by_tap, by_output):
        for region in way(axis):
            assert all(min(loop.dst, loop.src, loop.wgt) >= 0 for loop in region.dimensions if loop.extent > 1)


@given(windows, st.integers(0, 8), st.integers(1, 8))
def test_what_outputs_reach(window: Window, first: int, count: int) -> None:
    outputs = (first, first + count)
    reached = [
        o * window.stride + t * window.dilation - window.before for o in range(*outputs) for t in range(window.kernel)
    ]
    assert window.inputs(outputs) == (min(reached), max(reached) + 1)
    begin, end = window.inside(outputs)
    inside = [pixel for pixel in reached if 0 <= pixel < window.extent]
    assert all(begin <= pixel < end for pixel in inside)
    sees = [
        any(begin < end for begin, end in [window.met(t, (o, o + 1))])
        for o in range(*outputs)
        for t in range(window.kernel)
    ]
    assert sees.count(True) == len(inside)
    alone = [sees[number : number + window.kernel] for number in range(0, len(sees), window.kernel)]
    assert window.all_meet(outputs) == all(map(any, alone))


def test_a_3x3_with_padding() -> None:
    """On 4 pixels: the border outputs meet two taps, the others three."""
    axis = Axis(Window(4, 3, before=1), (0, 4), (0, 1, 2, 3), 0)
    assert axis.window.met(0, (0, 4)) == (1, 4)
    assert axis.window.met(2, (0, 4)) == (0, 3)
    assert sorted(steps(by_pairs(axis))) == [
        (0, 0, 1),
        (0, 1, 2),
        (1, 0, 0),
        (1, 1, 1),
        (1, 2, 2),
        (2, 1, 0),
        (2, 2, 1),
        (2, 3, 2),
        (3, 2, 0),
        (3, 3, 1),
    ]
    assert len(by_pairs(axis)) == 1 and len(by_tap(axis)) == 3 and len(by_output(axis)) == 3


@pytest.mark.parametrize("way", [by_pairs, by_tap, by_output])
def test_padding_alone_is_no_work(way) -> None:  # type: ignore[no-untyped-def]
    assert way(Axis(Window(2, 1, before=5), (0, 3), (0, 1, 2), 0)) == ()


def test_rows_times_columns() -> None:
    rows = Region(((0, 0, 0),), (Dimension(2, 1, 1, 0),))
    columns = Region(((0, 5, 1), (1, 6, 2)), (Dimension(3, 1, 1, 0),))
    whole = product(rows, columns, (10, 100, 3))
    assert whole.starts == columns.starts
    assert whole.dimensions == (Dimension(2, 10, 100, 0), Dimension(3, 1, 1, 0))
    assert product(Region(((1, 2, 3),), ()), columns, (10, 100, 3)).starts == ((10, 205, 10), (11, 206, 11))
