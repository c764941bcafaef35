"""What the compiler decided about each layer on VTA, as a bundle records it: docs/vta-compiler.md, "Tiles"."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from edge_agent.bundle import Bundle
from edge_agent.vta.config import Config
from edgectl.codegen.vta.axis import Window
from edgectl.codegen.vta.layers import Layer
from edgectl.codegen.vta.problem import Problem, problem_of
from edgectl.codegen.vta.search import choose_tiling, cost, finalists
from edgectl.codegen.vta.tiling import Tiling, count_tiles
from edgectl.errors import IncompatibleError
from edgectl.graph import Node
from edgectl.operators.base import Operator
from edgectl.operators.patches import PackPatches

MEMBER = "schedule.json"


@dataclass(frozen=True)
class Part:
    """A node of the integer model: `layer` is the name that the model's file gives it."""

    layer: str
    operator: str
    value: str


@dataclass(frozen=True)
class Decision:
    """How the layer `name` is cut into tiles, and all that the search knew of it.

    `computes` are the nodes that the layer stands for, in order; none: it copies (a part of) a concatenation. `patch`:
    its input is no image but patches of so many pixels, which the CPU packs.
    """

    name: str
    computes: tuple[Part, ...]
    patch: tuple[int, int] | None
    problem: Problem
    tiling: Tiling

    def is_of(self, name: str) -> bool:
        """Whether `name` is the layer's, or that of a node that it computes."""
        return name == self.name or any(name in (part.layer, part.value) for part in self.computes)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Decision:
        """Raises KeyError or TypeError where entries are missing or unknown."""
        problem = dict(document["problem"])
        patch, pools = document["patch"], problem["pools"]
        problem |= {axis: Window(**problem[axis]) for axis in ("rows", "columns")}
        problem |= {size: tuple(problem[size]) for size in ("conv_size", "out_size")}
        problem["pools"] = pools and (Window(**pools[0]), Window(**pools[1]))
        return cls(
            document["name"],
            tuple(Part(**part) for part in document["computes"]),
            patch and (patch[0], patch[1]),
            Problem(**problem),
            Tiling(**document["tiling"]),
        )


def decision_of(
    layer: Layer, producers: Mapping[str, Node], packings: Mapping[str, tuple[str, Operator]], config: Config
) -> Decision:
    """The decision about a compiled layer; `producers` are the model's nodes, `packings` those of its Partition."""
    problem = problem_of(layer, config)
    nodes = [producers[name] for name in layer.covers]
    parts = tuple(Part(node.label, node.operator.kind, node.name) for node in nodes)
    _, packing = packings.get(layer.x.name, ("", None))
    patch = packing.patch if isinstance(packing, PackPatches) else None
    return Decision(layer.name, parts, patch, problem, choose_tiling(problem, config))


def decisions_member(decisions: Iterable[Decision]) -> bytes:
    """What a bundle holds."""
    return json.dumps([decision.as_dict() for decision in decisions]).encode()


def read_decisions(bundle: Bundle) -> tuple[Decision, ...]:
    """A bundle's decisions, in order of execution: empty where an older edgectl recorded none.

    Raises IncompatibleError where another edgectl recorded something else.
    """
    try:
        return tuple(Decision.from_dict(entry) for entry in json.loads(bundle.members.get(MEMBER, b"[]")))
    except (KeyError, TypeError, ValueError) as error:
        raise IncompatibleError(
            f"the bundle was compiled by edgectl {bundle.manifest['edgectl']}, whose schedule this one does not "
            "understand; compile the model again"
        ) from error


def compared(decision: Decision, config: Config) -> list[dict[str, Any]]:
    """The tilings that the search compared, the cheapest first, each with its `cost`: what they were compared by.

    They are found again from what the decision records. Raises IncompatibleError where this compiler's first choice
    is not the recorded one.
    """
    found = finalists(decision.problem, config)
    if not found or found[0] != decision.tiling:
        raise IncompatibleError(
            f"this edgectl would cut '{decision.name}' into other tiles than the one that compiled the bundle; compile "
            "the model again"
        )
    return [{**asdict(tiling), "cost": cost(tiling)} for tiling in found]


def in_words(decision: Decision) -> dict[str, str]:
    """The decision for people, by topic."""
    return dict(_topics(decision))


def _topics(decision: Decision) -> Iterator[tuple[str, str]]:
    problem, tiling = decision.problem, decision.tiling
    parts = ", ".join(f"{part.layer} ({part.operator})" for part in decision.computes)
    yield "computes", parts or "a copy of a concatenation, or of a part of it that has to lie elsewhere too"
    yield "pixels", _pixels(problem, decision.patch)
    yield "channels", ", ".join(_channels(problem))
    yield "tile", _tile(problem, tiling)
    yield "order", ", ".join(_order(problem, tiling))
    slots = (tiling.inp_slots, tiling.wgt_slots, tiling.acc_slots)
    yield "buffers", "divided into {} for inputs, {} for weights, {} for accumulators".format(*slots)
    yield "estimated", f"{tiling.cycles:,.0f} cycles, {tiling.nbytes / 1e3:,.1f} kB without micro-ops"


def _pixels(problem: Problem, patch: tuple[int, int] | None) -> str:
    def window(rows: Window, columns: Window) -> str:
        strides = f" of stride {rows.stride} x {columns.stride}" if (rows.stride, columns.stride) != (1, 1) else ""
        return f"{rows.kernel} x {columns.kernel}{strides}"

    size = f"{problem.rows.extent} x {problem.columns.extent}"
    if patch is not None:
        size += f" patches of {patch[0]} x {patch[1]} pixels"
    text = f"{size} by a window {window(problem.rows, problem.columns)}"
    if problem.pools is not None:
        text += f" to {problem.conv_size[0]} x {problem.conv_size[1]}, by a pool {window(*problem.pools)}"
    return f"{text} to {problem.out_size[0]} x {problem.out_size[1]}"


def _channels(problem: Problem) -> Iterator[str]:
    if problem.shared:
        yield f"{_number(problem.groups, 'block')}, each by the identity"
    elif problem.groups > 1:
        yield f"{problem.groups} groups of {problem.ins} to {_number(problem.outs, 'block')}"
    else:
        yield f"{problem.ins} to {_number(problem.outs, 'block')}"
    if problem.residual:
        yield "a residual is added"
    if problem.wide:
        yield "results are int32"
    if problem.outer > 1:
        yield f"batch of {problem.outer}"


def _tile(problem: Problem, tiling: Tiling) -> str:
    count = count_tiles(problem, tiling)
    text = f"{tiling.rows} x {tiling.columns} pixels of {_number(tiling.units, 'output block')}"
    if not problem.shared:
        text += f", {_number(tiling.ins, 'input block')} at a time"
    return f"{_number(count.pixels * count.channels, 'tile')} of {text}"


def _order(problem: Problem, tiling: Tiling) -> Iterator[str]:
    count = count_tiles(problem, tiling)
    if min(count.pixels, count.channels) > 1:
        outer, inner = ("output channels", "pixels") if tiling.weights_outer else ("pixels", "output channels")
        yield f"all {inner} for some {outer}, then the next"
    elif count.pixels > 1:
        yield "one part of the pixels after the other"
    elif count.channels > 1:
        yield "one part of the output channels after the other"
    else:
        yield "a single tile"
    if tiling.serpentine:
        yield "every other tile takes its input channels in reverse"


def _number(count: int, name: str) -> str:
    return f"{count:,} {name}{'s' * (count != 1)}"
