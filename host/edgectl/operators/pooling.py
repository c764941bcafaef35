"""Pooling in floating point. Ceil conventions are turned into explicit padding by the frontends."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgectl.operators.base import Operator, Padding, TensorType, require, window_type
from edgectl.operators.windows import pad, windows


@dataclass(frozen=True)
class MaxPool(Operator):
    """Maximum over windows; padding never wins (it is minus infinity). Works on float32 and int8."""

    kind = "max_pool"
    kernel: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    padding: Padding = (0, 0, 0, 0)

    def infer(self, x: TensorType) -> TensorType:  # type: ignore[override]
        return window_type(x, x.shape[1], self.kernel, self.strides, self.padding, (1, 1), x.dtype, "max_pool")

    def evaluate(self, x: np.ndarray) -> np.ndarray:  # type: ignore[override]
        lowest = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
        view = windows(pad(x, self.padding, lowest), self.kernel, self.strides)
        out = view[..., 0, 0].copy()
        for row, column in np.ndindex(*self.kernel):
            np.maximum(out, view[..., row, column], out=out)
        return out


@dataclass(frozen=True)
class AveragePool(Operator):
    """Mean over windows; divides by the kernel's area (`count_include_pad`) or by the pixels inside the image.

    `ceil_padding` (bottom, right) are padding pixels that a ceil convention added: never counted.
    """

    kind = "average_pool"
    kernel: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    padding: Padding = (0, 0, 0, 0)
    count_include_pad: bool = True
    ceil_padding: tuple[int, int] = (0, 0)

    def infer(self, x: TensorType) -> TensorType:  # type: ignore[override]
        return window_type(x, x.shape[1], self.kernel, self.strides, self.full_padding, (1, 1), x.dtype, "average_pool")

    @property
    def full_padding(self) -> Padding:
        top, left, bottom, right = self.padding
        return top, left, bottom + self.ceil_padding[0], right + self.ceil_padding[1]

    def divisors(self, height: int, width: int) -> np.ndarray:
        """How many pixels each window of an image of that size counts: float64 (OH, OW)."""
        counted = np.ones((1, 1, height, width))
        counted = pad(counted, self.padding, 1.0 if self.count_include_pad else 0.0)
        counted = pad(counted, (0, 0, *self.ceil_padding), 0.0)
        return windows(counted, self.kernel, self.strides).sum(axis=(4, 5))[0, 0]

    def evaluate(self, x: np.ndarray) -> np.ndarray:  # type: ignore[override]
        view = windows(pad(x, self.full_padding), self.kernel, self.strides)
        total = np.zeros(view.shape[:4], x.dtype)
        for row, column in np.ndindex(*self.kernel):
            total += view[..., row, column]
        return total / self.divisors(x.shape[2], x.shape[3]).astype(x.dtype)


@dataclass(frozen=True)
class GlobalPool(Operator):
    """Mean (`average`) or maximum (`max`) over all pixels: (N, C, H, W) -> (N, C, 1, 1)."""

    kind = "global_pool"
    mode: str = "average"

    def infer(self, x: TensorType) -> TensorType:  # type: ignore[override]
        require(len(x.shape) == 4, f"global_pool needs an NCHW input, got {x}")
        require(self.mode in ("average", "max"), f"global_pool mode is 'average' or 'max', not '{self.mode}'")
        return TensorType((*x.shape[:2], 1, 1), x.dtype)

    def evaluate(self, x: np.ndarray) -> np.ndarray:  # type: ignore[override]
        if self.mode == "max":
            return x.max(axis=(2, 3), keepdims=True)
        return x.mean(axis=(2, 3), keepdims=True, dtype=x.dtype)
