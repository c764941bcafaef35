"""Normalisation of each value by its neighbours in other channels, as networks had it before batch normalisation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgectl.operators.base import Operator, TensorType, require


@dataclass(frozen=True)
class LocalResponseNorm(Operator):
    """x / (bias + alpha / size * s) ** beta, where s is the sum of squares over the `size` channels around, an odd
    number; beyond the first and the last channel are zeros. (N, C, H, W) -> the same."""

    kind = "local_response_norm"
    size: int
    alpha: float = 1e-4
    beta: float = 0.75
    bias: float = 1.0

    def infer(self, x: TensorType) -> TensorType:  # type: ignore[override]
        require(len(x.shape) == 4, f"local_response_norm needs an NCHW input, got {x}")
        require(self.size > 0 and self.size % 2 == 1, f"local_response_norm over {self.size} channels, no odd number")
        sound = self.alpha >= 0 and self.bias > 0
        require(sound, f"local_response_norm with alpha {self.alpha} and bias {self.bias} divides by zero")
        return x

    def evaluate(self, x: np.ndarray) -> np.ndarray:  # type: ignore[override]
        reach = self.size // 2
        squares = np.pad(np.square(x, dtype=np.float64), ((0, 0), (reach, reach), (0, 0), (0, 0)))
        sums = sum(squares[:, first : first + x.shape[1]] for first in range(self.size))
        return (x * (self.bias + self.alpha / self.size * sums) ** -self.beta).astype(x.dtype)
