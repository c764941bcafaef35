"""Fully connected layers, vectorised over output features."""

from __future__ import annotations

from math import prod

import numpy as np
from tvm import s_tir, te

from edgectl.codegen.cpu.lowering import Arrays, Call, Lowering, Pattern, Reader, require_parameters
from edgectl.codegen.cpu.tasks import PARALLEL_WORK
from edgectl.operators.dense import Dense
from edgectl.operators.integer import IntegerDense

_VECTORS = 4
"""Independent accumulators, to hide the latency of an addition."""


def _tile(call: Call) -> int:
    """Output features of a tile; a narrow layer takes a narrow one."""
    lanes = call.target.lanes
    return min(_VECTORS * lanes, -(-call.output.shape[1] // lanes) * lanes)


def _pack_weights(call: Call, arrays: Arrays) -> Arrays:
    """(O, K) -> (ceil(O/tile), K, tile), missing features zero."""
    require_parameters(call, arrays, (1, 2))
    weight, tile = arrays[1], _tile(call)
    assert weight is not None
    features, length = weight.shape
    full = np.pad(weight, ((0, -features % tile), (0, 0)))
    return arrays[0], np.ascontiguousarray(full.reshape(-1, tile, length).transpose(0, 2, 1)), *arrays[2:]


def _dense(call: Call, x: te.Tensor, weight: te.Tensor, *bias: te.Tensor) -> Reader:
    """int8 operands go through int16, which processors multiply into int32."""
    tile, dtype = _tile(call), call.output.dtype
    operand = "int16" if x.dtype == "int8" else x.dtype
    k = te.reduce_axis((0, x.shape[1]), "k")
    sums = te.compute(
        (call.output.shape[0], int(weight.shape[0]) * tile),
        lambda n, o: te.sum(
            x[n, k].astype(operand).astype(dtype)
            * weight[te.indexdiv(o, tile), k, te.indexmod(o, tile)].astype(operand).astype(dtype),
            axis=k,
        ),
        name="sums",
    )
    return (lambda n, o: sums[n, o] + bias[0][o]) if bias else (lambda n, o: sums[n, o])


def _schedule(call: Call, schedule: s_tir.Schedule) -> None:
    sums = schedule.get_sblock("sums")
    _, o, k = schedule.get_loops(sums)
    outer, inner = schedule.split(o, [None, _tile(call)])
    copy = schedule.cache_write(sums, 0, "local")
    schedule.reverse_compute_at(copy, outer)
    schedule.vectorize(schedule.get_loops(copy)[-1])
    schedule.reorder(k, inner)
    schedule.vectorize(inner)
    if prod(call.output.shape) * call.inputs[1].shape[1] >= PARALLEL_WORK:
        schedule.parallel(outer)
    schedule.decompose_reduction(sums, k)


LOWERINGS = {
    Dense: Lowering(Pattern.REDUCTION, _dense, _pack_weights, _schedule),
    IntegerDense: Lowering(Pattern.REDUCTION, _dense, _pack_weights, _schedule),
}
