"""The page: one HTML file that needs nothing else."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from edge_agent.version import VERSION
from edgectl.files import atomic_file
from edgectl.report.figures import Figures, Layer, by_reason, moved_bytes
from edgectl.report.inference import inference_table
from edgectl.report.markup import digits, element, grouped, percent, ratio, scaled, text
from edgectl.report.roofline import roofline
from edgectl.report.table import USES, layer_table, legend, sensitivity_table
from edgectl.report.timeline import LEGEND, timeline

WORST = 3
LIMITS = {"GEMM": "gemm", "ALU": "alu", "load": "load", "store": "store", "waiting": "tokens"}


def page(figures: Figures) -> str:
    """The whole report; the same text for the same figures."""
    title = f"{figures.model} on {figures.board.name}"
    content = [_header(figures)]
    if figures.layers:
        content += [_cards(figures), _worst(figures), _timeline(figures), _layers(figures), _limits(figures)]
    else:
        content.append(element("p", "No layer of this model runs on VTA."))
    content += [_inference(figures), _cpu(figures)]
    head = (
        '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        element("title", text(f"{title}: compile report")),
        element("style", _resource("page.css")),
    )
    body = element("main", *content) + element("script", _resource("page.js"))
    return "<!doctype html>\n" + element("html", element("head", *head), element("body", body), lang="en") + "\n"


def write_page(figures: Figures, path: Path) -> None:
    """Write the page to a file, complete or not at all. Raises EdgectlError where that is not possible."""
    with atomic_file(path) as file:
        file.write(page(figures).encode())


def _resource(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _section(title: str, lead: str, *content: str) -> str:
    return element("section", element("h2", text(title)), element("p", lead, class_="lead") if lead else "", *content)


def _header(figures: Figures) -> str:
    board = figures.board
    facts = (
        f"{board.description} ({board.name}), VTA {board.config} at {board.clock_hz / 1e6:g} MHz",
        f"{board.bus_bytes} bytes of bus per cycle",
        f"{len(figures.layers)} layers in {len(figures.runs)} program{'s' * (len(figures.runs) != 1)}",
        *(f"input {name}" for name in figures.inputs),
        f"bundle {figures.digest[:12]}, edgectl {VERSION}",
    )
    warning = (
        "Every time on this page is a prediction, not a measurement: the programs' instructions, replayed on a model "
        "of the hardware whose parameters are estimates, and estimates of what the board's CPU does."
    )
    return element(
        "header",
        element("h1", text(figures.model)),
        element("p", text("; ".join(facts)), class_="facts"),
        element("p", text(warning), class_="warning"),
    )


def _card(name: str, value: str, remark: str) -> str:
    return element("div", element("h3", text(name)), element("b", text(value)), element("small", text(remark)))


def _cards(figures: Figures) -> str:
    bus, bound, counters = figures.board.bus_bytes, figures.bound, figures.counters
    least, moved = bound.cycles(bus), moved_bytes(counters)
    on_bus = sum(int(run.trace.beats.sum()) for run in figures.runs)
    busy = sum(run.trace.timing.compute_busy for run in figures.runs)
    return element(
        "div",
        _card("predicted on VTA", f"{digits(figures.seconds * 1e3)} ms", f"{grouped(figures.cycles)} cycles"),
        _card(
            "lower bound",
            f"{digits(least / figures.board.clock_hz * 1e3)} ms",
            f"{grouped(least)} cycles; predicted is {ratio(figures.cycles, least)}",
        ),
        _card("bytes moved", scaled(moved, "B"), f"at least {scaled(bound.nbytes, 'B')}, {ratio(moved, bound.nbytes)}"),
        _card(
            "GEMM operations",
            scaled(counters.gemm_counter),
            f"at least {scaled(bound.gemm)}, {ratio(counters.gemm_counter, bound.gemm)}",
        ),
        _card(
            "ALU operations",
            scaled(counters.alu_counter),
            f"at least {scaled(bound.alu)}, {ratio(counters.alu_counter, bound.alu)}",
        ),
        _card(
            "utilisation",
            f"{percent(counters.gemm_counter / figures.cycles, 0)} GEMM",
            f"compute busy {percent(busy / figures.cycles, 0)}, bus {percent(on_bus / figures.cycles, 0)}",
        ),
        class_="cards",
    )


def excess(layer: Layer, bus_bytes: int) -> int:
    """Cycles above the layer's lower bound."""
    return layer.cycles - layer.bound.cycles(bus_bytes) if layer.bound else 0


