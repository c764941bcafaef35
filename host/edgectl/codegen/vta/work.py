"""What a tile asks of the modules, on average over a layer: the input of the pipeline's simulation."""

from __future__ import annotations

from math import prod

from edge_agent.vta.config import Config, Memory
from edgectl.codegen.vta.pipeline import Transfer, Work, transfer
from edgectl.codegen.vta.problem import Problem
from edgectl.codegen.vta.tiling import Tiling, conv_extent, count_tiles, part_count, residual_chunks

LARGEST_TRANSFER = 16384
"""Bytes of weights that one LOAD brings, about: others wait for the bus meanwhile."""


def tile_work(problem: Problem, tiling: Tiling, config: Config) -> Work:
    """What an average tile asks of the modules."""
    count = count_tiles(problem, tiling)
    tiles = count.pixels * count.channels
    rows, columns = conv_extent(problem, tiling)
    outputs = problem.outer * problem.groups * problem.outs * problem.out_size[0] * problem.out_size[1]
    halo, pooled = 1.0, 0.0
    if problem.pools:
        halo = tiles * tiling.units * rows * columns / (outputs / prod(problem.out_size) * prod(problem.conv_size))
        taken = [(pool.kernel - 1) for pool in problem.pools]
        pooled = outputs * (taken[0] + taken[1] * problem.conv_size[0] / problem.out_size[0])
    convolved = halo * outputs / prod(problem.out_size)
    gemm = convolved * (problem.ins * problem.pairs + prod(problem.conv_size) * (2 if problem.bias_blocks else 1))
    residual = tiling.units * tiling.rows * tiling.columns if problem.residual else 0
    chunks = residual_chunks(problem, tiling, config)
    gemm += outputs if problem.residual else 0
    out = config.element_bytes(Memory.OUT)
    wgt = config.element_bytes(Memory.WGT)
    full = tiling.columns >= problem.out_size[1]
    wide = 4 if problem.wide else 1
    stores = tiling.units * (1 if full and not problem.pools else tiling.rows)
    in_row = tiling.ins * problem.taps * wgt
    return Work(
        inp=_input_transfer(problem, tiling, rows, columns, config),
        wgt=Transfer()
        if problem.shared
        else transfer(max(1.0, tiling.units * in_row / LARGEST_TRANSFER), tiling.units, in_row),
        bias=transfer(1, 1, tiling.units * problem.bias_blocks * wgt) if problem.bias_blocks else Transfer(),
        residual=transfer(1, tiling.units * (1 if full else tiling.rows) / chunks, residual / tiling.units * out)
        if chunks and full
        else transfer(tiling.units / chunks, residual / tiling.columns / chunks, tiling.columns * out)
        if chunks
        else Transfer(),
        residual_chunks=chunks,
        residual_elements=residual,
        store=transfer(4.0 if full else stores, stores * wide, outputs / tiles / stores * out),
        gemm=gemm / tiles,
        alu=(outputs * problem.tail + pooled) / tiles,
        outputs=outputs / tiles,
    )


def _input_transfer(problem: Problem, tiling: Tiling, rows: int, columns: int, config: Config) -> Transfer:
    """Of one step's input, as `load_input` brings it."""
    window, blocks, inp = problem.rows, tiling.groups * tiling.ins, config.element_bytes(Memory.INP)
    height = part_count(min(window.extent, (rows - 1) * window.stride + window.kernel), problem.row_spacing)
    width = problem.in_columns(columns)
    if problem.row_spacing > 1 or width < problem.columns.extent:
        return transfer(blocks, blocks * height, width * inp)
    edges = min(1.0, 2 * problem.outer / part_count(problem.out_size[0], tiling.rows)) if window.kernel > 1 else 0.0
    return transfer(1 + edges * (blocks - 1), blocks, height * width * inp)
