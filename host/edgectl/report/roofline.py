"""The roofline: what each layer reaches against the peak of GEMM and against what the bus can feed it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10

from edgectl.report.figures import Figures, Layer
from edgectl.report.markup import element, number, scaled, svg, text

WIDTH, HEIGHT = 580, 360
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 14, 44
OPERATIONS_PER_MAC = 2
DIGIT_WIDTH, DIGIT_HEIGHT = 6.5, 9
NOTE_GAP = 14
"""Between the roof and what is said of it: dots at the peak stay clear."""


@dataclass(frozen=True)
class Point:
    """A layer that multiplies: `place` in the table, operations per byte moved, operations per second reached."""

    place: int
    layer: Layer
    intensity: float
    rate: float


def points(figures: Figures) -> list[Point]:
    """Layers with GEMM operations; the operations are the multiplications and additions that are no padding."""
    made = []
    for place, layer in enumerate(figures.layers, 1):
        if layer.bound and layer.bound.macs and layer.cycles and layer.nbytes:
            operations = OPERATIONS_PER_MAC * layer.bound.macs
            rate = operations * figures.board.clock_hz / layer.cycles
            made.append(Point(place, layer, operations / layer.nbytes, rate))
    return made


def peak(figures: Figures) -> float:
    """Operations per second of GEMM, one micro-op each cycle."""
    config = figures.board.vta
    return OPERATIONS_PER_MAC * config.batch * config.block * config.block * figures.board.clock_hz


@dataclass(frozen=True)
class _Axis:
    """A logarithmic axis from `low` to `high`, drawn between two coordinates."""

    low: float
    high: float
    begin: float
    end: float

    def at(self, value: float) -> float:
        return self.begin + (self.end - self.begin) * log10(value / self.low) / log10(self.high / self.low)

    def ticks(self) -> Iterator[float]:
        for power in range(floor(log10(self.low)), ceil(log10(self.high)) + 1):
            for factor in (1, 2, 5):
                if self.low <= factor * 10.0**power <= self.high * 1.0001:
                    yield factor * 10.0**power


def roofline(figures: Figures) -> str:
    """The figure; empty without a layer that multiplies."""
    layers = points(figures)
    if not layers:
        return ""
    top, feed = peak(figures), figures.board.bus_bytes * figures.board.clock_hz
    ridge = top / feed
    intensities, rates = [point.intensity for point in layers], [point.rate for point in layers]
    x = _Axis(min(ridge, *intensities) / 1.6, max(ridge, *intensities) * 1.6, LEFT, WIDTH - RIGHT)
    y = _Axis(min(rates) / 1.7, top * 1.5, HEIGHT - BOTTOM, TOP)
    content = [*_grid(x, y)]
    knee = max(x.low, y.low / feed)
    corners = (x.at(knee), y.at(knee * feed)), (x.at(ridge), y.at(top)), (x.end, y.at(top))
    roof = "M" + "L".join(f"{number(at)} {number(height)}" for at, height in corners)
    content.append(element("path", d=roof, class_="roof"))
    notes = [_Note(f"GEMM peak {scaled(top, 'OP/s')}", x.end - 4, y.at(top) - NOTE_GAP)]
    notes.append(_bus_note(f"bus {scaled(feed, 'B/s')}", corners[0], corners[1]))
    for note in notes:
        content.append(element("text", text(note.words), x=number(note.end), y=number(note.base), class_="note end"))
    content += _dots(layers, x, y, [note.box for note in notes])
    content.append(
        element("text", "operations per byte moved", x=(LEFT + WIDTH - RIGHT) / 2, y=HEIGHT - 8, class_="axis")
    )
    return svg(WIDTH, HEIGHT, *content, label="roofline")


@dataclass(frozen=True)
class _Note:
    """Words that end at `end`, above `base`."""

    words: str
    end: float
    base: float

    @property
    def width(self) -> float:
        return DIGIT_WIDTH * len(self.words)

    @property
    def box(self) -> _Box:
        return _Box(self.end - self.width, self.base - DIGIT_HEIGHT, self.end, self.base)


def _bus_note(words: str, low: tuple[float, float], high: tuple[float, float]) -> _Note:
    """Left of the roof's slope, in its middle; above the roof where the slope is too near the edge."""
    middle = _Note(words, (low[0] + high[0]) / 2 - NOTE_GAP, (low[1] + high[1]) / 2)
    if middle.end - middle.width > LEFT:
        return middle
    return _Note(words, LEFT + NOTE_GAP / 2 + middle.width, high[1] - NOTE_GAP)


def _grid(x: _Axis, y: _Axis) -> Iterator[str]:
    for value in x.ticks():
        at = number(x.at(value))
        yield element("line", x1=at, x2=at, y1=TOP, y2=HEIGHT - BOTTOM, class_="grid")
        yield element("text", f"{value:g}", x=at, y=HEIGHT - BOTTOM + 16, class_="tick")
    for value in y.ticks():
        at = number(y.at(value))
        yield element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=at, y2=at, class_="grid")
        yield element("text", text(f"{value / 1e9:g}"), x=LEFT - 6, y=number(y.at(value) + 4), class_="tick end")
    yield element("text", "GOP/s", x=LEFT - 6, y=TOP - 2, class_="tick end")


def _dots(layers: list[Point], x: _Axis, y: _Axis, notes: Sequence[_Box]) -> Iterator[str]:
    """A dot for each layer, its area by the layer's cycles; its place in the table beside it where there is room."""
    longest = max(point.layer.cycles for point in layers)
    largest_first = sorted(layers, key=lambda point: -point.layer.cycles)
    circles = [
        (x.at(point.intensity), y.at(point.rate), 3 + 5 * (point.layer.cycles / longest) ** 0.5)
        for point in largest_first
    ]
    taken = [_Box(left - radius, top - radius, left + radius, top + radius) for left, top, radius in circles]
    taken += notes
    for point, (left, top, radius) in zip(largest_first, circles, strict=True):
        reached = f"{scaled(point.rate, 'OP/s')}, {point.intensity:.0f} operations per byte"
        title = f"{point.place} {point.layer.name}: {reached}"
        yield element(
            "circle",
            element("title", text(title)),
            cx=number(left),
            cy=number(top),
            r=number(radius),
            class_=f"dot {point.layer.limit.name.lower()}",
        )
        width = DIGIT_WIDTH * len(str(point.place))
        for begin, base in (
            (left + radius + 1, top + 4),
            (left - radius - 1 - width, top + 4),
            (left - width / 2, top - radius - 2),
            (left - width / 2, top + radius + DIGIT_HEIGHT),
        ):
            box = _Box(begin, base - DIGIT_HEIGHT, begin + width, base)
            if not any(box.meets(other) for other in taken):
                taken.append(box)
                yield element("text", str(point.place), x=number(begin), y=number(base), class_="label")
                break


@dataclass(frozen=True)
class _Box:
    """What a dot or a label covers."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: _Box) -> bool:
        return (
            self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom
        )
