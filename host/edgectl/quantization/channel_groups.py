"""Values that must have the same factor for each channel, where channels get factors."""

from __future__ import annotations

from edgectl.graph import Model
from edgectl.operators.activation import Relu
from edgectl.operators.batch_norm import BatchNorm
from edgectl.operators.convolution import Convolution
from edgectl.operators.dense import Dense
from edgectl.operators.elementwise import Binary
from edgectl.operators.pooling import AveragePool, GlobalPool, MaxPool
from edgectl.operators.shape import Flatten

KEEPERS = (Relu, MaxPool, AveragePool, GlobalPool, Flatten)
"""Operators of one input that keep a positive factor of a channel."""


def channel_groups(model: Model) -> list[list[str]]:
    """Values that are connected by operators that keep factors, a list for each such set, if constants make them all
    and multiply them all: convolutions, dense layers, batch normalisations. Values of two dimensions may have several
    features for each channel."""
    parents: dict[str, str] = {}

    def root(value: str) -> str:
        while (parent := parents.setdefault(value, value)) != value:
            value = parent
        return value

    types, constants, consumers = model.types(), model.parameters, model.consumers()
    barred = set(model.outputs)
    for value, declared in model.inputs.items():
        # A batch normalisation of an input is a part of its quantization already.
        normalised = any(isinstance(reader.operator, BatchNorm) for reader in consumers[value])
        if normalised or len(declared.shape) != 4:
            barred.add(value)
    for node in model.nodes:
        varying = [name for name in node.inputs if name not in constants]
        first = types[varying[0]].shape[1:2] if varying else ()
        if isinstance(node.operator, Binary):
            alike = len(varying) == 2 and types[varying[0]] == types[varying[1]]
            joins = node.operator.function == "add" and alike
        else:
            joins = isinstance(node.operator, KEEPERS) and len(varying) == 1
        if joins and first and types[node.name].shape[1] % first[0] == 0:
            for name in varying:
                parents[root(name)] = root(node.name)
        elif isinstance(node.operator, Convolution | Dense | BatchNorm) and varying == [node.inputs[0]]:
            root(node.name)
            root(varying[0])
        else:
            barred.update((node.name, *varying))
    closed = {root(value) for value in barred}
    groups: dict[str, list[str]] = {}
    for value in (*model.inputs, *(node.name for node in model.nodes)):
        if value in parents and root(value) not in closed:
            groups.setdefault(root(value), []).append(value)
    return list(groups.values())
