"""How frameworks say a pool's windows: padding of equal sides, and whether a last, partial window counts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from edgectl.operators.base import TensorType, window_output
from edgectl.operators.pooling import AveragePool, MaxPool


@dataclass(frozen=True)
class PoolWindows:
    """`padding` (vertical, horizontal) on both sides; `ceil`: "full" in MXNet, ceil_mode in PyTorch.

    `count_include_pad` concerns averages.
    """

    padding: tuple[int, int]
    ceil: bool = False
    count_include_pad: bool = True


def symmetric(pool: MaxPool | AveragePool, x: TensorType) -> PoolWindows | None:
    """`pool` on inputs of type `x` in the terms of frameworks; None where it needs a padding layer of its own.

    What cannot be told from the results is chosen as frameworks have it by default.
    """
    out = pool.infer(x).shape[2:]
    top, left = pool.padding[:2]
    if 2 * top > pool.kernel[0] or 2 * left > pool.kernel[1]:
        return None
    for windows in _candidates((top, left), isinstance(pool, AveragePool) and not pool.count_include_pad):
        sizes = _sizes(pool, x, windows)
        if sizes is None or sizes[0] != out:
            continue
        if isinstance(pool, MaxPool) or _same_divisors(pool, x, windows, sizes[1]):
            return windows
    return None


def _candidates(padding: tuple[int, int], exclude: bool) -> Iterator[PoolWindows]:
    for ceil in (False, True):
        for count in (not exclude, exclude):
            yield PoolWindows(padding, ceil, count)


def _sizes(
    pool: MaxPool | AveragePool, x: TensorType, windows: PoolWindows
) -> tuple[tuple[int, ...], tuple[int, int]] | None:
    """(output extents, pixels that a ceil convention adds); None where the frameworks' conventions differ."""
    out, added = [], []
    for size, kernel, stride, pad in zip(x.shape[2:], pool.kernel, pool.strides, windows.padding, strict=True):
        padded = size + 2 * pad
        if padded < kernel:
            return None
        count = window_output(size, kernel, stride, pad, pad)
        if windows.ceil:
            count = -(-(padded - kernel) // stride) + 1
            # PyTorch drops a window that begins in the padding, MXNet keeps it.
            if (count - 1) * stride >= size + pad:
                return None
        out.append(count)
        added.append(max((count - 1) * stride + kernel - padded, 0) if windows.ceil else 0)
    return tuple(out), (added[0], added[1])


def _same_divisors(pool: AveragePool, x: TensorType, windows: PoolWindows, added: tuple[int, int]) -> bool:
    top, left = windows.padding
    other = replace(
        pool, padding=(top, left, top, left), ceil_padding=added, count_include_pad=windows.count_include_pad
    )
    return np.array_equal(pool.divisors(*x.shape[2:]), other.divisors(*x.shape[2:]))
