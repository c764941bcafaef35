"""Gives the channels of a value like ranges, so that one int8 scale serves them all.

A convolution's output channel may be divided by a positive number if all that read it multiply it back: ReLUs, pools
and sums keep the factor, and the function stays the same (Nagel et al., Data-Free Quantization, 2019, who choose the
factors from weights; here the observed ranges weigh most). The factors of an input become part of its quantization.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from edgectl.graph import Model, Node
from edgectl.operators.activation import Relu
from edgectl.operators.batch_norm import BatchNorm
from edgectl.operators.convolution import Convolution
from edgectl.operators.dense import Dense
from edgectl.operators.elementwise import Binary
from edgectl.quantization.calibration import Observation
from edgectl.quantization.channel_groups import channel_groups

RANGE, WEIGHTS = 0.5, 0.25
"""Exponents of a channel's range and of the weights that read it: compared on networks in docs/quantization.md."""
SMALLEST = 1 / 16
"""Part of the largest channel's range, or weights, below which channels are treated alike."""


def equalized(model: Model, observations: Mapping[str, Observation]) -> tuple[Model, dict[str, Observation]]:
    """The same function with channels of like ranges, and what its values look like then.

    `model` is folded; `observations` has every value of it but parameters.
    """
    factors = _factors(model, observations)
    types = model.types()

    def factor(value: str) -> np.ndarray:
        channels = types[value].shape[1]
        known = factors.get(value, np.ones(1))
        return np.repeat(known, channels // len(known))

    seen = {name: o.divided(factor(name)) if name in factors else o for name, o in observations.items()}
    parameters, nodes = dict(model.parameters), []
    new_names = {}
    for value in model.inputs:
        if value in factors:
            name = f"{value}.equalized"
            while name in types:
                name += "_"
            new_names[value] = name
            nodes.append(_affine(parameters, name, value, 1 / factor(value), np.zeros(types[value].shape[1]), value))
            seen[name], seen[value] = seen[value], observations[value]
    for node in model.nodes:
        x, operator = node.inputs[0], node.operator
        inputs = tuple(new_names.get(name, name) for name in node.inputs)
        if not (x in factors or node.name in factors):
            nodes.append(replace(node, inputs=inputs))
        elif isinstance(operator, BatchNorm):
            gain, offset = operator.affine(*(parameters[name].astype(np.float64) for name in node.inputs[1:]))
            ratio = factor(x) / factor(node.name)
            nodes.append(
                _affine(parameters, node.name, inputs[0], gain * ratio, offset / factor(node.name), node.source)
            )
        elif isinstance(operator, Convolution | Dense):
            groups = operator.groups if isinstance(operator, Convolution) else 1
            weight = parameters[node.inputs[1]]
            by_group = weight.astype(np.float64).reshape(groups, len(weight) // groups, weight.shape[1], -1)
            scaled = by_group * factor(x).reshape(groups, 1, -1, 1) / factor(node.name).reshape(groups, -1, 1, 1)
            arrays = [scaled.reshape(weight.shape), *(parameters[name] / factor(node.name) for name in inputs[2:])]
            names = _parameters(parameters, node.name, ("weight", "bias"), arrays)
            nodes.append(replace(node, inputs=(inputs[0], *names)))
        else:
            nodes.append(replace(node, inputs=inputs))
    return model.rebuilt(nodes, parameters, model.outputs), seen


def _factors(model: Model, observations: Mapping[str, Observation]) -> dict[str, np.ndarray]:
    """The factors of each value that may have some."""
    types, consumers = model.types(), model.consumers()
    factors: dict[str, np.ndarray] = {}
    for group in channel_groups(model):
        channels = min(types[value].shape[1] for value in group)
        kept = [value for value in group if not _is_passed_on(consumers[value])]
        ranges = [observations[value].channels for value in kept if types[value].shape[1] == channels]
        readers = {reader.name: reader for value in group for reader in consumers[value]}.values()
        columns = [_column(model, node, channels) for node in readers if isinstance(node.operator, Convolution | Dense)]
        shape = _typical(ranges, channels) ** RANGE / _typical(columns, channels) ** WEIGHTS
        factors.update(dict.fromkeys(group, shape))
    return factors


def _is_passed_on(readers: list[Node]) -> bool:
    """Whether a value is not stored, but goes straight into a ReLU or an addition."""
    return len(readers) == 1 and isinstance(readers[0].operator, Relu | Binary)


def _column(model: Model, node: Node, channels: int) -> np.ndarray:
    """The largest magnitude that `node` multiplies each of `channels` input channels with."""
    weight = np.abs(model.parameters[node.inputs[1]])
    groups = node.operator.groups if isinstance(node.operator, Convolution) else 1
    by_group = weight.reshape(groups, len(weight) // groups, weight.shape[1], -1)
    largest: np.ndarray = by_group.max(axis=(1, 3)).reshape(channels, -1).max(axis=1)
    return largest


def _typical(parts: Iterable[np.ndarray], channels: int) -> np.ndarray:
    """The geometric mean of non-negative `parts`, each relative to its largest channel."""
    logarithms = [np.log(np.maximum(part / part.max(), SMALLEST)) for part in parts if part.max() > 0]
    return np.exp(np.mean(logarithms, axis=0)) if logarithms else np.ones(channels)


def _affine(
    parameters: dict[str, np.ndarray], name: str, x: str, gain: np.ndarray, offset: np.ndarray, source: str
) -> Node:
    """A BatchNorm that computes gain * x + offset."""
    arrays = (gain, offset, np.zeros_like(gain), np.ones_like(gain))
    names = _parameters(parameters, name, ("gamma", "beta", "mean", "variance"), arrays)
    return Node(name, BatchNorm(epsilon=0.0), (x, *names), source)


def _parameters(
    parameters: dict[str, np.ndarray], name: str, kinds: Iterable[str], arrays: Iterable[np.ndarray]
) -> tuple[str, ...]:
    """Enter `arrays` under new names."""
    names = []
    for kind, array in zip(kinds, arrays, strict=False):
        names.append(f"{name}.equalized_{kind}")
        parameters[names[-1]] = array.astype(np.float32)
    return tuple(names)
