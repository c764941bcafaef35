"""The report's tables: one row for each layer, and what the prediction's parameters are worth."""

from __future__ import annotations

from dataclasses import dataclass

from edgectl.decisions import in_words
from edgectl.report.figures import Figures, Layer, moved_bytes
from edgectl.report.markup import element, grouped, number, percent, ratio, row, scaled, text

BAR_WIDTH = 118
BAR_HEIGHT = 12
STREAMS = ("inp_load_nbytes", "wgt_load_nbytes", "acc_load_nbytes", "uop_load_nbytes", "out_store_nbytes")
USES = {
    "GEMM": "gemm",
    "GEMM overhead": "gemm-overhead",
    "ALU": "alu",
    "ALU overhead": "alu-overhead",
    "loads on compute": "load",
    "tokens": "tokens",
    "waiting for load": "wait-load",
    "waiting for store": "wait-store",
    "waiting for fetch": "wait-fetch",
}
"""What compute does, and the class that colours it."""
MEANING = {
    "loop_entry": "cycles for each pass through a list of micro-ops",
    "instruction": "cycles to issue an instruction",
    "burst_latency": "cycles of latency of a DMA burst",
    "burst_beats": "beats of a DMA burst, at most",
    "fetch": "cycles to fetch an instruction",
}


@dataclass(frozen=True)
class Cell:
    """What a cell shows (markup), the value it is sorted by, and an explanation."""

    shown: str
    value: float | str
    title: str | None = None


HEADINGS = (
    ("#", "order of execution"),
    ("layer", "name in the model; select one to see what it computes and how it is cut into tiles"),
    ("tile", "rows x columns x blocks of output channels that are computed at a time"),
    ("cycles", "predicted, of the compute module: working for the layer or waiting to"),
    ("share", "of the total"),
    ("what compute does", "the layer's cycles by use, to the scale of the longest layer"),
    ("bound by", "the busiest module; waiting, if none is busy most of the time"),
    ("GEMM", "GEMM operations per cycle: 100% is the peak"),
    ("least cycles", "lower bound: compute and transfers overlapped completely"),
    ("×", "cycles over the lower bound; below 1, transfers happened while the layer before was computed"),
    ("inp kB", "input and residual loaded"),
    ("wgt kB", "weights loaded"),
    ("acc kB", "biases loaded"),
    ("uop kB", "micro-ops loaded"),
    ("out kB", "output stored"),
    ("bytes ×", "bytes moved over the lower bound: every tensor once"),
)


def layer_table(figures: Figures) -> str:
    """All layers in order of execution."""
    longest = max(layer.cycles for layer in figures.layers)
    headings = (
        element("th", text(name), title=meaning, scope="col", data_text="" if name in ("layer", "bound by") else None)
        for name, meaning in HEADINGS
    )
    rows = (_layer(place, layer, figures, longest) for place, layer in enumerate(figures.layers, 1))
    return element(
        "table",
        element("thead", row(headings)),
        element("tbody", *rows),
        element("tfoot", _outside(figures), _totals(figures)),
        class_="layers sortable",
    )


def _outside(figures: Figures) -> str:
    """The row of what is in no layer."""
    cycles = sum(rest.cycles for rest in figures.outside)
    cells = ("", "outside layers", "", grouped(cycles), percent(cycles / figures.cycles))
    return row(element("td", text(cells[column]) if column < len(cells) else "") for column in range(len(HEADINGS)))


def _totals(figures: Figures) -> str:
    """The network's row. Its lower bound overlaps layers, so it may be below the sum of theirs."""
    bus, bound, counters = figures.board.bus_bytes, figures.bound, figures.counters
    least = bound.cycles(bus)
    values = counters.as_dict()
    shown = (
        "",
        "network",
        "",
        grouped(figures.cycles),
        percent(1),
        "",
        "",
        percent(counters.gemm_counter / figures.cycles, 0),
        grouped(least),
        ratio(figures.cycles, least),
        *(f"{values[name] / 1e3:,.1f}" for name in STREAMS),
        ratio(moved_bytes(counters), bound.nbytes),
    )
    return row(element("td", text(value)) for value in shown)


