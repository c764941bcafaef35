"""The timeline: what load, compute and store do and wait for, over the whole run.

A run has too many instructions to draw: time is cut into equal bins, and each bin shows the share of its cycles that
each kind of work and of waiting takes. The page's size therefore does not grow with the network.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from edge_agent.vta.config import Config, Memory
from edge_agent.vta.isa import Opcode, layout, opcodes
from edge_agent.vta.schedule import Module
from edge_agent.vta.timing import Wait
from edgectl.report.figures import Figures, Run
from edgectl.report.markup import element, grouped, number, percent, svg, text

WIDTH, LEFT, TOP = 1180, 66, 26
LANE, GAP, STRIP = 56, 12, 20
PLOT_WIDTH = WIDTH - LEFT - 14
PLOT_HEIGHT = STRIP + 3 * (LANE + GAP)
MAXIMUM_BINS = 16384
"""Many for each pixel of the plot, so that it can be looked at closer."""
TICKS = 8
DIGIT_WIDTH = 7

WORK = {
    Module.LOAD: {"input": "load", "weights": "load-weights"},
    Module.COMPUTE: {"GEMM": "gemm", "ALU": "alu", "loads on compute": "load", "tokens": "tokens"},
    Module.STORE: {"output": "store"},
}
"""Kinds of work of each module, and the classes that colour them."""
WAITS = {
    Wait.LOAD: ("waiting for load", "wait-load"),
    Wait.COMPUTE: ("waiting for compute", "wait-compute"),
    Wait.STORE: ("waiting for store", "wait-store"),
    Wait.FETCH: ("waiting for fetch", "wait-fetch"),
}
LEGEND = {name: colour for kinds in WORK.values() for name, colour in kinds.items()} | dict(WAITS.values())


@dataclass(frozen=True)
class Share:
    """The share of each bin, float64 (bins,) from 0 to 1, that one kind of work or waiting takes."""

    name: str
    colour: str
    values: np.ndarray


def shares(figures: Figures, module: Module, bins: int) -> list[Share]:
    """What a module does with its time, in the order in which it is stacked."""
    edges = np.linspace(0, figures.cycles, bins + 1)
    width = figures.cycles / bins
    kinds = {**WORK[module], **dict(WAITS.values())}
    covered = {name: np.zeros(bins) for name in kinds}
    for run in figures.runs:
        for name, begins, ends in _intervals(run, module):
            covered[name] += _covered(begins, ends, edges)
    return [Share(name, colour, covered[name] / width) for name, colour in kinds.items()]


def _intervals(run: Run, module: Module) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Begins and ends of each kind of work and waiting of a module, in order, in cycles since the first program."""
    trace, words = run.trace, run.program.instructions
    mine = trace.module == module
    start, end = trace.start + run.offset, trace.end + run.offset
    for name, chosen in _kinds(words, Config.parse(run.program.config), module).items():
        yield name, start[mine & chosen], end[mine & chosen]
    for wait, (name, _) in WAITS.items():
        chosen = mine & (trace.reason == wait)
        yield name, (start - trace.idle)[chosen], start[chosen]


def _kinds(words: np.ndarray, config: Config, module: Module) -> dict[str, np.ndarray]:
    """Which instructions are of each kind of work of a module."""
    kinds = opcodes(words)
    if module == Module.STORE:
        return {"output": kinds == Opcode.STORE}
    fields = layout(Opcode.LOAD, config)
    memory, size = fields["memory"].extract(words), fields["x_size"].extract(words)
    if module == Module.LOAD:
        return {"input": memory == Memory.INP, "weights": memory == Memory.WGT}
    gemm, alu = kinds == Opcode.GEMM, kinds == Opcode.ALU
    loads = (kinds == Opcode.LOAD) & (size > 0)
    return {"GEMM": gemm, "ALU": alu, "loads on compute": loads, "tokens": ~(gemm | alu | loads)}


