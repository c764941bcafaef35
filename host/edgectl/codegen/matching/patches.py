"""A convolution on few channels as one on patches of pixels: space to depth, made while the CPU packs the image.

A patch of ph x pw pixels at every stride fills the lanes of a block; the kernel then has fewer taps. 7 x 7 of stride 2
on 3 channels becomes 4 x 4 on 12.
"""

from __future__ import annotations

from itertools import product

import numpy as np

from edgectl.codegen.matching.context import Context, refuse_unless
from edgectl.codegen.vta.layers import Activation
from edgectl.operators.base import window_output
from edgectl.operators.integer import IntegerConvolution
from edgectl.operators.patches import PackPatches

PACKED_BYTE_CYCLES = 0.5
"""What the CPU needs to pack a byte more, in cycles of the accelerator: a few nanoseconds."""


def over_patches(
    context: Context, value: str, operator: IntegerConvolution, weight: np.ndarray
) -> tuple[Activation, np.ndarray, tuple[int, int], PackPatches]:
    """(x, weight, kernel, packing): the convolution of patches that `operator` with `weight` is of image `value`."""
    n, channels, height, width = context.extents(value)
    out_channels, _, *kernel = weight.shape
    strides, dilation = operator.strides, operator.dilation
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    top, left, bottom, right = operator.padding
    out = (
        window_output(height, kernel[0], strides[0], top, bottom, dilation[0]),
        window_output(width, kernel[1], strides[1], left, right, dilation[1]),
    )
    patch = _choose(context, channels, out_channels, reach, strides, out)
    steps = [_first_taps(r, p, s) for r, p, s in zip(reach, patch, strides, strict=True)]
    taps = [len(firsts) for firsts in steps]
    lanes = channels * patch[0] * patch[1]
    matrix = np.zeros((out_channels, patch[0], patch[1], channels, *taps), np.int8)
    done: set[tuple[int, int]] = set()
    for (i, row), (j, column) in product(enumerate(steps[0]), enumerate(steps[1])):
        for py, px in np.ndindex(*patch):
            y, x = row + py, column + px
            inside = y < reach[0] and x < reach[1] and y % dilation[0] == 0 and x % dilation[1] == 0
            # Patches may overlap; a tap counts once.
            if inside and (y, x) not in done:
                done.add((y, x))
                matrix[:, py, px, :, i, j] = weight[:, :, y // dilation[0], x // dilation[1]]
    grid = (out[0] + taps[0] - 1, out[1] + taps[1] - 1)
    config = context.config
    packing = PackPatches(config.batch, config.block, patch, strides, (top, left), grid)
    seen = all(extent > outside for extent, outside in zip(packing.extents(), packing.padding, strict=True))
    refuse_unless(seen, "it sees nothing but padding")
    activation = Activation("", n // config.batch, lanes, *grid)
    return activation, matrix.reshape(out_channels, lanes, *taps), (taps[0], taps[1]), packing


def _first_taps(reach: int, patch: int, stride: int) -> list[int]:
    """Offsets, a stride apart, at which patches cover a kernel that reaches so far."""
    return [0] if patch >= reach else list(range(0, reach, stride))


def _choose(
    context: Context,
    channels: int,
    out_channels: int,
    reach: list[int],
    strides: tuple[int, int],
    out: tuple[int, int],
) -> tuple[int, int]:
    """The patch, at least a stride along each axis, with the fewest cycles of products and of packing."""
    block = context.config.block
    best, cheapest = strides, float("inf")
    sizes = [{stride, *range(stride, 2 * stride), max(r, stride)} for r, stride in zip(reach, strides, strict=True)]
    for rows, columns in product(sorted(sizes[0]), sorted(sizes[1])):
        blocks = -(-channels * rows * columns // block)
        firsts = [_first_taps(r, p, s) for r, p, s in zip(reach, (rows, columns), strides, strict=True)]
        outputs = out[0] * out[1]
        products = outputs * -(-out_channels // block) * blocks * len(firsts[0]) * len(firsts[1])
        cycles = products + outputs * blocks * block * PACKED_BYTE_CYCLES
        if cycles < cheapest:
            best, cheapest = (rows, columns), cycles
    return best