def _layer(place: int, layer: Layer, figures: Figures, longest: int) -> str:
    """The layer's row, and one that stays hidden until its name is selected."""
    bus = figures.board.bus_bytes
    least = layer.bound.cycles(bus) if layer.bound else 0
    least_bytes = layer.bound.nbytes if layer.bound else 0
    streams = [layer.counters.as_dict()[name] for name in STREAMS]
    lost = "; ".join(f"{cause} {grouped(cycles)}" for cause, cycles in layer.losses(bus).items() if cycles > 0)
    cells = [
        Cell(str(place), place),
        Cell(_name(layer), layer.name),
        _tile(layer),
        Cell(grouped(layer.cycles), layer.cycles, f"{grouped(layer.span)} from first to last instruction"),
        Cell(percent(layer.cycles / figures.cycles), layer.cycles),
        Cell(_bar(layer, longest), layer.cycles),
        Cell(
            element("span", text(layer.limit.value), class_=f"limit {layer.limit.name.lower()}"),
            layer.limit.value,
            f"busy: load {grouped(layer.load_busy)}, compute {grouped(layer.compute_busy)}, "
            f"store {grouped(layer.store_busy)}; of it waiting for the bus {grouped(layer.bus_wait)}",
        ),
        Cell(percent(layer.utilisation, 0), layer.utilisation),
        Cell(grouped(least) if least else "–", least, _parts(layer, bus)),
        Cell(ratio(layer.cycles, least), layer.cycles / least if least else 0, lost or None),
        *(Cell(f"{value / 1e3:,.1f}" if value else "–", value, f"{grouped(value)} bytes") for value in streams),
        Cell(
            ratio(layer.nbytes, least_bytes),
            layer.nbytes / least_bytes if least_bytes else 0,
            f"{grouped(layer.nbytes)} bytes, at least {grouped(least_bytes)}",
        ),
    ]
    shown = (element("td", cell.shown, data_value=cell.value, title=cell.title) for cell in cells)
    return row(shown, data_begin=layer.begin, data_cycles=layer.cycles) + _decision(layer)


def _name(layer: Layer) -> str:
    """The layer's name, which opens what was decided about it."""
    name = element("code", text(layer.name))
    return name if layer.decision is None else element("button", name, type="button", class_="name")


def _decision(layer: Layer) -> str:
    """A row on what the layer computes and how it is cut into tiles; none where that is not recorded."""
    if layer.decision is None:
        return ""
    words = {**in_words(layer.decision), "predicted": f"{grouped(layer.cycles)} cycles, {layer.nbytes / 1e3:,.1f} kB"}
    lines = (element("dt", text(topic)) + element("dd", text(said)) for topic, said in words.items())
    cell = element("td", element("dl", *lines), colspan=len(HEADINGS) - 1)
    return row((element("td"), cell), class_="decision", hidden="")


def _tile(layer: Layer) -> Cell:
    if layer.decision is None:
        return Cell("–", 0)
    tiling = layer.decision.tiling
    shown = f"{tiling.rows}×{tiling.columns}×{tiling.units}"
    return Cell(shown, tiling.rows * tiling.columns * tiling.units, f"estimated {tiling.cycles:,.0f} cycles")


def _parts(layer: Layer, bus_bytes: int) -> str | None:
    bound = layer.bound
    if bound is None:
        return None
    return (
        f"compute {grouped(bound.compute_cycles)} ({grouped(bound.gemm)} GEMM, {grouped(bound.alu)} ALU operations), "
        f"bus {grouped(bound.bus_cycles(bus_bytes))}"
    )


def _bar(layer: Layer, longest: int) -> str:
    """The layer's cycles by use, stacked."""
    parts, left = [], 0.0
    for use, cycles in layer.uses.items():
        width = BAR_WIDTH * cycles / longest
        if width >= 0.05:
            title = element("title", text(f"{use}: {grouped(cycles)} cycles, {percent(cycles / layer.cycles)}"))
            parts.append(
                element("rect", title, x=number(left), y=0, width=number(width), height=BAR_HEIGHT, class_=USES[use])
            )
        left += width
    return element(
        "svg", *parts, viewBox=f"0 0 {BAR_WIDTH} {BAR_HEIGHT}", class_="bar", role="img", aria_label="cycles by use"
    )


def legend(names: dict[str, str]) -> str:
    """Names with the classes that colour them."""
    entries = (element("li", element("i", class_=colour), text(name)) for name, colour in names.items())
    return element("ul", *entries, class_="legend")


def sensitivity_table(figures: Figures) -> str:
    """The total with each parameter of the timing model halved and doubled."""

    def change(cycles: int) -> str:
        return element("td", f"{scaled(cycles)} ", element("small", f"{cycles / figures.cycles - 1:+.1%}"))

    rows = (
        row(
            [
                element("td", element("code", text(entry.parameter)), class_="word"),
                element("td", text(MEANING.get(entry.parameter, "")), class_="word wide"),
                element("td", grouped(entry.value)),
                change(entry.halved),
                change(entry.doubled),
            ]
        )
        for entry in figures.sensitivity
    )
    names = ("parameter", "", "value", "cycles if halved", "cycles if doubled")
    headings = (element("th", text(name), scope="col") for name in names)
    return element("table", element("thead", row(headings)), element("tbody", *rows))
