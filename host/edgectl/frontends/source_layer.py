"""A layer of a traced or stored graph under conversion, whichever framework it is from: where its results go."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgectl.errors import ModelError
from edgectl.frontends.graph_builder import GraphBuilder
from edgectl.operators.base import Operator


@dataclass(frozen=True)
class Constant:
    """A stored or computed array under the name that the source gives it."""

    name: str
    array: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    def number(self) -> float | None:
        """The value of an array of one element; None for others."""
        return float(self.array.reshape(-1)[0]) if self.array.size == 1 else None


Value = str | Constant
"""What a layer reads or makes: a value of the graph, by name, or a constant."""


DAMAGE = (ArithmeticError, AttributeError, IndexError, KeyError, TypeError, ValueError)
"""What converters raise on attributes that no exporter writes."""


class SourceLayer:
    """One operator of the source, `kind`, called `label` there."""

    def __init__(self, builder: GraphBuilder, kind: str, label: str) -> None:
        self.builder, self.kind, self.label = builder, kind, label

    def unsupported(self, what: str) -> ModelError:
        return ModelError(f"operator '{self.kind}' of layer '{self.label}': {what}")

    def damaged(self, error: Exception) -> ModelError:
        return self.unsupported(f"its attributes or inputs make no sense ({type(error).__name__}: {error})")

    def shape(self, value: Value) -> tuple[int, ...]:
        return value.shape if isinstance(value, Constant) else self.builder.type(value).shape

    def computed(self, value: Value, what: str = "input") -> str:
        """The name of `value`, which must not be a constant."""
        if isinstance(value, Constant):
            raise self.unsupported(f"its {what} is a constant, '{value.name}'")
        return value

    def stored(self, value: Value, what: str) -> Constant:
        """The constant `value`. Raises ModelError where another layer computes it."""
        if isinstance(value, Constant):
            return value
        raise self.unsupported(f"its {what} is computed by another layer; only stored arrays are supported")

    def emit(self, operator: Operator, *inputs: Value, final: bool = True) -> Value:
        """Append an operator; of constants alone, compute it instead. The `final` one of a layer bears its name."""
        arrays = [value.array for value in inputs if isinstance(value, Constant)]
        if len(arrays) == len(inputs):
            return Constant(self.label, operator.evaluate(*arrays))
        names = [self.builder.constant(v.name, v.array) if isinstance(v, Constant) else v for v in inputs]
        name = self.label if final else f"{self.label}.{operator.kind}"
        return self.builder.append(name, operator, names, self.label)
