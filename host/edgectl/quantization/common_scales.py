"""One scale for values that meet in concatenations, chosen before any of them is computed.

Parts of one scale are joined without a step in between, and on hardware written next to each other. Chains share one
scale as a whole: in a densely connected block each concatenation is a part of the next.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgectl.graph import Model
from edgectl.operators.activation import Clip
from edgectl.operators.shape import Concatenate
from edgectl.quantization.calibration import Observation
from edgectl.quantization.scales import best_scale
from edgectl.quantization.suitability import MOVEMENTS

FINEST, COARSEST = 8, 2
"""How many times as far as a value's own range a common scale may reach, and how much of the range it may cut off."""


def common_scales(model: Model, observations: Mapping[str, Observation]) -> dict[str, float]:
    """The scale of each value that a concatenation joins, directly or through operators that keep scales.

    It is the best for the concatenations' values together: all parts are in them. A part that something else reads too
    is not among them where that scale would show little of it, or cut much off.
    """
    parents: dict[str, str] = {}

    def root(value: str) -> str:
        while (parent := parents.setdefault(value, value)) != value:
            value = parent
        return value

    joined: list[str] = []
    for node in model.nodes:
        parts = [name for name in node.inputs if name not in model.parameters]
        if isinstance(node.operator, Concatenate):
            joined.append(node.name)
        elif not isinstance(node.operator, (*MOVEMENTS, Clip)):
            continue
        for part in parts:
            parents[root(part)] = root(node.name)
    groups: dict[str, list[Observation]] = {}
    for name in joined:
        groups.setdefault(root(name), []).append(observations[name])
    scales = {
        group: best_scale(
            np.concatenate([seen.sample.ravel() for seen in members]), max(seen.largest for seen in members)
        )
        for group, members in groups.items()
    }
    elsewhere = _read_elsewhere(model)

    def fits(value: str) -> bool:
        reach = 127 * scales[root(value)]
        apart = value in elsewhere and value not in joined
        return not apart or reach / FINEST <= observations[value].largest <= reach * COARSEST

    return {value: scales[root(value)] for value in tuple(parents) if root(value) in scales and fits(value)}


def _read_elsewhere(model: Model) -> set[str]:
    """Outputs, and values that more than concatenations read, directly or through operators that keep scales."""
    consumers, found = model.consumers(), set(model.outputs)
    for value in (*reversed([node.name for node in model.nodes]), *model.inputs):
        for reader in consumers[value]:
            keeps = isinstance(reader.operator, (*MOVEMENTS, Clip))
            if reader.name in found if keeps else not isinstance(reader.operator, Concatenate):
                found.add(value)
    return found
