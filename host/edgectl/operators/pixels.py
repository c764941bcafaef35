"""Decoded pixels to integers: normalisation and quantization as one look-up."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgectl.operators.base import Operator, TensorType, require

LEVELS = 256
"""Values of a pixel's channel."""


@dataclass(frozen=True)
class QuantizePixels(Operator):
    """uint8 (N, C, H, W), int8 table (C, 256) -> int8 (N, C, H, W): table[c, x[n, c, h, w]]."""

    kind = "quantize_pixels"

    def infer(self, x: TensorType, table: TensorType) -> TensorType:  # type: ignore[override]
        require(len(x.shape) == 4 and x.dtype == "uint8", f"{self.kind} needs uint8 NCHW, got {x}")
        expected = TensorType((x.shape[1], LEVELS), "int8")
        require(table == expected, f"{self.kind} of {x} needs a table {expected}, got {table}")
        return TensorType(x.shape, "int8")

    def evaluate(self, x: np.ndarray, table: np.ndarray) -> np.ndarray:  # type: ignore[override]
        return table[np.arange(x.shape[1])[:, np.newaxis, np.newaxis], x]
