"""Moves pixels of packed activations between DRAM and the chip in as few transfers as their layout allows."""

from __future__ import annotations

from edge_agent.vta.config import Memory
from edgectl.codegen.vta.axis import Range
from edgectl.codegen.vta.collector import Collector
from edgectl.codegen.vta.layers import Activation
from edgectl.codegen.vta.tile import Tile
from edgectl.codegen.vta.work import LARGEST_TRANSFER

MAXIMUM_STRIDE = (1 << 16) - 1
"""Strides and sizes are 16-bit fields of LOAD and STORE."""


def in_one_row(rows: int, columns: int, stride: int) -> tuple[int, int, int]:
    """(rows, columns, stride) of the same elements in one row, where no gaps are between rows: each row is a burst."""
    if stride == columns and rows * columns <= MAXIMUM_STRIDE:
        return 1, rows * columns, rows * columns
    return rows, columns, stride


def load_blocks(assembler: Collector, tensor: int, sram: int, dram: int, rows: int, columns: int, stride: int) -> None:
    """`rows` of `columns` weight blocks, `stride` blocks apart in DRAM, in transfers that do not hold the bus long."""
    together = max(1, LARGEST_TRANSFER // (columns * assembler.config.element_bytes(Memory.WGT)))
    for row in range(0, rows, together):
        count = min(together, rows - row)
        assembler.load(Memory.WGT, tensor, sram + row * columns, dram + row * stride, count, columns, stride)


def load_input(assembler: Collector, tensor: int, x: Activation, tile: Tile, ins: Range, slot: int) -> None:
    """The tile's input blocks `ins` of each of its groups: rows that lie inside the image, columns without padding."""
    block, spacing, ins_per_group = assembler.config.block, tile.problem.row_spacing, tile.problem.ins
    first_row, last_row = tile.loaded_rows
    count, width = last_row - first_row, tile.in_width
    row = tile.row_origin + first_row * spacing
    image = x.height * x.width
    begin = tile.groups[0] * ins_per_group + ins[0]
    blocks = (tile.group_count - 1) * ins_per_group + ins[1] - ins[0]
    first = x.plane(tile.n, begin, block) * image + row * x.width + tile.in_columns[0]
    whole_rows = spacing == 1 and width == x.width
    if whole_rows and count == tile.in_rows and image <= MAXIMUM_STRIDE:
        assembler.load(Memory.INP, tensor, slot, first, blocks, count * width, image)
        return
    for number in range(blocks):
        target = slot + (number * tile.in_rows + first_row) * width
        source = first + number * image
        if whole_rows:
            assembler.load(Memory.INP, tensor, target, source, 1, count * width, count * width)
        else:
            assembler.load(Memory.INP, tensor, target, source, count, width, x.width * spacing)


def load_pixels(
    assembler: Collector, tensor: int, activation: Activation, tile: Tile, units: Range, rows: Range, slot: int
) -> None:
    """Pixels of a tensor that lies as the output does, dense: blocks `units` of the tile, `rows` of the image."""
    for sram, dram, count, columns, stride in pixel_transfers(
        activation, tile, units, rows, slot, assembler.config.block
    ):
        assembler.load(Memory.INP, tensor, sram, dram, count, columns, stride)


def pixel_transfers(
    activation: Activation, tile: Tile, units: Range, rows: Range, sram: int, block: int
) -> list[tuple[int, int, int, int, int]]:
    """(SRAM, DRAM, rows, columns, stride) of transfers between dense elements on chip and pixels of an activation."""
    image, count = activation.height * activation.width, units[1] - units[0]
    height, width = rows[1] - rows[0], tile.width
    plane = activation.plane(tile.n, tile.first_unit + units[0], block)
    first = plane * image + rows[0] * activation.width + tile.columns[0]
    if width == activation.width and image <= MAXIMUM_STRIDE:
        return [(sram, first, count, height * width, image)]
    return [
        (sram + number * height * width, first + number * image, height, width, activation.width)
        for number in range(count)
    ]
