"""Which layers of a float Model run in integers, and which readers of a value can correct its channels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set

import numpy as np

from edgectl.graph import Model, Node
from edgectl.operators.activation import Clip, Relu
from edgectl.operators.base import TensorType
from edgectl.operators.batch_norm import BatchNorm
from edgectl.operators.convolution import Convolution
from edgectl.operators.dense import Dense
from edgectl.operators.elementwise import Binary
from edgectl.operators.pooling import AveragePool, GlobalPool, MaxPool
from edgectl.operators.shape import Concatenate, Flatten, Pad, Reshape, Slice, Transpose, Upsample
from edgectl.quantization.unary_chains import PRODUCT, SUMS, unary_roots

MOVEMENTS = (Relu, MaxPool, Flatten, Pad, Reshape, Transpose, Slice, Upsample)
"""Operators of one input that keep its scale."""


class Suitability:
    """Answers by the operators alone; whether the scales of two operands fit is the rules' question.

    `unary_roots`: of each operator that is a function of one value alone, that value (see `unary_chains`).
    """

    def __init__(self, model: Model, in_float: Set[str] = frozenset()) -> None:
        """Layers named `in_float` do not run in integers, whatever they are."""
        self._in_float = in_float
        self._outputs = model.outputs
        self._types: Mapping[str, TensorType] = model.types()
        self._parameters: Mapping[str, np.ndarray] = model.parameters
        self._consumers = model.consumers()
        self._producers = model.producers()
        self.unary_roots = unary_roots(model, in_float)
        self._read_as_int8: dict[str, bool] = {}
        # The last first, so that what reads a value is known before it.
        for node in reversed(model.nodes):
            self.read_as_int8(node.name)

    def runs_in_integers(self, node: Node) -> bool:
        """Whether a rule computes `node` from int8 inputs."""
        operator = node.operator
        if self._constant(node.inputs) or node.name in self._in_float:
            return False
        if node.name in self.unary_roots:
            return self._has_table(node)
        if isinstance(operator, Convolution | Dense):
            return self._constant(node.inputs[1:])
        if isinstance(operator, BatchNorm):
            return self._constant(node.inputs[1:]) and len(self._types[node.name].shape) == 4
        if isinstance(operator, Binary):
            a, b = (self._types[name] for name in node.inputs)
            if any(self._constant((name,)) for name in node.inputs):
                return False
            if operator.function == PRODUCT:
                return len(a.shape) == len(b.shape) and self.read_as_int8(node.name)
            return operator.function in SUMS and a == b and len(a.shape) == 4
        if isinstance(operator, GlobalPool):
            return operator.mode == "average"
        if isinstance(operator, AveragePool):
            # All windows must have one divisor.
            return not any(operator.ceil_padding) and (operator.count_include_pad or not any(operator.padding))
        if isinstance(operator, Pad):
            return operator.value == 0
        return isinstance(operator, (*MOVEMENTS, Clip, Concatenate))

    def ends_function(self, node: Node) -> bool:
        """Whether `node` is the last of the operators that are functions of one value: something else reads it too."""
        root = self.unary_roots[node.name]
        return any(self.unary_roots.get(reader.name) != root for reader in self._consumers[node.name])

    def _has_table(self, node: Node) -> bool:
        """Whether what is read of a function of one value is a table: the value is an integer, and so is each reader.

        An operator before the last runs in integers where all that read it do, being in their tables.
        """
        maker = self._producers.get(self.unary_roots[node.name])
        if maker is None or not self.read_as_int8(node.name):
            return False
        # Whether a product is an integer depends on this; where it is none, it is rounded for the table.
        product = isinstance(maker.operator, Binary) and maker.operator.function == PRODUCT
        return product or self.runs_in_integers(maker)

    def read_as_int8(self, value: str) -> bool:
        """Whether everything that comes of `value` needs it as int8 only, as no more than 8 bits are used."""
        if value not in self._read_as_int8:
            self._read_as_int8[value] = self._all_readers(value, self._needs_int8)
        return self._read_as_int8[value]

    def _needs_int8(self, reader: Node) -> bool:
        moves = isinstance(reader.operator, MOVEMENTS) and reader.name not in self.unary_roots
        return self.runs_in_integers(reader) and (not moves or self.read_as_int8(reader.name))

    def takes_ratios(self, value: str) -> bool:
        """Whether all readers of `value` multiply each of its channels by a constant, so that the constant can absorb
        a positive factor per channel; operators that keep channels pass it on."""
        return self._all_readers(value, self._absorbs)

    def _absorbs(self, reader: Node) -> bool:
        if not self.runs_in_integers(reader):
            return False
        if isinstance(reader.operator, Relu | MaxPool | Flatten | GlobalPool | AveragePool):
            return self.takes_ratios(reader.name)
        return isinstance(reader.operator, Convolution | Dense | BatchNorm)

    def _all_readers(self, value: str, question: Callable[[Node], bool]) -> bool:
        readers = self._consumers[value]
        return value not in self._outputs and bool(readers) and all(question(reader) for reader in readers)

    def _constant(self, names: tuple[str, ...]) -> bool:
        return all(name in self._parameters for name in names)
