"""What is worth several threads, and how work is divided among them: decided when a kernel is compiled."""

from __future__ import annotations

PARALLEL_WORK = 1 << 19
"""Multiply-adds from which several threads are faster than the time it takes to wake them."""
PARALLEL_ELEMENTS = 1 << 17
"""The same in elements, of kernels that compute little from each."""
_TASKS = 8
_TASK_BYTES = 1 << 17


def row_tasks(rows: int, image_bytes: int) -> int:
    """Rows of each task: some four to sixteen tasks whose share of the image fits the second-level cache."""
    wanted = max(4, min(2 * _TASKS, image_bytes // _TASK_BYTES))
    divisors = [count for count in range(1, rows + 1) if rows % count == 0]
    return min(divisors, key=lambda size: (abs(rows // size - wanted), -size))
