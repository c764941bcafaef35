"""What became of each layer and parameter of a Model in another framework."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgectl.graph import Node
from edgectl.operators.batch_norm import BatchNorm
from edgectl.operators.convolution import Convolution
from edgectl.operators.dense import Dense
from edgectl.operators.elementwise import Binary

ROLES: Mapping[type, tuple[str, ...]] = {
    Convolution: ("weight", "bias"),
    Dense: ("weight", "bias"),
    BatchNorm: ("gamma", "beta", "moving_mean", "moving_var"),
    Binary: ("lhs", "rhs"),
}
"""What an operator's parameters are, in the order of its inputs."""
FIELDS = ("weight", "bias", "gamma", "beta", "moving_mean", "moving_var", "running_mean", "running_var")
"""Last parts of parameters' names, in MXNet and PyTorch; what comes before is their layer's name."""


@dataclass(frozen=True)
class StoredParameter:
    """A parameter of the model, `source`, and its copy in the written file, `target`, with the values there."""

    source: str
    target: str
    array: np.ndarray


@dataclass(frozen=True)
class Translation:
    """`layers`: the name of an input or a node -> its name in the target. `parameters`: all that was written.

    `notes` tells what a person should know.
    """

    layers: Mapping[str, str]
    parameters: tuple[StoredParameter, ...]
    notes: tuple[str, ...] = ()


def role(node: Node, index: int) -> str:
    """What input `index` of a layer is when it is a parameter."""
    roles = ROLES.get(type(node.operator), ())
    place = index if isinstance(node.operator, Binary) else index - 1
    return roles[place] if 0 <= place < len(roles) else f"constant{index}"


def layer_of(parameter: str) -> str:
    """The layer that a parameter's name begins with; empty where the name does not end in a known field."""
    match = re.fullmatch(rf"(.+)[._]({'|'.join(FIELDS)})", parameter)
    return match[1] if match else ""


class Names:
    """Gives each thing a name that nothing else has."""

    def __init__(self, taken: tuple[str, ...] = ()) -> None:
        self._taken = set(taken)

    def unique(self, wanted: str) -> str:
        name, number = wanted, 1
        while name in self._taken:
            name, number = f"{wanted}_{number}", number + 1
        self._taken.add(name)
        return name
