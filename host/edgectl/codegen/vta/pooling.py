"""Maximum pooling inside ACC, one axis after the other.

In place where each window has an element that no other window reads (a 3 x 3 pool of stride 2): the others are taken
into it. The rows and columns of the convolution lie in ACC sorted by their place in the stride, those elements first,
so that the results are dense in a row. Elsewhere each axis has an area of its own, made from zero by adding.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from edgectl.codegen.vta.axis import Range, Window
from edgectl.codegen.vta.loops import Dimension, Region


def anchor(window: Window, outputs: int, alone: bool) -> int | None:
    """A tap that lies inside the image for all windows and, if `alone`, in no other window; None where there is none.

    Taps from kernel - stride to stride - 1 are in one window only.
    """
    first, last = (max(0, window.kernel - window.stride), window.stride) if alone else (0, window.kernel)
    for tap in range(first, min(last, window.kernel)):
        if window.met(tap, (0, outputs)) == (0, outputs):
            return tap
    return None


def anchors(pools: tuple[Window, Window], out_size: tuple[int, int]) -> tuple[tuple[int, int] | None, bool]:
    """(the taps of both axes that results start from, whether pooling is in place); (None, False): impossible."""
    for alone in (True, False):
        rows, columns = (anchor(pool, size, alone) for pool, size in zip(pools, out_size, strict=True))
        if rows is not None and columns is not None:
            return (rows, columns), alone
    return None, False


def accumulators(
    pools: tuple[Window, Window], conv: tuple[int, int], out: tuple[int, int], out_size: tuple[int, int]
) -> int:
    """ACC elements that pooling `conv` rows and columns to `out` needs, for one block."""
    in_place = anchors(pools, out_size)[1]
    return conv[0] * conv[1] + (0 if in_place else conv[0] * out[1] + out[0] * out[1])


@dataclass(frozen=True)
class Area:
    """Where blocks of pixels lie in ACC: `base`, elements from block to block, and from row to row."""

    base: int
    block: int
    row: int


@dataclass(frozen=True)
class Operation:
    """An ALU operation between registers over `region` (dst, src), or, without `function`, a reset of it."""

    region: Region
    function: str = ""


class PooledTile:
    """A tile's pooling: where the convolution goes, which operations follow, where the result is."""

    def __init__(
        self,
        pools: tuple[Window, Window],
        out_size: tuple[int, int],
        out: tuple[Range, Range],
        conv: tuple[Range, Range],
    ) -> None:
        found, self._in_place = anchors(pools, out_size)
        assert found is not None, "the partition refuses such a pool"
        self._anchors, self._pools, self._out, self._conv = found, pools, out, conv
        self._sizes = conv[0][1] - conv[0][0], conv[1][1] - conv[1][0]
        self._results = out[0][1] - out[0][0], out[1][1] - out[1][0]

    def positions(self, axis: int) -> tuple[int, ...]:
        """ACC index along the axis of each row or column of the convolution."""
        begin, end = self._conv[axis]
        if not self._in_place:
            return tuple(range(end - begin))
        pool = self._pools[axis]
        first = self._out[axis][0] * pool.stride - pool.before + self._anchors[axis]
        order = sorted(range(begin, end), key=lambda o: ((o - first) % pool.stride, o))
        place = {output: number for number, output in enumerate(order)}
        return tuple(place[output] for output in range(begin, end))

    def elements(self, units: int) -> int:
        rows, columns = self._sizes
        out_rows, out_columns = self._results
        extra = 0 if self._in_place else rows * out_columns + out_rows * out_columns
        return units * (rows * columns + extra)

    def result(self, base: int, units: int) -> Area:
        """Where the pooled tile lies."""
        rows, columns = self._sizes
        out_rows, out_columns = self._results
        if self._in_place:
            return Area(base, rows * columns, columns)
        return Area(base + units * rows * (columns + out_columns), out_rows * out_columns, out_columns)

    def operations(self, base: int, units: int, chosen: Range) -> Iterator[Operation]:
        """What pools the blocks `chosen` of the `units` of a tile at `base`."""
        rows, columns = self._sizes
        out_rows, out_columns = self._results
        conv = Area(base, rows * columns, columns)
        count = chosen[1] - chosen[0]
        if self._in_place:
            yield from self._axis(1, conv, conv, chosen, rows)
            yield from self._axis(0, conv, conv, chosen, out_columns)
            return
        across = Area(base + units * conv.block, rows * out_columns, out_columns)
        result = self.result(base, units)
        for area, size in ((across, rows * out_columns), (result, out_rows * out_columns)):
            start = (area.base + chosen[0] * area.block, 0, 0)
            yield Operation(Region((start,), (Dimension(count * size, 1, 0, 0),)))
        yield from self._axis(1, conv, across, chosen, rows)
        yield from self._axis(0, across, result, chosen, out_columns)

    def _axis(self, axis: int, source: Area, target: Area, chosen: Range, across: int) -> Iterator[Operation]:
        """Take the taps of one axis into the results, `across` rows or columns at once."""
        pool, out, begin = self._pools[axis], self._out[axis], self._conv[axis][0]
        positions = self.positions(axis)
        kept = self._anchors[axis]
        order = [kept, *(tap for tap in range(pool.kernel) if tap != kept)]
        along = (target.row, source.row) if axis == 0 else (1, 1)
        other = (1, 1) if axis == 0 else (target.row, source.row)
        for tap in order[1:] if self._in_place else order:
            met = pool.met(tap, out)
            pairs = [(o - out[0], positions[o * pool.stride - pool.before + tap - begin]) for o in range(*met)]
            for first, count, step in _runs(pairs):
                start = (
                    target.base + chosen[0] * target.block + first[0] * along[0],
                    source.base + chosen[0] * source.block + first[1] * along[1],
                    0,
                )
                dimensions = (
                    Dimension(chosen[1] - chosen[0], target.block, source.block, 0),
                    Dimension(across, other[0], other[1], 0),
                    Dimension(count, step[0] * along[0], step[1] * along[1], 0),
                )
                adds = tap == kept
                yield Operation(Region((start,), dimensions), "add" if adds else "max")


def _runs(pairs: list[tuple[int, int]]) -> Iterator[tuple[tuple[int, int], int, tuple[int, int]]]:
    """Runs of equal steps: (first pair, count, step)."""
    first = 0
    while first < len(pairs):
        last = first + 1
        step = (1, 1)
        if last < len(pairs):
            step = (pairs[last][0] - pairs[first][0], pairs[last][1] - pairs[first][1])
        while last < len(pairs) and (pairs[last][0] - pairs[last - 1][0], pairs[last][1] - pairs[last - 1][1]) == step:
            last += 1
        yield pairs[first], last - first, step
        first = last
