"""Tiles played through load, compute and store: what overlaps, what waits, what is loaded once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from edgectl.codegen.vta.pipeline import (
    BURST_BYTES,
    BURST_CYCLES,
    BUS_BYTES_PER_CYCLE,
    CYCLES_PER_STEP,
    CYCLES_PER_TILE,
    ISSUE_CYCLES,
    SMALLEST_CHUNK,
    TAIL_CHUNKS,
    Played,
    TileStep,
    Transfer,
    Work,
    chunks,
    list_cycles,
    play,
    transfer,
)

NOTHING = Transfer()
WORK = Work(NOTHING, NOTHING, NOTHING, NOTHING, 0, 0, NOTHING, gemm=10_000, alu=100, outputs=SMALLEST_CHUNK)
"""Tiles that load and store nothing."""
COMPUTE = 10_000 + CYCLES_PER_STEP + 2 * 100 + CYCLES_PER_TILE
LARGE = Transfer(100.0, 5000.0)


def pixels_outside(pixels: int, channels: int) -> Iterator[TileStep]:
    return (TileStep(pixel, channel, 0) for pixel in range(pixels) for channel in range(channels))


def weights_outside(pixels: int, channels: int) -> Iterator[TileStep]:
    return (TileStep(pixel, channel, 0) for channel in range(channels) for pixel in range(pixels))


def played(
    work: Work,
    order: Iterator[TileStep] | None = None,
    tiles: int = 8,
    steps: int = 1,
    slots: tuple[int, int, int] = (2, 2, 2),
    serpentine: bool = False,
    limit: int = 10_000,
) -> Played:
    return play(work, order or pixels_outside(tiles, 1), tiles, steps, slots, serpentine, limit)


def test_a_transfer_is_issue_bursts_and_beats() -> None:
    rows = transfer(2, 3, BURST_BYTES + 1)
    assert rows.latency == 2 * ISSUE_CYCLES + 3 * 2 * BURST_CYCLES
    assert rows.beats == 3 * (BURST_BYTES + 1) / BUS_BYTES_PER_CYCLE
    assert rows.cycles == rows.latency + rows.beats


def test_parts_of_a_tile() -> None:
    assert [chunks(n * SMALLEST_CHUNK) for n in (0, 1, 2, TAIL_CHUNKS, 100)] == [1, 1, 2, TAIL_CHUNKS, TAIL_CHUNKS]


def test_tiles_that_move_nothing_take_what_they_compute() -> None:
    once, eight = played(WORK, tiles=1), played(WORK)
    assert once.cycles == COMPUTE and eight.cycles == 8 * COMPUTE
    assert eight.nbytes == 0


def test_loads_hide_behind_products_where_there_is_a_second_slot() -> None:
    """Of the steps of a tile, two slots: only the first load is waited for. One: every load."""
    work = replace(WORK, inp=LARGE, gemm=40_000)
    products, tail = 4 * (10_000 + CYCLES_PER_STEP), 2 * 100 + CYCLES_PER_TILE
    assert played(work, tiles=1, steps=4).cycles == LARGE.cycles + products + tail
    assert played(work, tiles=1, steps=4, slots=(1, 2, 2)).cycles == 4 * LARGE.cycles + products + tail
    assert played(work, tiles=1, steps=4).nbytes == 4 * LARGE.beats * BUS_BYTES_PER_CYCLE


def test_a_bus_that_is_busy_sets_the_pace() -> None:
    work = replace(WORK, inp=replace(LARGE, beats=3 * COMPUTE), store=Transfer(0.0, 500.0))
    assert played(work, tiles=20).cycles >= 20 * (3 * COMPUTE + 500)


def test_what_stays_on_chip_is_loaded_once() -> None:
    """The weights of a tile of channels for all its pixels, or the pixels for all channels."""
    work = replace(WORK, wgt=LARGE, inp=replace(LARGE, beats=1000.0))
    weights = played(work, weights_outside(4, 4), 16)
    pixels = played(work, pixels_outside(4, 4), 16)
    assert weights.nbytes == (4 * 5000 + 16 * 1000) * BUS_BYTES_PER_CYCLE
    assert pixels.nbytes == (16 * 5000 + 4 * 1000) * BUS_BYTES_PER_CYCLE
    everything = played(work, pixels_outside(4, 4), 16, slots=(2, 4, 2))
    assert everything.nbytes == (4 * 5000 + 4 * 1000) * BUS_BYTES_PER_CYCLE
    assert everything.combinations <= 4 * 2 * 2


def test_there_and_back_uses_the_last_weights_again() -> None:
    """Four steps of weights in two slots: forwards again nothing is left; backwards, two are."""
    work = replace(WORK, wgt=LARGE)
    forwards = played(work, tiles=4, steps=4)
    back = played(work, tiles=4, steps=4, serpentine=True)
    assert forwards.nbytes == 16 * LARGE.beats * BUS_BYTES_PER_CYCLE
    assert back.nbytes == (16 - 3 * 2) * LARGE.beats * BUS_BYTES_PER_CYCLE
    assert back.cycles < forwards.cycles


def test_a_tile_waits_until_its_accumulators_are_stored() -> None:
    work = replace(WORK, store=Transfer(0.0, 9000.0))
    one, two = (played(work, pixels_outside(1, 8), 8, slots=(2, 2, acc)) for acc in (1, 2))
    assert one.cycles == 8 * (COMPUTE + 9000)
    assert two.cycles == 8 * COMPUTE + 9000


def test_residuals_and_biases_are_loaded_too() -> None:
    piece = Transfer(50.0, 300.0)
    work = replace(WORK, residual=piece, residual_chunks=3, residual_elements=600, bias=Transfer(10.0, 64.0))
    made = played(work)
    # The bias of the one tile of channels stays; a residual is another for each tile.
    assert made.nbytes == (8 * 3 * 300 + 64) * BUS_BYTES_PER_CYCLE
    assert made.residual_combinations > 0
    assert made.cycles > 8 * COMPUTE


def test_long_layers_are_played_in_part() -> None:
    work = replace(WORK, inp=LARGE, store=Transfer(0.0, 700.0))
    whole, part = played(work, tiles=400), played(work, tiles=400, limit=50)
    assert part.cycles == pytest.approx(whole.cycles, rel=0.02)
    assert part.nbytes == pytest.approx(whole.nbytes, rel=0.01)


def test_lists_cost_the_root_of_operations_and_lists() -> None:
    assert list_cycles(0, 5) == 0
    assert list_cycles(4 * 900, 1) == pytest.approx(2 * list_cycles(900, 1))
    assert list_cycles(900, 4) == pytest.approx(2 * list_cycles(900, 1))
