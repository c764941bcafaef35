"""Fully connected layer in floating point."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgectl.operators.base import Operator, TensorType, require


@dataclass(frozen=True)
class Dense(Operator):
    """inputs: x (N, K), weight (O, K), optional bias (O) -> x @ weight.T + bias."""

    kind = "dense"

    def infer(self, x: TensorType, weight: TensorType, *bias: TensorType) -> TensorType:  # type: ignore[override]
        require(len(x.shape) == 2, f"dense needs a (N, K) input, got {x}")
        require(x.shape[1] == weight.shape[1], f"dense input has {x.shape[1]} features, weights need {weight.shape[1]}")
        require(x.dtype == weight.dtype, f"dense needs one dtype, got {x} and {weight}")
        for array in bias:
            require(array.shape == weight.shape[:1], f"dense's bias is {array}, its weights {weight}")
        return TensorType((x.shape[0], weight.shape[0]), x.dtype)

    def evaluate(self, x: np.ndarray, weight: np.ndarray, *bias: np.ndarray) -> np.ndarray:  # type: ignore[override]
        out = x @ weight.T
        return out + bias[0] if bias else out
