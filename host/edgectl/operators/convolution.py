"""Two-dimensional convolution in floating point."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgectl.operators.base import Operator, Padding, TensorType, require, window_type
from edgectl.operators.windows import convolve


def convolution_type(
    x: TensorType,
    weight: TensorType,
    strides: tuple[int, int],
    padding: Padding,
    dilation: tuple[int, int],
    groups: int,
    dtype: str,
) -> TensorType:
    """Output type of a convolution of `x` (NCHW) with `weight` (O, C/groups, KH, KW); raises ModelError."""
    require(len(weight.shape) == 4, f"convolution needs OIHW weights, got {weight}")
    require(len(x.shape) == 4, f"convolution needs an NCHW input, got {x}")
    require(
        x.shape[1] == weight.shape[1] * groups,
        f"convolution input has {x.shape[1]} channels, its weights need {weight.shape[1] * groups}",
    )
    require(weight.shape[0] % groups == 0, f"{weight.shape[0]} output channels do not divide into {groups} groups")
    kernel = (weight.shape[2], weight.shape[3])
    return window_type(x, weight.shape[0], kernel, strides, padding, dilation, dtype, "convolution")


@dataclass(frozen=True)
class Convolution(Operator):
    """inputs: x (N, C, H, W), weight (O, C/groups, KH, KW), optional bias (O). Cross-correlation, as everywhere."""

    kind = "convolution"
    strides: tuple[int, int] = (1, 1)
    padding: Padding = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    def infer(self, x: TensorType, weight: TensorType, *bias: TensorType) -> TensorType:  # type: ignore[override]
        require(x.dtype == weight.dtype, f"convolution needs one dtype, got {x} and {weight}")
        for array in bias:
            require(array.shape == weight.shape[:1], f"convolution's bias is {array}, its weights {weight}")
        return convolution_type(x, weight, self.strides, self.padding, self.dilation, self.groups, x.dtype)

    def evaluate(self, x: np.ndarray, weight: np.ndarray, *bias: np.ndarray) -> np.ndarray:  # type: ignore[override]
        out = convolve(x, weight, self.strides, self.padding, self.dilation, self.groups)
        if bias:
            out += bias[0].reshape(1, -1, 1, 1)
        return out
