"""Operators between floating point and integers, and the rounding shift that all integer operators share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgectl.operators.base import Operator, TensorType, require


def rounding_shift(x: np.ndarray, shift: int) -> np.ndarray:
    """x * 2**-shift for int32 `x`: to the right rounding half up, (x + 2**(shift-1)) >> shift; to the left exactly."""
    if shift > 0:
        return (x + np.int32(1 << (shift - 1))) >> np.int32(shift)
    return x << np.int32(-shift)


def requantize(x: np.ndarray, shift: int, low: int, high: int) -> np.ndarray:
    """int32 -> int8: rounding shift, then clip to [low, high]."""
    return np.clip(rounding_shift(x, shift), low, high).astype(np.int8)


@dataclass(frozen=True)
class Quantize(Operator):
    """float32 -> int8: clip(nearest-even((x - offset) * inverse), -127, 127).

    `inverses` (what x is multiplied by) and `offsets` hold one number per channel (axis 1), or one for all; numbers are
    rounded to float32. A difference, a product and a rounding, in this order, leave nothing for a fused
    multiply-add, so that every IEEE processor gets the same integers.
    """

    kind = "quantize"
    inverses: tuple[float, ...]
    offsets: tuple[float, ...] = ()

    def infer(self, x: TensorType) -> TensorType:  # type: ignore[override]
        require(x.dtype == "float32", f"quantize needs float32, got {x}")
        for numbers in (self.inverses, self.offsets):
            require(len(numbers) in (0, 1, x.shape[1]), f"quantize has {len(numbers)} numbers for the channels of {x}")
        return TensorType(x.shape, "int8")

    def evaluate(self, x: np.ndarray) -> np.ndarray:  # type: ignore[override]
        shape = (1, -1) + (1,) * (x.ndim - 2)
        if self.offsets:
            x = x - np.array(self.offsets, np.float32).reshape(shape)
        scaled = x * np.array(self.inverses, np.float32).reshape(shape)
        return np.clip(np.rint(scaled), -127, 127).astype(np.int8)


@dataclass(frozen=True)
class Dequantize(Operator):
    """int8 or int32 -> float32: float32(x) * scale."""

    kind = "dequantize"
    scale: float

    def infer(self, x: TensorType) -> TensorType:  # type: ignore[override]
        require(x.dtype in ("int8", "int32"), f"dequantize needs int8 or int32, got {x}")
        return TensorType(x.shape, "float32")

    def evaluate(self, x: np.ndarray) -> np.ndarray:  # type: ignore[override]
        return x.astype(np.float32) * np.float32(self.scale)


@dataclass(frozen=True)
class Requantize(Operator):
    """int8 or int32 -> int8 by a rounding shift and a clip."""

    kind = "requantize"
    shift: int
    low: int = -127
    high: int = 127

    def infer(self, x: TensorType) -> TensorType:  # type: ignore[override]
        require(x.dtype in ("int8", "int32"), f"requantize needs int8 or int32, got {x}")
        return TensorType(x.shape, "int8")

    def evaluate(self, x: np.ndarray) -> np.ndarray:  # type: ignore[override]
        return requantize(x.astype(np.int32), self.shift, self.low, self.high)
