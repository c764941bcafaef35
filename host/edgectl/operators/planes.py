"""int32 tensors as four packed int8 ones: the accelerator stores bytes only, so an int32 result leaves it in planes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgectl.operators.base import Operator, TensorType, require
from edgectl.operators.layout import from_tiles, packed_shape, to_tiles, unpacked_shape

PLANES = 4
"""Bytes of an int32."""


@dataclass(frozen=True)
class SplitPlanes(Operator):
    """int32 (N, C, H, W) or (N, K) -> int8 (4, N/batch, ceil(C/block), H, W, batch, block).

    Plane p holds bits 8p..8p+7 of the values in two's complement; missing channels are zero. (N, K) is (N, K, 1, 1).
    """

    kind = "split_planes"
    batch: int = 1
    block: int = 16

    def infer(self, x: TensorType) -> TensorType:  # type: ignore[override]
        require(x.dtype == "int32", f"{self.kind} needs int32, got {x}")
        return TensorType((PLANES, *packed_shape(x.shape, self.batch, self.block, self.kind)), "int8")

    def evaluate(self, x: np.ndarray) -> np.ndarray:  # type: ignore[override]
        octets = to_tiles(x, self.batch, self.block).astype("<i4")[..., None].view(np.int8)
        return np.ascontiguousarray(np.moveaxis(octets, -1, 0))


@dataclass(frozen=True)
class JoinPlanes(Operator):
    """The inverse of SplitPlanes: int8 (4, N/batch, C/block, H, W, batch, block) -> int32 (N, channels, H, W).

    With `flat` it gives (N, channels), which needs H = W = 1.
    """

    kind = "join_planes"
    channels: int
    flat: bool = False

    def infer(self, x: TensorType) -> TensorType:  # type: ignore[override]
        require(
            len(x.shape) == 7 and x.shape[0] == PLANES and x.dtype == "int8",
            f"{self.kind} needs {PLANES} packed int8 planes, got {x}",
        )
        return TensorType(unpacked_shape(x.shape[1:], self.channels, self.flat, self.kind), "int32")

    def evaluate(self, x: np.ndarray) -> np.ndarray:  # type: ignore[override]
        octets = np.ascontiguousarray(np.moveaxis(x, 0, -1))
        return from_tiles(octets.view("<i4")[..., 0].astype(np.int32), self.channels, self.flat)
