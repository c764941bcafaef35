"""Nests walk exactly the asked-for indices, without read-after-write hazards."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.vta.config import DEFAULT_CONFIG
from edge_agent.vta.isa import decode_micro_ops
from edgectl.codegen.vta.loops import HAZARD_DISTANCE, Base, Dimension, Nest, nests


def walk(nest: Nest) -> list[tuple[int, int, int]]:
    dst, src, wgt = decode_micro_ops(np.frombuffer(nest.micro_ops, np.uint32), DEFAULT_CONFIG)
    return [
        (
            int(d) + a * nest.outer.dst + b * nest.inner.dst,
            int(s) + a * nest.outer.src + b * nest.inner.src,
            int(w) + a * nest.outer.wgt + b * nest.inner.wgt,
        )
        for a in range(nest.outer.extent)
        for b in range(nest.inner.extent)
        for d, s, w in zip(dst, src, wgt, strict=True)
    ]


@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(1, 5), st.integers(1, 5), st.integers(1, 3))
@settings(max_examples=100, deadline=None)
def test_every_multiplication_happens_once_and_none_too_close(
    ky: int, kx: int, ins: int, rows: int, columns: int, outs: int
) -> None:
    width = columns + kx - 1
    dimensions = (
        Dimension(ky, 0, width, kx),
        Dimension(kx, 0, 1, 1),
        Dimension(ins, 0, (rows + ky - 1) * width, ky * kx),
        Dimension(rows, columns, width, 0),
        Dimension(columns, 1, 1, 0),
        Dimension(outs, rows * columns, 0, ins * ky * kx),
    )
    steps: Counter[tuple[int, int, int]] = Counter()
    for nest in nests(dimensions, Base(7, 5, 3), DEFAULT_CONFIG):
        order = walk(nest)
        steps.update(order)
        for first in range(len(order)):
            for second in range(first + 1, min(first + HAZARD_DISTANCE, len(order))):
                assert order[first][0] != order[second][0]
    expected = Counter(
        (
            7 + o * rows * columns + y * columns + x,
            5 + i * (rows + ky - 1) * width + (y + p) * width + x + q,
            3 + (o * ins + i) * ky * kx + p * kx + q,
        )
        for o in range(outs)
        for i in range(ins)
        for y in range(rows)
        for x in range(columns)
        for p in range(ky)
        for q in range(kx)
    )
    assert steps == expected
