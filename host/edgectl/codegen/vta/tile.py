"""One tile of a layer: which pixels and blocks, and where they lie on chip."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from edgectl.codegen.vta.axis import Axis, Range
from edgectl.codegen.vta.pooling import PooledTile
from edgectl.codegen.vta.problem import Problem
from edgectl.codegen.vta.tiling import Tiling, in_rows


def ranges(extent: int, step: int) -> list[Range]:
    """[0, extent) in pieces of `step`, the last one what is left."""
    return [(begin, min(begin + step, extent)) for begin in range(0, extent, step)]


@dataclass(frozen=True)
class Tile:
    """Output pixels `rows` x `columns` of sample group `n`, blocks `outs` of each of the `groups`."""

    problem: Problem
    tiling: Tiling
    n: int
    rows: Range
    columns: Range
    groups: Range
    outs: Range

    @property
    def group_count(self) -> int:
        return self.groups[1] - self.groups[0]

    @property
    def out_count(self) -> int:
        return self.outs[1] - self.outs[0]

    @property
    def units(self) -> int:
        """Blocks of output channels."""
        return self.group_count * self.out_count

    @property
    def first_unit(self) -> int:
        """Number of its first block among the layer's; the others follow."""
        return self.groups[0] * self.problem.outs + self.outs[0]

    @property
    def height(self) -> int:
        return self.rows[1] - self.rows[0]

    @property
    def width(self) -> int:
        return self.columns[1] - self.columns[0]

    @cached_property
    def conv(self) -> tuple[Range, Range]:
        """Rows and columns of the convolution, before a pool."""
        return self.problem.conv_rows(self.rows), self.problem.conv_columns(self.columns)

    @property
    def conv_width(self) -> int:
        return self.conv[1][1] - self.conv[1][0]

    @property
    def unit_elements(self) -> int:
        """Accumulators of the convolution of one block."""
        return (self.conv[0][1] - self.conv[0][0]) * self.conv_width

    @cached_property
    def pooled(self) -> PooledTile | None:
        pools = self.problem.pools
        if pools is None:
            return None
        return PooledTile(pools, self.problem.out_size, (self.rows, self.columns), self.conv)

    @property
    def elements(self) -> int:
        """Accumulators of the tile, with what pooling needs."""
        if self.pooled:
            return self.pooled.elements(self.units)
        return self.units * self.unit_elements * (2 if self.problem.combined else 1)

    @cached_property
    def in_rows(self) -> int:
        """Rows of the input slot."""
        return in_rows(self.problem, self.tiling)

    @cached_property
    def row_origin(self) -> int:
        """The image's row, perhaps above it, at the first row of the input slot."""
        first = self.problem.rows.inputs(self.conv[0])[0]
        if self.tiling.rows < self.problem.out_size[0]:
            return first
        spacing = self.problem.row_spacing
        return first + max(0, -(first // spacing)) * spacing

    @cached_property
    def loaded_rows(self) -> Range:
        """Rows of the input slot that come from the image."""
        spacing, origin = self.problem.row_spacing, self.row_origin
        inside = self.problem.rows.inside(self.conv[0])
        begin = max(0, -(origin // spacing))
        return begin, max(begin, min(self.in_rows, -(-(inside[1] - origin) // spacing)))

    @cached_property
    def in_columns(self) -> Range:
        """Columns of the image in the input slot."""
        begin, end = self.problem.columns.inside(self.conv[1])
        return begin, max(begin, end)

    @property
    def in_width(self) -> int:
        return self.in_columns[1] - self.in_columns[0]

    @property
    def row_axis(self) -> Axis:
        return Axis(self.problem.rows, self.conv[0], self._positions(0), self.row_origin, self.problem.row_spacing)

    @property
    def column_axis(self) -> Axis:
        return Axis(self.problem.columns, self.conv[1], self._positions(1), self.in_columns[0])

    def _positions(self, axis: int) -> tuple[int, ...]:
        if self.pooled:
            return self.pooled.positions(axis)
        return tuple(range(self.conv[axis][1] - self.conv[axis][0]))


def tiles(problem: Problem, tiling: Tiling) -> Iterator[Tile]:
    """The tiles of a layer in order of execution."""
    pixels = [
        (n, rows, columns)
        for n in range(problem.outer)
        for rows in ranges(problem.out_size[0], tiling.rows)
        for columns in ranges(problem.out_size[1], tiling.columns)
    ]
    channels = [
        (groups, outs) for groups in ranges(problem.groups, tiling.groups) for outs in ranges(problem.outs, tiling.outs)
    ]
    if tiling.weights_outer:
        return (Tile(problem, tiling, *pixel, *channel) for channel in channels for pixel in pixels)
    return (Tile(problem, tiling, *pixel, *channel) for pixel in pixels for channel in channels)
