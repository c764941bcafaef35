"""Pixels looked up in a table: scalar loads, for NEON and SSE have no vector of look-ups in 256 entries."""

from __future__ import annotations

from tvm import s_tir

from edgectl.codegen.cpu.lowering import (
    OUTPUT,
    Arrays,
    Call,
    Expression,
    Lowering,
    Pattern,
    Reader,
    require_parameters,
    wide,
)
from edgectl.codegen.cpu.lowerings.patches import partitioned
from edgectl.operators.pixels import QuantizePixels

_UNROLLED = 16
"""Look-ups in a row, so that a load's latency is spent on the others."""


def _look_up(call: Call, x: Reader, table: Reader) -> Reader:
    def read(n: Expression, c: Expression, h: Expression, w: Expression) -> Expression:
        return table(c, wide(x(n, c, h, w)))

    return read


def _table(call: Call, arrays: Arrays) -> Arrays:
    require_parameters(call, arrays, (1,))
    return arrays


def _schedule(call: Call, schedule: s_tir.Schedule) -> None:
    columns, extent = schedule.get_loops(schedule.get_sblock(OUTPUT))[-1], call.output.shape[3]
    if extent >= _UNROLLED:
        whole, *_ = partitioned(schedule, columns, (extent // _UNROLLED * _UNROLLED, extent % _UNROLLED))
        _, inner = schedule.split(whole, [None, _UNROLLED])
        schedule.unroll(inner)


LOWERINGS = {QuantizePixels: Lowering(Pattern.INJECTIVE, _look_up, _table, _schedule)}
