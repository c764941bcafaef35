"""Estimates a layer's cycles by playing its tiles through load, compute and store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import sqrt

from edge_agent.vta.config import Config, Memory
from edgectl.codegen.vta.loops import MICRO_OP_CYCLES, REENTRY_CYCLES
from edgectl.codegen.vta.slots import Slots

BUS_BYTES_PER_CYCLE = 8
CYCLES_PER_TRANSFER = 70
"""Issue and latency of one DMA transfer: about 30 + 40 cycles."""
CYCLES_PER_TILE = 250
"""Issue of the instructions of a tile but its products, roughly."""
CYCLES_PER_STEP = 64
"""Issue of the products of one step, roughly."""
TAIL_CHUNKS = 4
"""Parts in which a tile is finished and stored, so that storing overlaps."""
SMALLEST_CHUNK = 192
"""Vectors below which a part is not worth its instructions."""
BYTE_WEIGHT = 0.1
"""Of a bus cycle, in compute cycles, that tilings pay for even where it is hidden: fewer bytes are better."""


def chunks(elements: int) -> int:
    """In how many parts a tile of `elements` vectors is finished."""
    return max(1, min(TAIL_CHUNKS, elements // SMALLEST_CHUNK))


@dataclass(frozen=True)
class Work:
    """What one tile asks of the modules: elements of each memory per step or tile, operations per tile."""

    inp_elements: int
    inp_loads: int
    wgt_elements: int
    residual_elements: int
    bias_elements: int
    gemm: float
    alu: float
    out_elements: float
    total_gemm: int

    def load_cycles(self, inputs: int, weights: int, tiles: int, config: Config) -> float:
        """Of loading input tiles, weight tiles and what each tile needs beside."""
        inp = config.element_bytes(Memory.INP) / BUS_BYTES_PER_CYCLE
        wgt = config.element_bytes(Memory.WGT) / BUS_BYTES_PER_CYCLE
        return (
            inputs * (self.inp_elements * inp + self.inp_loads * CYCLES_PER_TRANSFER)
            + weights * (self.wgt_elements * wgt + CYCLES_PER_TRANSFER)
            + tiles * self.residual_elements * inp
        )

    def store_cycles(self, tiles: int, config: Config) -> float:
        return tiles * (self.out_elements * config.element_bytes(Memory.OUT) / BUS_BYTES_PER_CYCLE)


def pipeline_cycles(
    work: Work,
    order: Iterator[tuple[int, int, int]],
    tiles: int,
    steps: int,
    slots: tuple[Slots, Slots],
    acc_slots: int,
    residual_chunks: int,
    config: Config,
    limit: int,
) -> tuple[float, int]:
    """(cycles of all tiles, how many combinations of slots met), of at most about `limit` steps simulated."""
    inp_slots, wgt_slots = slots
    inp_cycles = work.inp_elements * config.element_bytes(Memory.INP) / BUS_BYTES_PER_CYCLE
    wgt_cycles = work.wgt_elements * config.element_bytes(Memory.WGT) / BUS_BYTES_PER_CYCLE
    chunk_elements = work.residual_elements // max(1, residual_chunks)
    residual_cycles = chunk_elements * config.element_bytes(Memory.INP) / BUS_BYTES_PER_CYCLE
    bias_cycles = work.bias_elements * config.element_bytes(Memory.WGT) / BUS_BYTES_PER_CYCLE
    store_cycles = work.out_elements * config.element_bytes(Memory.OUT) / BUS_BYTES_PER_CYCLE
    parts = chunks(int(work.gemm and work.out_elements))
    step_cycles = (work.gemm - chunk_elements * residual_chunks) / steps + CYCLES_PER_STEP
    tail_cycles = 2 * work.alu + CYCLES_PER_TILE

    bus = load = compute = 0.0
    store = 0.0
    moved = 0.0
    free: dict[tuple[str, int], float] = {}
    stored = [0.0] * acc_slots
    met: set[tuple[int, int, int]] = set()
    bias_loaded: list[int] = []
    done = 0
    for number, (pixel, channel, inputs) in enumerate(order):
        if done and (number + 1) * steps > limit:
            break
        done += 1
        slot = number % acc_slots
        # The first parts of the next tile are reset while the last one of this is stored.
        compute = max(compute, stored[slot] - work.out_elements * (parts - 1) / parts)
        needed: list[tuple[str, int, float, int, float]] = []
        for chunk in range(residual_chunks):
            place, _ = inp_slots.take(("residual", number, chunk))
            needed.append(("inp", place, residual_cycles, 1, float(chunk_elements)))
        if work.bias_elements and channel not in bias_loaded:
            bias_loaded = [*bias_loaded[-1:], channel]
            load = bus = max(load, bus) + bias_cycles + CYCLES_PER_TRANSFER
            moved += bias_cycles
        for place_kind, place, cycles, loads, operations in needed:
            begin = max(load, free.get((place_kind, place), 0.0)) + loads * CYCLES_PER_TRANSFER
            load = bus = max(begin, bus) + cycles
            moved += cycles
            compute = max(compute, load) + operations
            free[place_kind, place] = compute
        for step in range(steps):
            ready = 0.0
            if work.wgt_elements:
                wgt, present = wgt_slots.take((channel, step))
                if not present:
                    begin = max(load, free.get(("wgt", wgt), 0.0)) + CYCLES_PER_TRANSFER
                    load = bus = max(begin, bus) + wgt_cycles
                    moved += wgt_cycles
                    ready = load
            else:
                wgt = 0
            inp, present = inp_slots.take((pixel, inputs, step))
            if not present:
                begin = max(load, free.get(("inp", inp), 0.0)) + work.inp_loads * CYCLES_PER_TRANSFER
                load = bus = max(begin, bus) + inp_cycles
                moved += inp_cycles
                ready = load
            met.add((slot, inp, wgt))
            compute = max(compute, ready) + step_cycles
            free["inp", inp] = free["wgt", wgt] = compute
        compute += tail_cycles
        begin = max(store, compute - tail_cycles * (parts - 1) / parts) + CYCLES_PER_TRANSFER
        bus = max(bus, begin) + store_cycles / parts
        store = max(begin + store_cycles, compute + CYCLES_PER_TRANSFER + store_cycles / parts)
        stored[slot] = store
        moved += store_cycles
    scale = tiles / done
    cycles = max(compute, store) * scale + BYTE_WEIGHT * moved * scale
    # Lists of n micro-ops cost passes / n and loading n of them for each combination of slots: n at the optimum.
    lists = 2 * sqrt(REENTRY_CYCLES * MICRO_OP_CYCLES * work.total_gemm * len(met))
    return cycles + lists, len(met)
