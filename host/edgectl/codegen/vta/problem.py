"""The extents of a layer that decide how it is cut into tiles."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from edge_agent.vta.config import Config
from edgectl.codegen.vta.axis import Range, Window
from edgectl.codegen.vta.bias import block_count
from edgectl.codegen.vta.layers import Layer
from edgectl.codegen.vta.pooling import accumulators

WIDE_PLANES = 4


@dataclass(frozen=True)
class Problem:
    """Channels in blocks: `groups` of `ins` to `outs`. `pools` are the windows of a pool after the convolution.

    `tail` counts the ALU operations on each output vector. `combined`: the residual has accumulators of its own.
    """

    groups: int
    ins: int
    outs: int
    rows: Window
    columns: Window
    conv_size: tuple[int, int]
    out_size: tuple[int, int]
    pools: tuple[Window, Window] | None
    shared: bool
    residual: bool
    combined: bool
    bias_blocks: int
    outer: int
    tail: int
    wide: bool

    @property
    def taps(self) -> int:
        return self.rows.kernel * self.columns.kernel

    @cached_property
    def pairs(self) -> int:
        """Pairs of an output and a tap that meet a pixel of the image, in one block of the convolution."""
        rows, columns = (
            sum(end - begin for begin, end in (window.met(tap, (0, size)) for tap in range(window.kernel)))
            for window, size in zip((self.rows, self.columns), self.conv_size, strict=True)
        )
        return rows * columns

    @property
    def row_spacing(self) -> int:
        """Rows of the image from one row on chip to the next: a kernel of height 1 skips those between."""
        return self.rows.stride if self.rows.kernel == 1 else 1

    def conv_rows(self, rows: Range) -> Range:
        """Rows of the convolution that output rows need."""
        return self.pools[0].inside(rows) if self.pools else rows

    def conv_columns(self, columns: Range) -> Range:
        return self.pools[1].inside(columns) if self.pools else columns

    def in_rows(self, conv_rows: int) -> int:
        """Rows on chip for so many rows of the convolution, all inside the image."""
        window = self.rows
        reach = ((conv_rows - 1) * window.stride + (window.kernel - 1) * window.dilation) // self.row_spacing + 1
        return min(reach, -(-window.extent // self.row_spacing))

    def in_columns(self, conv_columns: int) -> int:
        window = self.columns
        return min((conv_columns - 1) * window.stride + (window.kernel - 1) * window.dilation + 1, window.extent)

    def unit_accumulators(self, rows: int, columns: int) -> int:
        """ACC elements of one block of outputs, `rows` x `columns` pixels of it."""
        if self.pools is None:
            return rows * columns * (2 if self.combined else 1)
        conv = [
            min((extent - 1) * pool.stride + pool.kernel, pool.extent)
            for extent, pool in zip((rows, columns), self.pools, strict=True)
        ]
        return accumulators(self.pools, (conv[0], conv[1]), (rows, columns), self.out_size)


def problem_of(layer: Layer, config: Config) -> Problem:
    """The extents of `layer` that decide its tiling."""
    pools = None
    conv = layer.conv_size
    if layer.pool is not None:
        kernel, strides, padding = layer.pool.kernel, layer.pool.strides, layer.pool.padding
        pools = (
            Window(conv[0], kernel[0], strides[0], before=padding[0]),
            Window(conv[1], kernel[1], strides[1], before=padding[1]),
        )
    ins = 1 if layer.shared else layer.weight.shape[1]
    return Problem(
        groups=layer.groups,
        ins=ins,
        outs=layer.out.blocks(config.block) // layer.groups,
        rows=Window(layer.x.height, layer.kernel[0], layer.strides[0], layer.dilation[0], layer.padding[0]),
        columns=Window(layer.x.width, layer.kernel[1], layer.strides[1], layer.dilation[1], layer.padding[1]),
        conv_size=conv,
        out_size=(layer.out.height, layer.out.width),
        pools=pools,
        shared=layer.shared,
        residual=layer.residual is not None,
        combined=layer.combine != "add",
        bias_blocks=block_count(layer.rounded_bias, config.block),
        outer=layer.out.outer,
        tail=tail_operations(layer),
        wide=layer.wide,
    )


MAXIMUM_SHIFT = 15
"""Of one SHR operation (vta-facts 3.5)."""
MAXIMUM_IDENTITY_SHIFT = 6
"""An identity block holds 1 << shift, which must be an int8."""


@dataclass(frozen=True)
class ResidualPlan:
    """How a residual enters: ACC >>= before; ACC += residual << factor; then the rest of the layer's shift.

    floor((a + r * 2^k) / 2^s) is floor((floor(a / 2^m) + r * 2^(k - m)) / 2^(s - m)) for m up to k and s: so the
    accumulators are shifted before the residual comes, not the residual to where they are. With `first`, the
    residual comes before all else and is shifted alone, by `alone` (to the left, or rounding to the right).
    """

    first: bool = False
    before: int = 0
    factor: int = 0
    alone: int = 0


def residual_plan(layer: Layer) -> ResidualPlan:
    """The way for `layer` with the fewest operations."""
    amount, shift = layer.residual_shift, layer.shift
    if layer.combine != "add":
        factor = min(max(amount, 0), MAXIMUM_IDENTITY_SHIFT)
        return ResidualPlan(first=True, factor=factor, alone=amount - factor)
    if amount < 0:
        return ResidualPlan(first=True, alone=amount)
    if amount <= MAXIMUM_IDENTITY_SHIFT:
        return ResidualPlan(factor=amount)
    before = min(amount, shift)
    if amount - before > MAXIMUM_IDENTITY_SHIFT:
        return ResidualPlan(first=True, factor=MAXIMUM_IDENTITY_SHIFT, alone=amount - MAXIMUM_IDENTITY_SHIFT)
    return ResidualPlan(before=before, factor=amount - before)


def shifts(amount: int) -> tuple[int, ...]:
    """The amounts of the SHR operations that make a shift by `amount`."""
    if amount > MAXIMUM_SHIFT:
        return (MAXIMUM_SHIFT, *shifts(amount - MAXIMUM_SHIFT))
    return (amount,) if amount else ()


def tail_operations(layer: Layer) -> int:
    """ALU operations on each output vector after the pool."""
    if layer.wide:
        return WIDE_PLANES - 1
    clips = (layer.low is not None) + (layer.high is not None)
    if layer.residual is None:
        return len(shifts(layer.shift)) + clips
    plan = residual_plan(layer)
    clips += layer.combine != "add"
    rest = len(shifts(plan.before)) + len(shifts(layer.shift - plan.before)) + clips
    return rest + (2 if plan.alone < 0 else 1 if plan.alone else 0)
