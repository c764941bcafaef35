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
        return self.input(node.name, shape)

    def input(self, name: str, shape: tuple[int, ...]) -> str:
        """An input of the model, float32 of `shape`."""
        if not shape or min(shape) < 1:
            raise ModelError(f"input '{name}' cannot have shape {list(shape)}: every dimension is at least 1")
        self._inputs[name] = self._types[name] = TensorType(tuple(shape))
        return name

    def input_of(self, name: str, declared: Sequence[int | None]) -> str:
        """An input whose shape a file declares, None for a dimension that it leaves open: a batch is 1 then, others
        are as given. Raises ModelError where a dimension is neither declared nor given, or both and different."""
        given = self._given_shape(name)
        if given is not None and (len(given) != len(declared) or _differ(given[1:], declared[1:])):
            raise ModelError(f"input '{name}' was given shape {list(given)}, the model declares {_shown(declared)}")
        if given is None:
            if None in declared[1:]:
                raise ModelError(
                    f"the model leaves the shape of input '{name}' open, {_shown(declared)}; give it: --shape "
                    f"3,224,224, or in Python input_shapes={{'{name}': (1, 3, 224, 224)}}"
                )
            given = (1, *(size or 0 for size in declared[1:])) if declared else ()
        return self.input(name, (declared[0] or given[0], *given[1:]) if given else ())

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
        """An array under its name; under a free one where the name is that of another array."""
        held = self._parameters.get(name)
        same = held is not None and held.shape == array.shape and np.array_equal(held, array)
        return self._use(name if same or name not in self._types else self.free_name(name), array)

    def free_name(self, name: str) -> str:
        """`name`, or where a value or a stored array has it, with a number behind."""
        unique, number = name, 1
        while unique in self._types or unique in self._available:
            unique, number = f"{name}_{number}", number + 1
        return unique

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
        unique = self.free_name(name)
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


def _differ(given: Sequence[int], declared: Sequence[int | None]) -> bool:
    return any(wanted is not None and wanted != size for size, wanted in zip(given, declared, strict=True))


def _shown(declared: Sequence[int | None]) -> str:
    return f"[{', '.join('?' if size is None else str(size) for size in declared)}]"


def recorded_shape(node: SymbolNode) -> tuple[int, ...] | None:
    """The shape that a variable's `__shape__` records; None where it records none or leaves dimensions open (0, -1)."""
    text = node.attributes.get("__shape__", "")
    digits = text.strip("()[] ").replace("L", "").split(",")
    try:
        shape = tuple(int(digit) for digit in digits if digit.strip())
    except ValueError:
        return None
    return shape if shape and min(shape) > 0 else None