def _worst(figures: Figures) -> str:
    """The layers with most cycles above their lower bound, and what those are."""
    bus = figures.board.bus_bytes
    places = sorted(enumerate(figures.layers, 1), key=lambda pair: -excess(pair[1], bus))[:WORST]
    items = []
    for place, layer in places:
        if (lost := excess(layer, bus)) > 0:
            causes = [f"{cause} {scaled(cycles)}" for cause, cycles in layer.losses(bus).items() if cycles > 0][:WORST]
            items.append(
                element(
                    "li",
                    element("code", text(f"{place} {layer.name}")),
                    text(f" {scaled(lost)} cycles above its bound: {', '.join(causes)}"),
                )
            )
    lead = "The layers with the most cycles above their lower bound, and what the largest parts of those are."
    return _section("Furthest from the bound", text(lead), element("ul", *items, class_="worst")) if items else ""


def _timeline(figures: Figures) -> str:
    buttons = (
        element("button", text(shown), type="button", data_zoom=action, title=meaning)
        for action, shown, meaning in (
            ("in", "+", "closer"),
            ("out", "−", "wider"),
            ("left", "◀", "earlier"),
            ("right", "▶", "later"),
            ("all", "all", "the whole run"),
        )
    )
    lead = (
        "What each module does with its time; numbers are layers of the table. Drag across a part to look closer, or "
        "select a layer's number in the table. A module that waits for compute has nothing to do; compute should never "
        "wait."
    )
    return _section(
        "Timeline", text(lead), element("div", *buttons, class_="buttons"), timeline(figures), legend(LEGEND)
    )


def _layers(figures: Figures) -> str:
    lead = (
        "Select a heading to sort, a layer to see what it computes and how it is cut into tiles; more is said where "
        "the pointer rests."
    )
    return _section("Layers", text(lead), legend(USES), element("div", layer_table(figures), class_="scroll"))


def _limits(figures: Figures) -> str:
    drawing = roofline(figures)
    roof = _section(
        "Roofline",
        text(
            "Useful operations per second of each layer that multiplies, against operations per byte moved; a dot's "
            "area is the layer's cycles."
        ),
        drawing,
        legend(LIMITS),
    )
    lead = "The total, with each parameter of the timing model in turn halved and doubled."
    return element(
        "div",
        roof if drawing else "",
        _section("Sensitivity of the prediction", text(lead), sensitivity_table(figures)),
        class_="pair",
    )


def _inference(figures: Figures) -> str:
    """The whole inference; nothing where the bundle does not have it."""
    predicted = figures.predicted
    if not predicted.get("total_seconds"):
        return ""
    lead = (
        f"From the decoded image to the best classes on {predicted['processor']}: "
        f"{digits(predicted['total_seconds'] * 1e3)} ms, of it VTA {digits(predicted['vta_seconds'] * 1e3)}, the CPU "
        f"{digits(predicted['cpu_seconds'] * 1e3)}, and the agent's calls "
        f"{digits(predicted['overhead_seconds'] * 1e3)}. A kernel takes the cycles that were counted for its operators "
        "under emulation, and its bytes at the memory's rate."
    )
    table = element("div", inference_table(predicted), class_="scroll")
    return _section("The whole inference", text(lead), table)


def _cpu(figures: Figures) -> str:
    lead = f"{figures.cpu_kernels} kernels run on the board's CPU. " + (
        "The layers that they compute, and why VTA does not:"
        if figures.fallbacks
        else "They bring the input to VTA and the results back; every layer runs there."
    )
    items = (
        element("li", text(f"{reason}: "), element("code", text(", ".join(layers))))
        for reason, layers in by_reason(figures.fallbacks).items()
    )
    return _section("On the CPU", text(lead), element("ul", *items) if figures.fallbacks else "")
