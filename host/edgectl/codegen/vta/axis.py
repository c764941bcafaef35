"""One axis of a convolution: which outputs which kernel taps meet, padding left out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from edgectl.codegen.vta.loops import Dimension, Region

Range = tuple[int, int]


@dataclass(frozen=True)
class Window:
    """A convolution or pool along one axis: output o meets, at tap k, input o * stride + k * dilation - before."""

    extent: int
    kernel: int
    stride: int = 1
    dilation: int = 1
    before: int = 0

    def met(self, tap: int, outputs: Range) -> Range:
        """The range of `outputs` that meet a pixel of the image at `tap`; empty: (x, x)."""
        shift = self.before - tap * self.dilation
        begin = max(outputs[0], -(-shift // self.stride))
        end = min(outputs[1], (self.extent - 1 + shift) // self.stride + 1)
        return begin, max(begin, end)

    def all_meet(self, outputs: Range) -> bool:
        """Whether each of `outputs` meets a pixel of the image at some tap."""
        taps = range(self.kernel)
        return all(any(_met(self, tap, output) for tap in taps) for output in range(*outputs))

    def inputs(self, outputs: Range) -> Range:
        """The range of pixels that `outputs` reach, inside the image or not."""
        first = outputs[0] * self.stride - self.before
        return first, (outputs[1] - 1) * self.stride - self.before + (self.kernel - 1) * self.dilation + 1

    def inside(self, outputs: Range) -> Range:
        """The range of pixels of the image that `outputs` reach."""
        first, last = self.inputs(outputs)
        return max(first, 0), min(last, self.extent)


@dataclass(frozen=True)
class Axis:
    """`window` over `outputs`, in on-chip indices of the axis alone.

    Output o lies at ACC index `position[o - outputs[0]]`, pixel p of the image at INP index (p - origin) // spacing.
    """

    window: Window
    outputs: Range
    position: tuple[int, ...]
    origin: int
    spacing: int = 1

    def _source(self, output: int, tap: int) -> int:
        window = self.window
        return (output * window.stride + tap * window.dilation - window.before - self.origin) // self.spacing


@lru_cache(maxsize=4096)
def by_pairs(axis: Axis) -> tuple[Region, ...]:
    """One region of all pairs of output and tap that meet a pixel, tap by tap; wgt counts taps."""
    pairs = [
        (axis.position[output - axis.outputs[0]], axis._source(output, tap), tap)
        for tap in range(axis.window.kernel)
        for output in range(*axis.window.met(tap, axis.outputs))
    ]
    return (Region(tuple(pairs), ()),) if pairs else ()


@lru_cache(maxsize=4096)
def by_tap(axis: Axis) -> tuple[Region, ...]:
    """Regions of loops: the outputs of a tap; taps that meet the same outputs together."""
    ranges = [axis.window.met(tap, axis.outputs) for tap in range(axis.window.kernel)]
    regions: list[Region] = []
    first = 0
    while first < len(ranges):
        last = first
        while last < len(ranges) and ranges[last] == ranges[first]:
            last += 1
        regions += _loops(axis, ranges[first], (first, last))
        first = last
    return tuple(regions)


@lru_cache(maxsize=4096)
def by_output(axis: Axis) -> tuple[Region, ...]:
    """Regions of loops: neighbouring outputs that meet the same taps."""

    def taps(output: int) -> Range:
        met = [tap for tap in range(axis.window.kernel) if _met(axis.window, tap, output)]
        return (met[0], met[-1] + 1) if met else (0, 0)

    regions: list[Region] = []
    first = axis.outputs[0]
    while first < axis.outputs[1]:
        last = first
        while last < axis.outputs[1] and taps(last) == taps(first):
            last += 1
        regions += _loops(axis, (first, last), taps(first))
        first = last
    return tuple(regions)


def _met(window: Window, tap: int, output: int) -> bool:
    begin, end = window.met(tap, (output, output + 1))
    return begin < end


def _loops(axis: Axis, outputs: Range, taps: Range) -> list[Region]:
    """Loops over `taps` and `outputs`, one region for each run of outputs at equal steps."""
    if outputs[0] >= outputs[1] or taps[0] >= taps[1]:
        return []
    begin = axis.outputs[0]
    placed = sorted((axis.position[o - begin], o) for o in range(*outputs))
    source_step = axis._source(0, 1) - axis._source(0, 0) if taps[1] - taps[0] > 1 else 0
    tap_loop = Dimension(taps[1] - taps[0], 0, source_step, 1)
    regions = []
    first = 0
    while first < len(placed):
        last = first + 1
        step = (1, 0)
        if last < len(placed):
            step = (placed[last][0] - placed[first][0], placed[last][1] - placed[first][1])
        # The hardware's loops go upwards only.
        while last < len(placed) and step[1] > 0 and _step(placed[last - 1], placed[last]) == step:
            last += 1
        moved = axis._source(step[1], 0) - axis._source(0, 0) if step[1] else 0
        start = (placed[first][0], axis._source(placed[first][1], taps[0]), taps[0])
        regions.append(Region((start,), (tap_loop, Dimension(last - first, step[0], moved, 0))))
        first = last
    return regions


def _step(before: Range, after: Range) -> Range:
    return after[0] - before[0], after[1] - before[1]


def product(rows: Region, columns: Region, row_scale: tuple[int, int, int]) -> Region:
    """Every step of `rows`, its indices scaled, with every step of `columns`."""
    dst, src, wgt = row_scale
    starts = tuple(
        (r[0] * dst + c[0], r[1] * src + c[1], r[2] * wgt + c[2]) for r in rows.starts for c in columns.starts
    )
    scaled = tuple(Dimension(d.extent, d.dst * dst, d.src * src, d.wgt * wgt) for d in rows.dimensions)
    return Region(starts, scaled + columns.dimensions)
