"""Estimates a layer's cycles by playing its tiles through load, compute and store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import sqrt

from edgectl.codegen.vta.loops import MICRO_OP_CYCLES, REENTRY_CYCLES
from edgectl.codegen.vta.slots import Slots

BUS_BYTES_PER_CYCLE = 8
ISSUE_CYCLES = 32
"""Of any instruction, fetched and begun."""
BURST_CYCLES = 40
"""Latency of one DMA burst."""
BURST_BYTES = 2048
CYCLES_PER_TILE = 250
"""Issue of the instructions of a tile but its products, roughly."""
CYCLES_PER_STEP = 64
"""Issue of the products of one step, roughly."""
TAIL_CHUNKS = 4
"""Parts in which a tile is finished and stored, so that storing overlaps."""
SMALLEST_CHUNK = 192
"""Vectors below which a part is not worth its instructions."""
BYTE_WEIGHT = 0.8
"""Of a bus cycle, in compute cycles, that tilings pay for even where it is hidden: fewer bytes are better."""


def chunks(elements: int) -> int:
    """In how many parts a tile of `elements` vectors is finished."""
    return max(1, min(TAIL_CHUNKS, elements // SMALLEST_CHUNK))


@dataclass(frozen=True)
class Transfer:
    """Cycles of moving something: `latency` of the module alone, then `beats` on the bus."""

    latency: float = 0.0
    beats: float = 0.0

    @property
    def cycles(self) -> float:
        return self.latency + self.beats


def transfer(instructions: float, rows: float, row_bytes: float) -> Transfer:
    """Of `rows` of `row_bytes`, each in bursts of its own, by so many instructions."""
    bursts = rows * -(-row_bytes // BURST_BYTES)
    return Transfer(instructions * ISSUE_CYCLES + bursts * BURST_CYCLES, rows * row_bytes / BUS_BYTES_PER_CYCLE)


@dataclass(frozen=True)
class Work:
    """What an average tile asks of the modules.

    `inp` and `wgt` are what a step loads that finds nothing on chip, `residual` one of `residual_chunks` pieces,
    `store` the whole tile. `gemm` and `alu` are operations of a tile, `outputs` its vectors.
    """

    inp: Transfer
    wgt: Transfer
    bias: Transfer
    residual: Transfer
    residual_chunks: int
    residual_elements: int
    store: Transfer
    gemm: float
    alu: float
    outputs: float


@dataclass(frozen=True)
class TileStep:
    """A place in the order of execution: which pixels, output channels and input channels; keys of what is on chip."""

    pixel: int
    channel: int
    inputs: int


@dataclass(frozen=True)
class Played:
    """Estimated cycles of all tiles and bytes that they move, and how many combinations of slots products and residuals
    met in."""

    cycles: float
    nbytes: float
    combinations: int
    residual_combinations: int


def list_cycles(operations: float, lists: int) -> float:
    """What micro-op lists cost: n micro-ops cost 1/n passes for each operation and loading n of them for each list.

    At the n for which the sum is least.
    """
    return 2 * sqrt(REENTRY_CYCLES * MICRO_OP_CYCLES * operations * lists)


def play(
    work: Work,
    order: Iterator[TileStep],
    tiles: int,
    steps: int,
    slots: tuple[int, int, int],
    serpentine: bool,
    limit: int,
) -> Played:
    """Play at most about `limit` steps of all `tiles`. `slots` are those of INP, WGT and ACC; see Tiling."""
    inp_slots, wgt_slots = Slots(1, slots[0]), Slots(1, slots[1])
    parts = chunks(int(work.outputs))
    residual_share = work.residual_elements / max(1, work.residual_chunks)
    step_cycles = (work.gemm - work.residual_elements) / steps + CYCLES_PER_STEP
    tail_cycles = 2 * work.alu + CYCLES_PER_TILE

    bus = load = compute = store = moved = 0.0
    free: dict[tuple[str, int], float] = {}
    stored = [0.0] * slots[2]
    met: set[tuple[int, int, int]] = set()
    residuals_met: set[tuple[int, int, int]] = set()
    biases: tuple[int, ...] = ()

    def fetch(what: Transfer, after: float) -> float:
        """When `what` is on chip, loaded after its slot is free."""
        nonlocal load, bus, moved
        load = bus = max(max(load, after) + what.latency, bus) + what.beats
        moved += what.beats
        return load

    done = 0
    for number, tile in enumerate(order):
        if done and (number + 1) * steps > limit:
            break
        done += 1
        slot = number % slots[2]
        # The first parts of the next tile are reset while the last one of this is stored.
        compute = max(compute, stored[slot] - work.outputs * (parts - 1) / parts)
        if work.bias.beats and tile.channel not in biases:
            biases = (*biases[-1:], tile.channel)
            compute = max(compute, fetch(work.bias, 0.0))
        for chunk in range(work.residual_chunks):
            place, _ = inp_slots.take(("residual", number, chunk))
            residuals_met.add((slot, chunk, place))
            ready = fetch(work.residual, free.get(("inp", place), 0.0))
            compute = free["inp", place] = max(compute, ready) + residual_share + ISSUE_CYCLES
        for step in reversed(range(steps)) if serpentine and number % 2 else range(steps):
            ready, wgt = 0.0, 0
            if work.wgt.beats:
                wgt, present = wgt_slots.take((tile.channel, step))
                if not present:
                    ready = fetch(work.wgt, free.get(("wgt", wgt), 0.0))
            inp, present = inp_slots.take((tile.pixel, tile.inputs, step))
            if not present:
                ready = fetch(work.inp, free.get(("inp", inp), 0.0))
            met.add((slot, inp, wgt))
            compute = max(compute, ready) + step_cycles
            free["inp", inp] = free["wgt", wgt] = compute
        compute += tail_cycles
        for part in range(parts):
            begin = max(store, compute - tail_cycles * (parts - 1 - part) / parts) + work.store.latency / parts
            store = bus = max(begin, bus) + work.store.beats / parts
        stored[slot] = store
        moved += work.store.beats
    scale = tiles / done
    return Played(max(compute, store) * scale, moved * scale * BUS_BYTES_PER_CYCLE, len(met), len(residuals_met))
