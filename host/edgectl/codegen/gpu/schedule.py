"""A kernel's loops on a GPU's grid: one thread for each element of the result.

A thread computes all that stands behind its element itself: sums in registers, and whatever only moves values where it
is read. So a kernel is one launch without shared memory, barriers or buffers of its own.
"""

from __future__ import annotations

import tvm
from tvm import s_tir, tirx

from edgectl.codegen.cpu.lowering import OUTPUT
from edgectl.errors import CompileError

THREADS = 256
"""Of a block of the grid; every GPU takes 1024."""
MAXIMUM_BLOCKS = (1 << 31) - 1
"""Along a grid's x axis."""


def schedule_for_gpu(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """`function`, unscheduled, with its loops bound to the grid. Raises CompileError."""
    schedule = s_tir.Schedule(tvm.IRModule({"main": function}))
    try:
        output = schedule.get_sblock(OUTPUT)
        sums = []
        for block in schedule.get_child_blocks(schedule.get_sblock("root")):
            if _reduces(schedule, block):
                sums.append(block)
            elif schedule.get(block).name_hint != OUTPUT:
                schedule.compute_inline(block)
        blocks, thread = schedule.split(schedule.fuse(*schedule.get_loops(output)), [None, THREADS])
        schedule.bind(blocks, "blockIdx.x")
        schedule.bind(thread, "threadIdx.x")
        for block in reversed(sums):
            schedule.set_scope(block, 0, "local")
            schedule.compute_at(block, thread)
    except (RuntimeError, ValueError) as error:
        raise CompileError(f"TVM cannot schedule {function.attrs['global_symbol']} for a GPU: {error}") from error
    if (extent := int(schedule.get(blocks).extent)) > MAXIMUM_BLOCKS:
        raise CompileError(f"{function.attrs['global_symbol']} needs {extent} blocks, a grid has {MAXIMUM_BLOCKS}")
    return schedule.mod["main"]


def _reduces(schedule: s_tir.Schedule, block: s_tir.schedule.SBlockRV) -> bool:
    return any(axis.iter_type == tirx.IterVar.CommReduce for axis in schedule.get(block).iter_vars)
