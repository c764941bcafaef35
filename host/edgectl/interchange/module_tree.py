"""The modules that a network's names tell of: "stage1_unit2_conv1" is conv1 of unit2 of stage1.

Names alone decide nothing: layers become a module where they follow each other and give one result to the rest.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from edgectl.interchange.torch_layers import Step
from edgectl.interchange.translation import layer_of
from edgectl.operators.activation import Activation
from edgectl.operators.elementwise import Binary, Scalar
from edgectl.operators.shape import Concatenate

FOLLOWERS = (Activation, Binary, Scalar, Concatenate)
"""Operators without a module of their own that belong to the layer before, where frameworks named them by a count."""
COUNTED = re.compile(r"_?[a-z_]+\d+")
"""Such a name: _plus0, activation1."""


@dataclass(frozen=True)
class Placed:
    """A step and its place: the modules that it is in, from the outside, and its own name there."""

    step: Step
    path: tuple[str, ...]
    leaf: str


@dataclass(frozen=True)
class Tree:
    """A module: its name in its parent, what it holds in the order of execution, what it reads and gives."""

    name: str
    members: tuple[Placed | Tree, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def steps(self) -> Iterator[Placed]:
        for member in self.members:
            if isinstance(member, Tree):
                yield from member.steps()
            else:
                yield member


def tree_of(steps: Sequence[Step], inputs: tuple[str, ...], outputs: tuple[str, ...]) -> Tree:
    """The root of all modules; `inputs` and `outputs` are the network's."""
    return Tree("", _members(_placed(steps), 0, outputs), inputs, outputs)


def _placed(steps: Sequence[Step]) -> list[Placed]:
    stems = _stems(steps)
    layers = list(dict.fromkeys(stem for step, stem in zip(steps, stems, strict=True) if step.state))
    dotted = any("." in layer for layer in layers)
    prefix = "" if dotted else _network_prefix(layers)
    groups = _groups([stem.removeprefix(prefix) for stem in layers])
    placed: list[Placed] = []
    places: dict[str, tuple[str, ...]] = {}
    for step, stem in zip(steps, stems, strict=True):
        path, leaf = _split(stem.removeprefix(prefix), groups)
        counted = not step.state and not dotted and COUNTED.fullmatch(stem) and not (prefix and stem.startswith(prefix))
        if not path and counted and isinstance(step.node.operator, FOLLOWERS):
            # The producer that comes last is the layer before.
            path = next((places[value] for value in reversed(places) if value in step.operands), ())
        if step.part:
            leaf = f"{leaf}_{step.part}"
        placed.append(Placed(step, path, leaf.strip("_") or step.node.operator.kind))
        places[step.value] = path
    return placed


def _stems(steps: Sequence[Step]) -> list[str]:
    """Each step's layer, without what frameworks add to make a node's name of it.

    A layer is called as its parameters are; one that shares those of a layer before, by its own name.
    """
    stems, owners = [], dict[str, str]()
    for step in steps:
        layer = next((layer for name, _ in step.state.values() if (layer := layer_of(name))), "")
        shared = owners.setdefault(layer, step.node.name) != step.node.name
        stems.append(layer if layer and not shared else _own_name(step))
    return stems


def _own_name(step: Step) -> str:
    return step.node.name.removesuffix("_fwd").replace("/", ".").strip(".") or step.node.operator.kind


def _network_prefix(layers: Sequence[str]) -> str:
    """What all names without dots begin with, up to an underscore: the network's name, as Gluon puts it in front."""
    if len(layers) < 2:
        return ""
    first, last = min(layers), max(layers)
    length = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    prefix = first[: first[:length].rfind("_") + 1]
    return prefix if all(re.match("[A-Za-z]", layer[len(prefix) :]) for layer in layers) else ""


def _tokens(stem: str) -> tuple[list[str], str]:
    separator = "." if "." in stem else "_"
    return stem.split(separator), separator


def _groups(layers: Sequence[str]) -> frozenset[str]:
    """First parts of names that can be modules: of dotted names all, of others those that several layers share."""
    counts: Counter[str] = Counter()
    for layer in layers:
        tokens, separator = _tokens(layer)
        for end in range(1, len(tokens)):
            if separator == "." or re.match("[A-Za-z]", tokens[end]):
                counts[separator.join(tokens[:end])] += 1
    return frozenset(group for group, count in counts.items() if "." in group or count > 1 or _dotted(group, layers))


def _dotted(group: str, layers: Sequence[str]) -> bool:
    return any(layer.startswith(f"{group}.") for layer in layers)


def _split(stem: str, groups: frozenset[str]) -> tuple[tuple[str, ...], str]:
    tokens, separator = _tokens(stem)
    path, begin = [], 0
    for end in range(1, len(tokens)):
        if separator.join(tokens[:end]) in groups and any(tokens[begin:end]):
            path.append(separator.join(tokens[begin:end]))
            begin = end
    return tuple(path), "_".join(tokens[begin:])


def _members(placed: list[Placed], depth: int, outputs: Sequence[str]) -> tuple[Placed | Tree, ...]:
    """The members of one module. Groups that cannot be modules are dissolved: their names join their layers'."""
    while True:
        runs = [(name, list(run)) for name, run in groupby(placed, lambda place: _name(place, depth))]
        counts = Counter(name for name, _ in runs if name)
        broken = {
            name
            for name, run in runs
            if name and (counts[name] > 1 or len(_given(run, placed, outputs)) != 1 or not _read(run))
        }
        if not broken:
            break
        placed = [_dissolved(place, depth) if _name(place, depth) in broken else place for place in placed]
    members: list[Placed | Tree] = []
    for name, run in runs:
        if not name:
            members += run
            continue
        given = _given(run, placed, outputs)
        members.append(Tree(name, _members(run, depth + 1, given), _read(run), given))
    return tuple(members)


def _name(place: Placed, depth: int) -> str:
    return place.path[depth] if len(place.path) > depth else ""


def _dissolved(place: Placed, depth: int) -> Placed:
    name = place.path[depth]
    if len(place.path) > depth + 1:
        joined = f"{name}_{place.path[depth + 1]}"
        return replace(place, path=(*place.path[:depth], joined, *place.path[depth + 2 :]))
    return replace(place, path=place.path[:depth], leaf=f"{name}_{place.leaf}")


def _read(run: Sequence[Placed]) -> tuple[str, ...]:
    """Values that a run of steps takes from outside, in the order of use. Parameters are its own."""
    made = {place.step.value for place in run}
    read = [
        value
        for place in run
        for value in place.step.operands
        if value not in made and value not in place.step.constants
    ]
    return tuple(dict.fromkeys(read))


def _given(run: Sequence[Placed], placed: Sequence[Placed], outputs: Sequence[str]) -> tuple[str, ...]:
    """Values of a run that others read, or that are results."""
    made = [place.step.value for place in run]
    own = set(map(id, run))
    wanted = set(outputs).union(*(place.step.operands for place in placed if id(place) not in own))
    return tuple(value for value in made if value in wanted)


def consumers(members: Sequence[Placed | Tree]) -> Mapping[str, int]:
    """How many of `members` read each value."""
    counts: Counter[str] = Counter()
    for member in members:
        counts.update(set(member.inputs if isinstance(member, Tree) else member.step.operands))
    return counts
