"""How a layer's tiling divides the on-chip memories."""

from __future__ import annotations

from dataclasses import dataclass

from edge_agent.vta.config import Config, Memory

BIAS_SLOTS = 2


@dataclass(frozen=True)
class Buffers:
    """First elements and sizes of the areas of INP, WGT and ACC.

    INP: slots for input tiles and residuals, the constant element that biases are multiplied with.
    WGT: slots for weight tiles, two slots for bias blocks, the block all taps share, the identity for residuals.
    ACC (and OUT): slots for output tiles.
    """

    inp_slot: int
    constant: int
    wgt_slot: int
    bias: int
    bias_slot: int
    shared: int
    identity: int
    acc_slot: int


def divide(config: Config, slots: tuple[int, int, int], bias_elements: int) -> Buffers:
    """Divide the memories into `slots` (INP, WGT, ACC) and what a tile needs beside them, in elements."""
    constant = config.depth(Memory.INP) - (1 if bias_elements else 0)
    identity = config.depth(Memory.WGT) - 1
    shared = identity - 1
    bias = shared - BIAS_SLOTS * bias_elements
    return Buffers(
        inp_slot=constant // slots[0],
        constant=constant,
        wgt_slot=bias // slots[1],
        bias=bias,
        bias_slot=bias_elements,
        shared=shared,
        identity=identity,
        acc_slot=_accumulators(config) // slots[2],
    )


def _accumulators(config: Config) -> int:
    """What is used of ACC: a list of micro-ops that counts all of it must leave room for others."""
    return min(config.depth(Memory.ACC), config.depth(Memory.UOP) // 2)
