"""Patches of an image as the channels of a smaller one, packed: space-to-depth for a network's first convolution."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgectl.operators.base import Operator, TensorType, require
from edgectl.operators.windows import windows


@dataclass(frozen=True)
class PackPatches(Operator):
    """int8 (N, C, H, W) -> (N/batch, ceil(C*ph*pw/block), rows, columns, batch, block), the packed layout.

    `patch` (ph, pw) pixels begin every `steps` (sy, sx) pixels, the first one `padding` (top, left) pixels outside the
    image; `grid` (rows, columns) counts them. Channel ((py*pw)+px)*C + c at (gy, gx) is
    x[n, c, gy*sy + py - top, gx*sx + px - left], zero outside the image. Missing channels are zero.
    """

    kind = "pack_patches"
    batch: int
    block: int
    patch: tuple[int, int]
    steps: tuple[int, int]
    padding: tuple[int, int]
    grid: tuple[int, int]

    def infer(self, x: TensorType) -> TensorType:  # type: ignore[override]
        require(len(x.shape) == 4 and x.dtype == "int8", f"{self.kind} needs int8 NCHW, got {x}")
        positive = (self.batch, self.block, *self.patch, *self.steps, *self.grid)
        require(min(positive) > 0 and min(self.padding) >= 0, f"{self} is no grid of patches")
        seen = all(extent > outside for extent, outside in zip(self.extents(), self.padding, strict=True))
        require(seen, f"{self} covers nothing but padding")
        n, c = x.shape[:2]
        require(n % self.batch == 0, f"{self.kind}: {n} samples do not divide by {self.batch}")
        return TensorType((n // self.batch, self.blocks(c), *self.grid, self.batch, self.block), "int8")

    def blocks(self, channels: int) -> int:
        """Tiles that hold a patch of an image of so many channels."""
        return -(-channels * self.patch[0] * self.patch[1] // self.block)

    def extents(self) -> tuple[int, int]:
        """Rows and columns of the image, padded, that the grid covers."""
        rows, columns = (
            (count - 1) * step + size for count, step, size in zip(self.grid, self.steps, self.patch, strict=True)
        )
        return rows, columns

    def evaluate(self, x: np.ndarray) -> np.ndarray:  # type: ignore[override]
        n, c = x.shape[:2]
        (rows, columns), (top, left) = self.extents(), self.padding
        covered = np.zeros((n, c, rows, columns), x.dtype)
        inside = x[:, :, : rows - top, : columns - left]
        covered[:, :, top : top + inside.shape[2], left : left + inside.shape[3]] = inside
        patches = windows(covered, self.patch, self.steps).transpose(0, 2, 3, 4, 5, 1).reshape(n, *self.grid, -1)
        lanes = np.zeros((n, *self.grid, self.blocks(c) * self.block), x.dtype)
        lanes[..., : patches.shape[-1]] = patches
        tiles = lanes.reshape(n // self.batch, self.batch, *self.grid, self.blocks(c), self.block)
        return np.ascontiguousarray(tiles.transpose(0, 4, 2, 3, 1, 5))
