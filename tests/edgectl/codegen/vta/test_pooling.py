"""Maximum pooling in ACC, one axis after the other: in place or through areas of its own."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from edgectl.codegen.vta.axis import Range, Window
from edgectl.codegen.vta.pooling import Area, PooledTile, accumulators, anchor, anchors


@pytest.mark.parametrize(
    ("window", "outputs", "alone", "tap"),
    [
        # 3 taps of stride 2 overlap in their first and last: the middle one belongs to one window only.
        (Window(8, 3, 2, before=1), 4, True, 1),
        (Window(8, 2, 2), 4, True, 0),
        (Window(8, 3, 1, before=1), 8, True, None),
        (Window(8, 3, 1, before=1), 8, False, 1),
        (Window(3, 3, 1, before=2), 5, False, None),
        (Window(7, 7, 7), 1, True, 0),
        (Window(9, 5, 3, before=2), 3, True, 2),
    ],
)
def test_the_tap_that_results_start_from(window: Window, outputs: int, alone: bool, tap: int | None) -> None:
    assert anchor(window, outputs, alone) == tap


def test_both_axes_pool_in_the_same_way() -> None:
    overlapping, apart = Window(8, 3, 1, before=1), Window(8, 2, 2)
    assert anchors((apart, apart), (4, 4)) == ((0, 0), True)
    assert anchors((apart, overlapping), (4, 8)) == ((0, 1), False)
    assert anchors((apart, Window(3, 3, 1, before=2)), (4, 5)) == (None, False)


def test_accumulators_of_a_block() -> None:
    """In place nothing is added; else columns are pooled into an area, and its rows into another."""
    apart, overlapping = Window(8, 2, 2), Window(8, 3, 1, before=1)
    assert accumulators((apart, apart), (8, 8), (4, 4), (4, 4)) == 64
    assert accumulators((overlapping, overlapping), (8, 8), (8, 8), (8, 8)) == 3 * 64


@st.composite
def tiles(draw: st.DrawFn) -> tuple[PooledTile, tuple[Window, Window], tuple[Range, Range], tuple[Range, Range]]:
    """(tile, pools, its outputs, the rows and columns of the convolution that it has)."""
    pools, outs, sizes = [], [], []
    for _ in range(2):
        kernel, stride = draw(st.integers(1, 5)), draw(st.integers(1, 4))
        before, extent = draw(st.integers(0, kernel - 1)), draw(st.integers(kernel, 12))
        size = (extent + before - kernel) // stride + 1 + draw(st.integers(0, 1))
        window = Window(extent, kernel, stride, before=before)
        assume(window.all_meet((0, size)))
        first = draw(st.integers(0, size - 1))
        pools.append(window)
        outs.append((first, draw(st.integers(first + 1, size))))
        sizes.append(size)
    windows, out_size = (pools[0], pools[1]), (sizes[0], sizes[1])
    assume(anchors(windows, out_size)[0] is not None)
    conv = (windows[0].inside(outs[0]), windows[1].inside(outs[1]))
    return PooledTile(windows, out_size, (outs[0], outs[1]), conv), windows, (outs[0], outs[1]), conv


@given(tiles(), st.integers(0, 2**32), st.integers(1, 3))
def test_operations_leave_the_maxima_where_the_result_is(case, seed: int, units: int) -> None:  # type: ignore[no-untyped-def]
    """Played on an array of accumulators, for one of several blocks, the others unharmed."""
    tile, pools, out, conv = case
    base, chosen = 5, seed % units
    rows, columns = (end - begin for begin, end in conv)
    acc = np.random.default_rng(seed).integers(-1000, 1000, base + tile.elements(units) + 4)
    image = np.random.default_rng(seed + 1).integers(-1000, 0, (units, rows, columns))
    for unit, (y, row), (x, column) in product(
        range(units), enumerate(tile.positions(0)), enumerate(tile.positions(1))
    ):
        acc[base + (unit * rows + row) * columns + column] = image[unit, y, x]
    before = acc.copy()
    for operation in tile.operations(base, units, (chosen, chosen + 1)):
        region = operation.region
        for place in product(*(range(loop.extent) for loop in region.dimensions)):
            for dst, src, _ in region.starts:
                for number, loop in zip(place, region.dimensions, strict=True):
                    dst, src = dst + number * loop.dst, src + number * loop.src
                assert base <= dst < base + tile.elements(units)
                acc[dst] = {"": 0, "add": acc[dst] + acc[src], "max": max(acc[dst], acc[src])}[operation.function]
    area = tile.result(base, units)
    for y, x in product(range(*out[0]), range(*out[1])):
        seen = [
            image[chosen, row - conv[0][0], column - conv[1][0]]
            for row in range(
                y * pools[0].stride - pools[0].before, y * pools[0].stride - pools[0].before + pools[0].kernel
            )
            for column in range(
                x * pools[1].stride - pools[1].before, x * pools[1].stride - pools[1].before + pools[1].kernel
            )
            if 0 <= row < pools[0].extent and 0 <= column < pools[1].extent
        ]
        at = area.base + chosen * area.block + (y - out[0][0]) * area.row + x - out[1][0]
        assert acc[at] == max(seen)
    for unit in set(range(units)) - {chosen}:
        whole = slice(base + unit * rows * columns, base + (unit + 1) * rows * columns)
        np.testing.assert_array_equal(acc[whole], before[whole])


def test_a_3x3_of_stride_2_in_place() -> None:
    """Columns in the order of their place in the stride, so that results are dense: 1, 3 first, then 0, 2, 4."""
    pool = Window(5, 3, 2)
    tile = PooledTile((pool, pool), (2, 2), ((0, 2), (0, 2)), ((0, 5), (0, 5)))
    assert tile.positions(0) == (2, 0, 3, 1, 4)
    assert tile.elements(3) == 75
    assert tile.result(10, 3) == Area(10, 25, 5)
    functions = [operation.function for operation in tile.operations(0, 1, (0, 1))]
    assert functions == ["max"] * 4
