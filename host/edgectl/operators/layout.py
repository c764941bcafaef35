"""Between NCHW and the accelerator's packed layout, whose elements are (batch, block) tiles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgectl.operators.base import Operator, TensorType, require


def packed_shape(shape: tuple[int, ...], batch: int, block: int, what: str) -> tuple[int, ...]:
    """(N/batch, ceil(C/block), H, W, batch, block) of an NCHW shape, or of (N, K), which is (N, K, 1, 1).

    Raises ModelError, naming `what`, where the shape is neither or the tiles do not fit.
    """
    require(min(batch, block) > 0, f"{what} with tiles of {batch} samples x {block} channels")
    require(len(shape) in (2, 4), f"{what} needs NCHW or (N, K), got {list(shape)}")
    n, c, h, w = shape if len(shape) == 4 else (*shape, 1, 1)
    require(n % batch == 0, f"{what}: {n} samples do not divide by {batch}")
    return n // batch, -(-c // block), h, w, batch, block


def unpacked_shape(shape: tuple[int, ...], channels: int, flat: bool, what: str) -> tuple[int, ...]:
    """(N, channels, H, W) of a packed shape; with `flat`, (N, channels). Raises ModelError, naming `what`."""
    require(len(shape) == 6, f"{what} needs a packed tensor, got {list(shape)}")
    outer, blocks, h, w, batch, block = shape
    require(0 < channels <= blocks * block, f"{what}: {list(shape)} does not hold {channels} channels")
    require(not flat or h == w == 1, f"{what}: {h}x{w} pixels do not become (N, {channels})")
    return (outer * batch, channels) if flat else (outer * batch, channels, h, w)


def to_tiles(x: np.ndarray, batch: int, block: int) -> np.ndarray:
    """(N, C, H, W) or (N, K) -> (N/batch, ceil(C/block), H, W, batch, block); missing channels are zero."""
    n, c, h, w = x.shape if x.ndim == 4 else (*x.shape, 1, 1)
    missing = -c % block
    padded = np.pad(x.reshape(n, c, h, w), ((0, 0), (0, missing), (0, 0), (0, 0)))
    tiles = padded.reshape(n // batch, batch, (c + missing) // block, block, h, w)
    return np.ascontiguousarray(tiles.transpose(0, 2, 4, 5, 1, 3))


def from_tiles(x: np.ndarray, channels: int, flat: bool) -> np.ndarray:
    """(N/batch, blocks, H, W, batch, block) -> (N, channels, H, W); with `flat`, where H = W = 1, (N, channels)."""
    outer, blocks, h, w, batch, block = x.shape
    full = x.transpose(0, 4, 1, 5, 2, 3).reshape(outer * batch, blocks * block, h, w)
    return np.ascontiguousarray(full[:, :channels, 0, 0] if flat else full[:, :channels])


@dataclass(frozen=True)
class Pack(Operator):
    """int8 (N, C, H, W) -> (N/batch, ceil(C/block), H, W, batch, block); missing channels are zero.

    int8 (N, K) packs as (N, K, 1, 1).
    """

    kind = "pack_activation"
    batch: int = 1
    block: int = 16

    def infer(self, x: TensorType) -> TensorType:  # type: ignore[override]
        require(x.dtype == "int8", f"{self.kind} needs int8, got {x}")
        return TensorType(packed_shape(x.shape, self.batch, self.block, self.kind), "int8")

    def evaluate(self, x: np.ndarray) -> np.ndarray:  # type: ignore[override]
        return to_tiles(x, self.batch, self.block)


@dataclass(frozen=True)
class Unpack(Operator):
    """The inverse of Pack: int8 (N/batch, C/block, H, W, batch, block) -> (N, channels, H, W).

    With `flat` it gives (N, channels), which needs H = W = 1.
    """

    kind = "unpack_activation"
    channels: int
    flat: bool = False

    def infer(self, x: TensorType) -> TensorType:  # type: ignore[override]
        return TensorType(unpacked_shape(x.shape, self.channels, self.flat, self.kind), x.dtype)

    def evaluate(self, x: np.ndarray) -> np.ndarray:  # type: ignore[override]
        return from_tiles(x, self.channels, self.flat)
