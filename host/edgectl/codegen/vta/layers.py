"""What the VTA compiler is given: integer layers with their constants, free of graph and framework."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from edgectl.operators.base import Padding, window_output


@dataclass(frozen=True)
class Activation:
    """An int8 tensor in the packed layout (N/batch, ceil(C/block), H, W, batch, block), or channels of a larger one.

    `outer` is N/batch, `channels` the unpadded C. A part of a concatenation lies in the tensor `name` of
    `storage_channels` channels, from channel `first_channel` (a multiple of the block) on.
    """

    name: str
    outer: int
    channels: int
    height: int
    width: int
    first_channel: int = 0
    storage_channels: int = 0

    def blocks(self, block: int) -> int:
        return -(-self.channels // block)

    def storage_blocks(self, block: int) -> int:
        return -(-(self.storage_channels or self.channels) // block)

    def plane(self, outer: int, number: int, block: int) -> int:
        """Index of block `number` of sample group `outer` among the planes of the tensor it lies in."""
        return outer * self.storage_blocks(block) + self.first_channel // block + number


@dataclass(frozen=True)
class Pool:
    """A maximum over windows of what a layer accumulates; padding never wins."""

    kernel: tuple[int, int]
    strides: tuple[int, int]
    padding: Padding


@dataclass(frozen=True)
class Layer:
    """out = clip(round_shift(pool(conv(x, weight) + bias + (residual << residual_shift)), shift), low, high).

    `name` is the value it computes. `weight` is int8 (groups * outs, ins, KH, KW, block,
    block): block u of outputs is made of the `ins` input blocks of its group u // outs. With `shared` the one block of
    weights (1, 1, 1, 1, block, block) stands for all taps of all groups, which have one input and output block each.
    `bias` is int32 (O). `low` and `high` are None where nothing has to be clipped; `wide`: the accumulators leave as
    int32, in four planes of bytes (SplitPlanes), unshifted. With `combine` "max" or "min" the larger or smaller of the
    convolution, without a bias then, and the residual is taken instead of their sum.
    """

    name: str
    x: Activation
    out: Activation
    weight: np.ndarray
    bias: np.ndarray
    residual: Activation | None = None
    groups: int = 1
    shared: bool = False
    kernel: tuple[int, int] = (1, 1)
    strides: tuple[int, int] = (1, 1)
    padding: Padding = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    shift: int = 0
    low: int | None = None
    high: int | None = None
    residual_shift: int = 0
    combine: str = "add"
    pool: Pool | None = None
    wide: bool = False
    covers: tuple[str, ...] = field(default=())
    """Names of the model's nodes that the layer computes, `name` the last of them."""

    @property
    def conv_size(self) -> tuple[int, int]:
        """Rows and columns of the convolution, before the pool."""
        top, left, bottom, right = self.padding
        return (
            window_output(self.x.height, self.kernel[0], self.strides[0], top, bottom, self.dilation[0]),
            window_output(self.x.width, self.kernel[1], self.strides[1], left, right, self.dilation[1]),
        )

    @property
    def rounded_bias(self) -> np.ndarray:
        """The bias, int64 (O), with the half that makes the shift round."""
        return self.bias.astype(np.int64) + (1 << (self.shift - 1) if self.shift > 0 else 0)
