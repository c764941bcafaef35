"""What the VTA compiler is given: integer layers with their constants, free of graph and framework."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgectl.operators.base import Padding, window_output


@dataclass(frozen=True)
class Activation:
    """An int8 tensor in the packed layout (N/batch, ceil(C/block), H, W, batch, block).

    `outer` is N/batch, `channels` the unpadded C.
    """

    name: str
    outer: int
    channels: int
    height: int
    width: int

    def blocks(self, block: int) -> int:
        return -(-self.channels // block)


@dataclass(frozen=True)
class ConvolutionLayer:
    """One IntegerConvolution with its tail: see that operator for the arithmetic. `name` is the user's layer name."""

    name: str
    x: Activation
    out: Activation
    residual: Activation | None
    weight: np.ndarray
    bias: np.ndarray
    strides: tuple[int, int]
    padding: Padding
    dilation: tuple[int, int]
    shift: int
    low: int
    high: int
    residual_shift: int

    def __post_init__(self) -> None:
        top, left, bottom, right = self.padding
        height = window_output(self.x.height, self.kernel[0], self.strides[0], top, bottom, self.dilation[0])
        width = window_output(self.x.width, self.kernel[1], self.strides[1], left, right, self.dilation[1])
        assert (height, width) == (self.out.height, self.out.width), "the output's extent follows from the input's"

    @property
    def kernel(self) -> tuple[int, int]:
        return self.weight.shape[2], self.weight.shape[3]

    @property
    def taps(self) -> int:
        return self.kernel[0] * self.kernel[1]


def pack_weight(weight: np.ndarray, block: int) -> np.ndarray:
    """int8 (O, I, KH, KW) -> (ceil(O/block), ceil(I/block), KH, KW, block, block), output channel outer."""
    out_channels, in_channels, kernel_h, kernel_w = weight.shape
    missing = ((0, -out_channels % block), (0, -in_channels % block), (0, 0), (0, 0))
    full = np.pad(weight, missing)
    tiles = full.reshape(full.shape[0] // block, block, full.shape[1] // block, block, kernel_h, kernel_w)
    return np.ascontiguousarray(tiles.transpose(0, 2, 4, 5, 1, 3))
