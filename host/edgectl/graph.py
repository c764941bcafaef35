"""The Model: a small named graph with its parameters, in floating point or in integers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from edgectl.errors import ModelError
from edgectl.operators.base import Operator, TensorType


@dataclass(frozen=True)
class Node:
    """One operator applied to named values (inputs, parameters or other nodes); its output carries the node's name.

    `source` is the layer's name in the file that the model came from.
    """

    name: str
    operator: Operator
    inputs: tuple[str, ...]
    source: str = ""

    @property
    def label(self) -> str:
        return self.source or self.name


@dataclass(frozen=True)
class Preprocessing:
    """How a photograph becomes the input tensor: resize the short side, crop the centre, scale to 0..1, normalise.

    `resize` is the short side in pixels (0: resize straight to `crop`), `crop` is (height, width).
    """

    resize: int
    crop: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    channel_order: str = "RGB"

    def for_size(self, height: int, width: int) -> Preprocessing:
        """The same for a model of images of another size: what is resized scales along with the crop."""
        if (height, width) == self.crop:
            return self
        return replace(self, resize=round(self.resize * min(height, width) / min(self.crop)), crop=(height, width))


@dataclass(frozen=True)
class Model:
    """A graph in topological order. Values are named; parameters are read-only arrays.

    `inputs` maps each input's name to its type (batch first); `outputs` names the values that are results.
    """

    name: str
    inputs: Mapping[str, TensorType]
    nodes: tuple[Node, ...]
    parameters: Mapping[str, np.ndarray]
    outputs: tuple[str, ...]
    preprocessing: Preprocessing | None = None
    labels: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())

    def types(self) -> dict[str, TensorType]:
        """The type of every value. Raises ModelError, naming the layer, where shapes do not fit."""
        types = dict(self.inputs)
        for name, array in self.parameters.items():
            types[name] = TensorType(tuple(array.shape), str(array.dtype))
        for node in self.nodes:
            missing = [name for name in node.inputs if name not in types]
            if missing:
                raise ModelError(f"layer '{node.label}' reads '{missing[0]}', which nothing before it defines")
            try:
                types[node.name] = node.operator.infer(*(types[name] for name in node.inputs))
            except (ModelError, TypeError, ValueError) as error:
                raise ModelError(f"layer '{node.label}' ({node.operator.kind}): {error}") from error
        return types

    def producers(self) -> dict[str, Node]:
        """The node behind each computed value."""
        return {node.name: node for node in self.nodes}

    def consumers(self) -> dict[str, list[Node]]:
        """The nodes that read each value (empty list: none)."""
        readers: dict[str, list[Node]] = {name: [] for name in (*self.inputs, *self.parameters)}
        for node in self.nodes:
            readers[node.name] = []
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                readers[name].append(node)
        return readers

    def with_batch(self, batch: int) -> Model:
        """The same graph for another batch size."""
        inputs = {name: TensorType((batch, *t.shape[1:]), t.dtype) for name, t in self.inputs.items()}
        return replace(self, inputs=inputs)

    def rebuilt(self, nodes: Iterable[Node], parameters: Mapping[str, np.ndarray], outputs: tuple[str, ...]) -> Model:
        """A model of new nodes under the same name, inputs, preprocessing and labels, without what no output needs."""
        needed, kept = set(outputs), []
        for node in reversed(tuple(nodes)):
            if node.name in needed:
                needed.update(node.inputs)
                kept.append(node)
        used = {name: array for name, array in parameters.items() if name in needed}
        return replace(self, nodes=tuple(reversed(kept)), parameters=used, outputs=outputs)
