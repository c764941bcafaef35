"""The self-test of a VTA program alone: seeded inputs, and the digests that its outputs must have.

A network with float operators inside is compared within a tolerance only, since processors round floats differently;
its programs compute integers and are compared to the bit by themselves.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

SEED = 20


def seeded_inputs(shapes: Mapping[str, tuple[int, ...]], seed: int = SEED) -> dict[str, np.ndarray]:
    """int8 arrays of these shapes, by name. RandomState's stream is frozen: every NumPy draws the same."""
    stream = np.random.RandomState(seed)
    return {name: stream.randint(-127, 128, shapes[name]).astype(np.int8) for name in sorted(shapes)}


def digest(array: np.ndarray) -> str:
    """SHA-256 of an array's bytes, row-major."""
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
