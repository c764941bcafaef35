"""ALU executions that can be done at once: none of them uses what another one of the same phase computes."""

from __future__ import annotations

import numpy as np

from edge_agent.vta.walk import Walk


def phases(walk: Walk, immediate: bool) -> list[slice]:
    """Consecutive ranges of the walk's executions; inside each, reading all operands first changes nothing."""
    src = walk.dst if immediate else walk.src
    total = len(walk.dst)
    if len(walk.dst_set) == total:
        # Every element is updated once: only a source that is the destination of an earlier execution matters.
        updated_at = np.full(int(max(walk.dst.max(), src.max())) + 1, total, np.int64)
        updated_at[walk.dst] = np.arange(total)
        if (updated_at[src] >= np.arange(total)).all():
            return [slice(0, total)]
    begin, ranges = 0, []
    updated: set[int] = set()
    for execution, (dst, used) in enumerate(zip(walk.dst.tolist(), src.tolist(), strict=True)):
        if dst in updated or used in updated:
            ranges.append(slice(begin, execution))
            begin = execution
            updated.clear()
        updated.add(dst)
    return [*ranges, slice(begin, total)]
