"""Batch normalisation with fixed statistics, and the affine map it amounts to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgectl.operators.base import Operator, TensorType, require


@dataclass(frozen=True)
class BatchNorm(Operator):
    """inputs: x (N, C, ...), gamma, beta, mean, variance (C). gamma * (x - mean) / sqrt(variance + epsilon) + beta.

    `fix_gamma` (MXNet's default) means gamma is 1 whatever its array holds. `momentum` is the share of the old running
    statistics that a step of training keeps, MXNet's way of counting it; inference does not read it.
    """

    kind = "batch_norm"
    epsilon: float = 1e-5
    fix_gamma: bool = False
    momentum: float = 0.9

    def infer(self, x: TensorType, *statistics: TensorType) -> TensorType:  # type: ignore[override]
        require(len(statistics) == 4, f"batch_norm needs gamma, beta, mean and variance, got {len(statistics)} arrays")
        for array in statistics:
            require(array.shape == (x.shape[1],), f"batch_norm of {x.shape[1]} channels got an array {array.shape}")
        return x

    def affine(
        self, gamma: np.ndarray, beta: np.ndarray, mean: np.ndarray, variance: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Per-channel (scale, offset), float64, with which the operator equals scale * x + offset."""
        scale = 1.0 / np.sqrt(variance.astype(np.float64) + self.epsilon)
        if not self.fix_gamma:
            scale = scale * gamma
        return scale, beta - mean * scale

    def evaluate(self, x: np.ndarray, *statistics: np.ndarray) -> np.ndarray:  # type: ignore[override]
        scale, offset = self.affine(*statistics)
        shape = (1, -1) + (1,) * (x.ndim - 2)
        return x * scale.astype(x.dtype).reshape(shape) + offset.astype(x.dtype).reshape(shape)
