"""Chooses scales that lose the least on what was observed."""

from __future__ import annotations

import math

import numpy as np

CANDIDATES = 3
"""Scales tried: the smallest without clipping and the next finer ones, which clip outliers for resolution."""
STEPS = 8
"""Scales tried in each octave where any may be chosen; between them the error hardly changes."""
SAMPLES = 1 << 18
"""Values compared, roughly, at most."""


def best_scale(values: np.ndarray, largest: float, unit: float = 1.0, limit: int = 127) -> float:
    """`unit` * 2**k: the scale with the least squared error of rounding `values` / scale and clipping to +-`limit`.

    `largest` is the largest magnitude ever seen; all-zero values get `unit`.
    """
    return _best(values, largest, (unit,), limit)


def best_free_scale(values: np.ndarray, largest: float, limit: int = 127) -> float:
    """The scale with the least squared error, as above, of eight in each octave; 1 for all-zero values."""
    return _best(values, largest, tuple(2.0 ** (step / STEPS) for step in range(STEPS)), limit)


def _best(values: np.ndarray, largest: float, units: tuple[float, ...], limit: int) -> float:
    if not largest > 0:
        return units[0]
    flat = values.ravel()
    # An odd stride does not lock on to image rows.
    flat = flat[:: max(1, flat.size // SAMPLES) | 1]
    candidates = []
    for unit in units:
        exponent = math.ceil(math.log2(largest / (unit * limit)))
        candidates += [unit * 2.0**k for k in range(exponent, exponent - CANDIDATES, -1)]

    def error(scale: float) -> float:
        return float(np.square(np.clip(np.rint(flat / scale), -limit, limit) * scale - flat, dtype=np.float64).mean())

    # The first of equals: the coarsest.
    return min(sorted(candidates, reverse=True), key=error)


def power_of_two_ratio(a: float, b: float) -> int | None:
    """k with a == b * 2**k exactly, None if there is none."""
    mantissa, exponent = math.frexp(a / b)
    return exponent - 1 if mantissa == 0.5 else None


def quantized(values: np.ndarray, scale: float) -> np.ndarray:
    """int8 of rint(values / scale), clipped to +-127."""
    return np.clip(np.rint(values.astype(np.float64) / scale), -127, 127).astype(np.int8)
