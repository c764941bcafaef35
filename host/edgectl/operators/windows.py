"""Sliding windows over NCHW arrays, shared by convolution and pooling."""

from __future__ import annotations

import numpy as np

from edgectl.operators.base import Padding, window_output


def pad(x: np.ndarray, padding: Padding, value: float = 0) -> np.ndarray:
    """`x` (N, C, H, W) with `padding` pixels of `value` around."""
    top, left, bottom, right = padding
    if not any(padding):
        return x
    return np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=value)


def windows(
    x: np.ndarray, kernel: tuple[int, int], strides: tuple[int, int], dilation: tuple[int, int] = (1, 1)
) -> np.ndarray:
    """A view (N, C, OH, OW, KH, KW) of an already padded `x` (N, C, H, W)."""
    n, c, h, w = x.shape
    out_h = window_output(h, kernel[0], strides[0], 0, 0, dilation[0])
    out_w = window_output(w, kernel[1], strides[1], 0, 0, dilation[1])
    sn, sc, sh, sw = x.strides
    return np.lib.stride_tricks.as_strided(
        x,
        (n, c, out_h, out_w, kernel[0], kernel[1]),
        (sn, sc, sh * strides[0], sw * strides[1], sh * dilation[0], sw * dilation[1]),
        writeable=False,
    )


UNFOLDED_BYTES = 4 << 20
"""How much of a batch is unfolded at once: enough for BLAS to run at full speed, little enough to stay in a cache."""


def convolve(
    x: np.ndarray,
    weight: np.ndarray,
    strides: tuple[int, int],
    padding: Padding,
    dilation: tuple[int, int],
    groups: int,
) -> np.ndarray:
    """Grouped cross-correlation of float arrays by BLAS: x (N, C, H, W), weight (O, C/groups, KH, KW) of one dtype."""
    out_channels, group_channels, kernel_h, kernel_w = weight.shape
    view = windows(np.ascontiguousarray(pad(x, padding)), (kernel_h, kernel_w), strides, dilation)
    if group_channels == 1 and out_channels == groups:
        return _depthwise(view, weight)
    batch, _, out_h, out_w = view.shape[:4]
    per_group = out_channels // groups
    matrix = weight.reshape(groups, per_group, -1)
    out = np.empty((batch, out_channels, out_h, out_w), x.dtype)
    images = max(1, UNFOLDED_BYTES // (matrix.shape[2] * out_h * out_w * x.itemsize))
    for start in range(0, batch, images):
        several = slice(start, start + images)
        for group in range(groups):
            part = view[several, group * group_channels : (group + 1) * group_channels]
            columns = part.transpose(1, 4, 5, 0, 2, 3).reshape(matrix.shape[2], -1)
            product = (matrix[group] @ columns).reshape(per_group, -1, out_h, out_w)
            out[several, group * per_group : (group + 1) * per_group] = product.transpose(1, 0, 2, 3)
    return out


def _depthwise(view: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """One filter per channel: a sum over the kernel's taps, since a matrix product of one row is slow."""
    out = np.zeros(view.shape[:4], view.dtype)
    for row, column in np.ndindex(*weight.shape[2:]):
        out += view[..., row, column] * weight[:, 0, row, column].reshape(1, -1, 1, 1)
    return out
