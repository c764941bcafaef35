"""Between NCHW and the accelerator's packed layout, whose elements are (batch, block) tiles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgectl.operators.base import Operator, TensorType, require


@dataclass(frozen=True)
class Pack(Operator):
    """int8 (N, C, H, W) -> (N/batch, ceil(C/block), H, W, batch, block); missing channels are zero."""

    kind = "pack_activation"
    batch: int = 1
    block: int = 16

    def infer(self, x: TensorType) -> TensorType:  # type: ignore[override]
        require(len(x.shape) == 4 and x.dtype == "int8", f"pack_activation needs int8 NCHW, got {x}")
        n, c, h, w = x.shape
        require(n % self.batch == 0, f"pack_activation: {n} samples do not divide by {self.batch}")
        return TensorType((n // self.batch, -(-c // self.block), h, w, self.batch, self.block), "int8")

    def evaluate(self, x: np.ndarray) -> np.ndarray:  # type: ignore[override]
        n, c, h, w = x.shape
        missing = -c % self.block
        padded = np.pad(x, ((0, 0), (0, missing), (0, 0), (0, 0)))
        tiles = padded.reshape(n // self.batch, self.batch, (c + missing) // self.block, self.block, h, w)
        return np.ascontiguousarray(tiles.transpose(0, 2, 4, 5, 1, 3))


@dataclass(frozen=True)
class Unpack(Operator):
    """The inverse of Pack: int8 (N/batch, C/block, H, W, batch, block) -> (N, channels, H, W)."""

    kind = "unpack_activation"
    channels: int

    def infer(self, x: TensorType) -> TensorType:  # type: ignore[override]
        require(len(x.shape) == 6, f"unpack_activation needs a packed tensor, got {x}")
        outer, blocks, h, w, batch, block = x.shape
        require(self.channels <= blocks * block, f"unpack_activation: {x} holds fewer than {self.channels} channels")
        return TensorType((outer * batch, self.channels, h, w), x.dtype)

    def evaluate(self, x: np.ndarray) -> np.ndarray:  # type: ignore[override]
        outer, blocks, h, w, batch, block = x.shape
        full = x.transpose(0, 4, 1, 5, 2, 3).reshape(outer * batch, blocks * block, h, w)
        return np.ascontiguousarray(full[:, : self.channels])
