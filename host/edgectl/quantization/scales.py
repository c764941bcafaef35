"""Chooses scales: powers of two (times an accumulator's mantissa) that lose the least on what was observed."""

from __future__ import annotations

import math

import numpy as np

CANDIDATES = 3
"""Scales tried: the smallest without clipping and the next finer ones, which clip outliers for resolution."""


def best_scale(values: np.ndarray, largest: float, unit: float = 1.0, limit: int = 127) -> float:
    """`unit` * 2**k: the scale with the least squared error of rounding `values` / scale and clipping to +-`limit`.

    `largest` is the largest magnitude ever seen; all-zero values get `unit`.
    """
    if not largest > 0:
        return unit
    exponent = math.ceil(math.log2(largest / (unit * limit)))
    best, best_error = unit * 2.0**exponent, math.inf
    for candidate in range(exponent, exponent - CANDIDATES, -1):
        scale = unit * 2.0**candidate
        rounded = np.clip(np.rint(values / scale), -limit, limit) * scale
        error = float(np.square(rounded - values, dtype=np.float64).mean())
        if error < best_error:
            best, best_error = scale, error
    return best


def power_of_two_ratio(a: float, b: float) -> int | None:
    """k with a == b * 2**k exactly, None if there is none."""
    mantissa, exponent = math.frexp(a / b)
    return exponent - 1 if mantissa == 0.5 else None


def quantized(values: np.ndarray, scale: float) -> np.ndarray:
    """int8 of rint(values / scale), clipped to +-127."""
    return np.clip(np.rint(values.astype(np.float64) / scale), -127, 127).astype(np.int8)
