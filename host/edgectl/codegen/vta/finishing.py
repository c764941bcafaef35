"""The beginning and the end of a tile in ACC: reset, then pool, shift, clip and store, part by part."""

from __future__ import annotations

from edgectl.codegen.vta.axis import Range
from edgectl.codegen.vta.collector import Collector, Span
from edgectl.codegen.vta.layers import Layer
from edgectl.codegen.vta.loops import Dimension, Region
from edgectl.codegen.vta.pipeline import chunks
from edgectl.codegen.vta.pooling import PooledTile
from edgectl.codegen.vta.problem import WIDE_PLANES, residual_plan, shifts
from edgectl.codegen.vta.tile import Tile, ranges
from edgectl.codegen.vta.transfers import pixel_transfers

Part = tuple[Range, Range]
"""Blocks of a tile, and rows of the output."""


class Finisher:
    """Resets and finishes the tiles of `layer`, which is stored to `tensor`."""

    def __init__(self, assembler: Collector, layer: Layer, tensor: int) -> None:
        self._assembler, self._layer, self._tensor = assembler, layer, tensor

    def _parts(self, tile: Tile) -> list[Part]:
        """Parts that are finished one after the other, so that storing one overlaps with the next."""
        count = chunks(tile.units * tile.unit_elements)
        if tile.units > 1 or tile.pooled:
            return [(units, tile.rows) for units in ranges(tile.units, -(-tile.units // count))]
        heights = ranges(tile.height, -(-tile.height // count))
        return [((0, 1), (tile.rows[0] + begin, tile.rows[0] + end)) for begin, end in heights]

    def reset(self, tile: Tile, acc: int) -> None:
        """Zero the accumulators of the convolution, in the order in which the tile before is stored."""
        if tile.pooled:
            self._assembler.reset_linear((acc, acc + tile.units * tile.unit_elements))
            return
        for part in self._parts(tile):
            self._assembler.reset_linear(self._span(tile, part, acc))
        if self._layer.combine != "add":
            count = tile.units * tile.unit_elements
            self._assembler.reset_linear((acc + count, acc + 2 * count))

    def _span(self, tile: Tile, part: Part, acc: int) -> Span:
        (first, last), rows = part
        begin = acc + first * tile.unit_elements + (rows[0] - tile.rows[0]) * tile.width
        return begin, begin + (last - first) * (rows[1] - rows[0]) * tile.width

    def combine(self, tile: Tile, acc: int) -> None:
        """Take the larger or smaller of each accumulator and the one of the residual behind the tile."""
        count = tile.units * tile.unit_elements
        region = Region(((acc, acc + count, 0),), (Dimension(count, 1, 1, 0),))
        self._assembler.alu(self._layer.combine, None, region)

    def shift(self, tile: Tile, acc: int, amount: int) -> None:
        """Shift all accumulators of the tile."""
        for part in shifts(amount):
            self._assembler.alu_linear("shr", part, (acc, acc + tile.units * tile.unit_elements))

    def finish(self, tile: Tile, acc: int) -> None:
        """Pool, shift, clip and store the tile."""
        if tile.pooled:
            for part in self._parts(tile):
                self._finish_pooled(tile, tile.pooled, part, acc)
        elif self._layer.wide:
            self._finish_wide(tile, acc)
        else:
            self._finish_dense(tile, acc)

    def _finish_dense(self, tile: Tile, acc: int) -> None:
        """All operations but the last on the whole tile, the last one part by part, each stored at once."""
        layer = self._layer
        done = residual_plan(layer).before if layer.residual is not None else 0
        operations = [("shr", amount) for amount in shifts(layer.shift - done)]
        operations += [("max", layer.low)] if layer.low is not None else []
        operations += [("min", layer.high)] if layer.high is not None else []
        for operation, imm in operations[:-1]:
            self._assembler.alu_linear(operation, imm, (acc, acc + tile.units * tile.unit_elements))
        for part in self._parts(tile):
            span = self._span(tile, part, acc)
            for operation, imm in operations[-1:]:
                self._assembler.alu_linear(operation, imm, span)
            self._store(tile, part, span[0], 0)

    def _finish_wide(self, tile: Tile, acc: int) -> None:
        """Store the bytes of the accumulators, lowest first, plane by plane."""
        out, problem = self._layer.out, tile.problem
        if not (problem.rows.all_meet(tile.rows) and problem.columns.all_meet(tile.columns)):
            # A sum of padding alone was only reset, which writes no OUT.
            self._assembler.alu_linear("add", 0, (acc, acc + tile.units * tile.unit_elements))
        plane = out.outer * out.storage_blocks(self._assembler.config.block) * out.height * out.width
        for number in range(WIDE_PLANES):
            if number:
                self._assembler.alu_linear("shr", 8, (acc, acc + tile.units * tile.unit_elements))
            self._store(tile, ((0, tile.units), tile.rows), acc, number * plane)

    def _store(self, tile: Tile, part: Part, sram: int, offset: int) -> None:
        units, rows = part
        for source, dram, count, columns, stride in pixel_transfers(
            self._layer.out, tile, units, rows, sram, self._assembler.config.block
        ):
            self._assembler.store(self._tensor, source, offset + dram, count, columns, stride)

    def _finish_pooled(self, tile: Tile, pooled: PooledTile, part: Part, acc: int) -> None:
        layer, units = self._layer, part[0]
        for operation in pooled.operations(acc, tile.units, units):
            if operation.function:
                self._assembler.alu(operation.function, None, operation.region)
            else:
                (first, _, _), length = operation.region.starts[0], operation.region.size
                self._assembler.reset_linear((first, first + length))
        area = pooled.result(acc, tile.units)
        count = units[1] - units[0]
        start = area.base + units[0] * area.block
        dimensions = (
            Dimension(count, area.block, area.block, 0),
            Dimension(tile.height, area.row, area.row, 0),
            Dimension(tile.width, 1, 1, 0),
        )
        region = Region(((start, start, 0),), dimensions)
        for shift in shifts(layer.shift):
            self._assembler.alu("shr", shift, region)
        if layer.low is not None:
            self._assembler.alu("max", layer.low, region)
        if layer.high is not None:
            self._assembler.alu("min", layer.high, region)
        for unit in range(*units):
            for row in range(tile.height):
                rows = (tile.rows[0] + row, tile.rows[0] + row + 1)
                self._store(tile, ((unit, unit + 1), rows), area.base + unit * area.block + row * area.row, 0)