def _covered(begins: np.ndarray, ends: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Cycles of each bin between `edges` that disjoint ascending intervals cover."""
    if not len(begins):
        return np.zeros(len(edges) - 1)
    order = np.argsort(begins, kind="stable")
    points = np.stack([begins[order], ends[order]], 1)
    total = np.cumsum(points[:, 1] - points[:, 0])
    amounts = np.stack([np.concatenate([[0], total[:-1]]), total], 1)
    return np.diff(np.interp(edges, points.ravel(), amounts.ravel()))


def _area(heights: np.ndarray, bottom: int) -> str:
    """Path data of columns, one unit wide, that stand on `bottom`; equal neighbours are one."""
    changes = np.flatnonzero(np.diff(heights)) + 1
    limits = [0, *changes.tolist(), len(heights)]
    path, level = [f"M0 {bottom}"], 0
    for begin, end in pairwise(limits):
        height = int(heights[begin])
        if height != level:
            path.append(f"v{level - height}")
            level = height
        path.append(f"h{end - begin}")
    return "".join(path) + f"V{bottom}z"


def _lane(figures: Figures, module: Module, bins: int, bottom: int) -> list[str]:
    """Stacked areas, the highest first so that lower ones cover it."""
    stacked, areas = np.zeros(bins), []
    for share in shares(figures, module, bins):
        if not share.values.any():
            continue
        stacked = stacked + share.values
        heights = np.rint(np.minimum(stacked, 1) * LANE).astype(int)
        areas.append(element("path", d=_area(heights, bottom), class_=share.colour))
    return areas[::-1]


def timeline(figures: Figures) -> str:
    """The figure: a strip of layers above three lanes, over a scale of milliseconds."""
    bins = min(MAXIMUM_BINS, figures.cycles)
    per_bin = figures.cycles / bins
    shapes, labels = [], []
    for place, layer in enumerate(figures.layers, 1):
        begin, width = layer.begin / per_bin, layer.cycles / per_bin
        title = element("title", text(f"{place} {layer.name}: {grouped(layer.cycles)} cycles"))
        shapes.append(
            element(
                "rect",
                title,
                x=f"{begin:.2f}",
                y=0,
                width=f"{width:.2f}",
                height=STRIP,
                class_="even" if place % 2 else "odd",
            )
        )
        drawn = PLOT_WIDTH * layer.cycles / figures.cycles
        labels.append(
            element(
                "text",
                str(place),
                x=number(LEFT + PLOT_WIDTH * (layer.begin + layer.cycles / 2) / figures.cycles),
                y=TOP + 14,
                class_="place",
                data_begin=f"{begin:.2f}",
                data_width=f"{width:.2f}",
                visibility=None if drawn > DIGIT_WIDTH * len(str(place)) + 3 else "hidden",
            )
        )
    for module in Module:
        bottom = STRIP + (GAP + LANE) * (module + 1)
        shapes.append(element("rect", x=0, y=bottom - LANE, width=bins, height=LANE, class_="ground"))
        shapes += _lane(figures, module, bins, bottom)
        busy = sum(_busy(run, module) for run in figures.runs) / figures.cycles
        middle = TOP + bottom - LANE / 2
        labels.append(element("text", text(module.name.lower()), x=LEFT - 8, y=number(middle), class_="lane"))
        labels.append(element("text", percent(busy, 0), x=LEFT - 8, y=number(middle + 14), class_="lane dim"))
    plot = element(
        "svg",
        *shapes,
        x=LEFT,
        y=TOP,
        width=PLOT_WIDTH,
        height=PLOT_HEIGHT,
        class_="plot",
        viewBox=f"0 0 {bins} {PLOT_HEIGHT}",
        preserveAspectRatio="none",
        data_bins=bins,
        data_ms=f"{figures.seconds * 1e3:.6f}",
        data_cycles=figures.cycles,
    )
    drawing = svg(
        WIDTH,
        TOP + PLOT_HEIGHT + 8,
        plot,
        element("g", *_scale(figures), class_="scale"),
        *labels,
        label="timeline of load, compute and store",
    )
    return element("div", drawing, class_="timeline", data_left=LEFT, data_width=PLOT_WIDTH)


def _busy(run: Run, module: Module) -> int:
    timing = run.trace.timing
    return {
        Module.LOAD: timing.load_busy,
        Module.COMPUTE: timing.compute_busy,
        Module.STORE: timing.store_busy,
    }[module]


def round_step(extent: float, most: int) -> float:
    """The smallest 1, 2 or 5 times a power of ten that divides `extent` into `most` parts or fewer."""
    step = 10.0 ** np.floor(np.log10(extent / most))
    return next(step * factor for factor in (1, 2, 5, 10, 20) if extent / (step * factor) <= most)


def _scale(figures: Figures) -> Iterator[str]:
    milliseconds = figures.seconds * 1e3
    step = round_step(milliseconds, TICKS)
    for tick in range(int(milliseconds / step) + 1):
        x = number(LEFT + PLOT_WIDTH * tick * step / milliseconds)
        yield element("line", x1=x, x2=x, y1=TOP - 6, y2=TOP + PLOT_HEIGHT)
        yield element("text", f"{tick * step:.6g} ms", x=x, y=TOP - 11)
