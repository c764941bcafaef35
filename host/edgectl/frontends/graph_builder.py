"""Grows a Model node by node, knowing the type of every value, for frontends that read one layer after another."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

import numpy as np

from edgectl.errors import ModelError
from edgectl.graph import Model, Node
from edgectl.interchange.symbol_file import SymbolNode
from edgectl.operators.base import Operator, TensorType

DTYPE_ATTRIBUTES = ("0", "-1")
"""MXNet's numbers for float32 and for "not recorded"."""
Shapes = Mapping[str, tuple[int, ...]] | tuple[int, ...]
"""Shapes of inputs by name, batch first; a bare shape is that of the only input, whatever it is called."""


class GraphBuilder:
    """Collects nodes, used parameters and inputs; `model` closes it."""

    def __init__(self, name: str, parameters: Mapping[str, np.ndarray], input_shapes: Shapes) -> None:
        self._name, self._available, self._input_shapes = name, parameters, input_shapes
        self._nodes: list[Node] = []
        self._inputs: dict[str, TensorType] = {}
        self._parameters: dict[str, np.ndarray] = {}
        self._types: dict[str, TensorType] = {}

    def type(self, value: str) -> TensorType:
        return self._types[value]

    def variable(self, node: SymbolNode) -> str:
        """A variable read as data: a stored array where there is one, else an input of the model."""
        if node.name in self._types:
            return node.name
        if node.name in self._available:
            return self._use(node.name, self._available[node.name])
        if node.attributes.get("__dtype__", "0") not in DTYPE_ATTRIBUTES:
            raise ModelError(f"input '{node.name}' is not float32 (MXNet dtype {node.attributes['__dtype__']})")
        shape = self._given_shape(node.name) or recorded_shape(node)
        if shape is None:
            raise ModelError(
                f"the symbol does not record the shape of '{node.name}', and the parameters do not "
                f"hold it{self._near(node.name)}; if it is an input, give its shape: --shape 3,224,224, "
                f"or in Python input_shapes={{'{node.name}': (1, 3, 224, 224)}}"
            )
        if not shape or min(shape) < 1:
            raise ModelError(f"input '{node.name}' cannot have shape {list(shape)}: every dimension is at least 1")
        self._inputs[node.name] = self._types[node.name] = TensorType(tuple(shape))
        return node.name

    def _given_shape(self, name: str) -> tuple[int, ...] | None:
        return self._input_shapes if isinstance(self._input_shapes, tuple) else self._input_shapes.get(name)

    def has_parameter(self, name: str) -> bool:
        return name in self._available

    def parameter(self, name: str, shape: tuple[int, ...], layer: str) -> str:
        """A stored array of `shape`. Raises ModelError where it is missing (naming the nearest) or of another shape."""
        array = self._available.get(name)
        if array is None:
            raise ModelError(f"layer '{layer}' needs parameter '{name}', which the parameters lack{self._near(name)}")
        if tuple(array.shape) != shape:
            raise ModelError(
                f"layer '{layer}' needs parameter '{name}' of shape {list(shape)}, "
                f"the parameters have {list(array.shape)}"
            )
        return self._use(name, array)

    def _near(self, name: str) -> str:
        near = difflib.get_close_matches(name, self._available, 3, 0.6)
        return f" (nearest: {', '.join(near)})" if near else ""

    def constant(self, name: str, array: np.ndarray) -> str:
        return self._use(name, array)

    def _use(self, name: str, array: np.ndarray) -> str:
        if name not in self._parameters:
            if array.dtype.kind != "f":
                raise ModelError(f"parameter '{name}' is {array.dtype}; only floating point is supported")
            if not np.isfinite(array).all():
                raise ModelError(f"parameter '{name}' holds values that are not finite; the checkpoint is damaged")
            array = np.asarray(array, np.float32).view()
            array.flags.writeable = False
            self._parameters[name] = array
            self._types[name] = TensorType(tuple(array.shape))
        return name

    def append(self, name: str, operator: Operator, inputs: Sequence[str], source: str) -> str:
        """Add a node, under a free name derived from `name`. Raises ModelError where the types do not fit."""
        unique, number = name, 1
        while unique in self._types:
            unique, number = f"{name}_{number}", number + 1
        try:
            inferred = operator.infer(*(self._types[value] for value in inputs))
        except (ModelError, TypeError, ValueError) as error:
            raise ModelError(f"layer '{source}' ({operator.kind}): {error}") from error
        self._types[unique] = inferred
        self._nodes.append(Node(unique, operator, tuple(inputs), source))
        return unique

    def model(self, outputs: tuple[str, ...], notes: tuple[str, ...] = ()) -> Model:
        """The finished model. Raises ModelError where `input_shapes` are not those of its inputs."""
        if isinstance(self._input_shapes, tuple):
            if len(self._inputs) > 1:
                raise ModelError(
                    f"the model has inputs {sorted(self._inputs)}, one shape was given, {list(self._input_shapes)}; "
                    "give each its own, in Python input_shapes={NAME: SHAPE, ...}"
                )
        elif unknown := sorted(self._input_shapes.keys() - self._inputs.keys()):
            raise ModelError(f"the model has no input '{unknown[0]}'; its inputs are {sorted(self._inputs)}")
        return Model(self._name, self._inputs, tuple(self._nodes), self._parameters, outputs, notes=notes)


def recorded_shape(node: SymbolNode) -> tuple[int, ...] | None:
    """The shape that a variable's `__shape__` records; None where it records none or leaves dimensions open (0, -1)."""
    text = node.attributes.get("__shape__", "")
    digits = text.strip("()[] ").replace("L", "").split(",")
    try:
        shape = tuple(int(digit) for digit in digits if digit.strip())
    except ValueError:
        return None
    return shape if shape and min(shape) > 0 else None
