"""What an MXNet operator's converter sees of a layer: its attributes, operands and where results go."""

from __future__ import annotations

import ast
import math
from collections.abc import Iterable

import numpy as np

from edgectl.errors import ModelError
from edgectl.frontends.graph_builder import GraphBuilder
from edgectl.interchange.symbol_file import Symbol, SymbolNode
from edgectl.operators.base import Operator, TensorType

# Attributes that say how MXNet trains or runs a layer, never what an inference computes. The unadorned user
# attributes are those that MXNet before 0.9 wrote beside the operator's own.
IRRELEVANT_ATTRIBUTES = frozenset({
    "workspace", "cudnn_tune", "cudnn_off", "momentum", "output_mean_var", "use_global_stats", "min_calib_range",
    "max_calib_range", "lr_mult", "wd_mult", "ctx_group", "force_mirroring", "mirror_stage", "num_args",
    "cudnn_algo_fwd", "cudnn_algo_bwd_data", "cudnn_algo_bwd_filter",
})  # fmt: skip
TRUE, FALSE = ("True", "true", "1"), ("False", "false", "0")


class Layer:
    """One node of a symbol under conversion.

    Every attribute must be read or be irrelevant to inference; `unread` names the others, which are unsupported.
    """

    def __init__(
        self, node: SymbolNode, symbol: Symbol, values: dict[tuple[int, int], str], builder: GraphBuilder
    ) -> None:
        self.node, self._symbol, self._values, self._builder = node, symbol, values, builder
        self._read: set[str] = set()

    @property
    def operand_count(self) -> int:
        return len(self.node.inputs)

    def unsupported(self, what: str) -> ModelError:
        return ModelError(f"operator '{self.node.op}' of layer '{self.node.name}': {what}")

    # Operands

    def value(self, index: int = 0) -> str:
        """Name of the tensor that operand `index` reads; a variable without an array becomes an input of the model."""
        if index >= self.operand_count:
            raise self.unsupported(f"has {self.operand_count} operands, needs at least {index + 1}")
        source, output = self.node.inputs[index]
        producer = self._symbol.nodes[source]
        if producer.is_variable:
            return self._builder.variable(producer)
        if (source, output) not in self._values:
            raise self.unsupported(f"reads output {output} of '{producer.name}', which inference does not compute")
        return self._values[source, output]

    def type(self, index: int = 0) -> TensorType:
        return self._builder.type(self.value(index))

    def has_parameter(self, index: int, suffix: str) -> bool:
        """Whether the checkpoint has an array for operand `index`."""
        return self._builder.has_parameter(self.parameter_name(index, suffix))

    def parameter_name(self, index: int, suffix: str) -> str:
        """Name of the array that operand `index` reads.

        MXNet before 0.9 left auxiliary states out of the operands: their name is the layer's and `suffix`.
        """
        if index < self.operand_count:
            return self._symbol.nodes[self.node.inputs[index][0]].name
        return f"{self.node.name}_{suffix}"

    def parameter(self, index: int, suffix: str, shape: tuple[int, ...]) -> str:
        """The array that operand `index` reads, which must have `shape`."""
        if index < self.operand_count and not self._symbol.nodes[self.node.inputs[index][0]].is_variable:
            raise self.unsupported(f"its {suffix} is computed by another layer; only stored arrays are supported")
        return self._builder.parameter(self.parameter_name(index, suffix), shape, self.node.name)

    def constant(self, suffix: str, array: np.ndarray) -> str:
        """A parameter that the checkpoint does not hold."""
        return self._builder.constant(f"{self.node.name}_{suffix}", array)

    # Results

    def emit(self, operator: Operator, *inputs: str, final: bool = True) -> str:
        """Append an operator. The `final` one of a layer bears the layer's name."""
        name = self.node.name if final else f"{self.node.name}_{operator.kind}"
        return self._builder.append(name, operator, inputs, self.node.name)

    def emit_part(self, operator: Operator, part: int) -> str:
        """Append an operator that makes one of several results of the only operand; MXNet numbers them."""
        return self._builder.append(f"{self.node.name}_output{part}", operator, (self.value(),), self.node.name)

    # Attributes

    def text(self, key: str, default: str | None = None, allowed: Iterable[str] = ()) -> str:
        """An attribute as it stands; with `allowed`, one of these."""
        self._read.add(key)
        value = self.node.attributes.get(key, default)
        if value is None:
            raise self.unsupported(f"attribute '{key}' is missing")
        choices = tuple(allowed)
        if choices and value not in choices:
            raise self.unsupported(f"{key}={value} is not supported (only {', '.join(choices)})")
        return value

    def flag(self, key: str, default: bool) -> bool:
        return self.text(key, str(default), (*TRUE, *FALSE)) in TRUE

    def number(self, key: str, default: float | None = None, finite: bool = True) -> float:
        text = self.text(key, None if default is None else repr(default))
        try:
            value = float(text)
        except ValueError:
            raise self.unsupported(f"{key}={text} is not a number") from None
        if math.isnan(value) or (finite and math.isinf(value)):
            raise self.unsupported(f"{key}={text} is not finite")
        return value

    def integer(self, key: str, default: int | None = None, least: int | None = None) -> int:
        value = self.number(key, default)
        if value != int(value):
            raise self.unsupported(f"{key}={value} is not an integer")
        self._require_least(key, (int(value),), least)
        return int(value)

    def _require_least(self, key: str, values: tuple[int, ...], least: int | None) -> None:
        if least is not None and min(values) < least:
            raise self.unsupported(f"{key}={self.node.attributes.get(key)} must be at least {least}")

    def integers(self, key: str, default: str | None = None) -> tuple[int, ...]:
        """A tuple such as "(1, 2)", "[1, 2]" or a single integer."""
        text = self.text(key, default)
        try:
            value = ast.literal_eval(text.replace("L", ""))
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            value = None
        items = value if isinstance(value, (tuple, list)) else (value,)
        if not all(type(item) is int for item in items):
            raise self.unsupported(f"{key}={text} is not a tuple of integers")
        return tuple(items)

    def bounds(self, key: str) -> tuple[int | None, ...]:
        """A tuple such as "(None, 2)", of integers or None; empty where the attribute is absent."""
        text = self.text(key, "()")
        try:
            value = ast.literal_eval(text.replace("L", ""))
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            value = "?"
        items = value if isinstance(value, (tuple, list)) else (value,)
        if not all(item is None or type(item) is int for item in items):
            raise self.unsupported(f"{key}={text} is not a tuple of integers or None")
        return tuple(items)

    def pair(self, key: str, default: tuple[int, int] | None = None, least: int = 1) -> tuple[int, int]:
        """Two integers, (height, width), of at least `least`; an empty tuple stands for the default, as in MXNet."""
        values = self.integers(key, None if default is None else str(default)) or default
        if values is None or len(values) != 2:
            raise self.unsupported(f"{key}={values} is not a pair; only two-dimensional images are supported")
        self._require_least(key, values, least)
        return values[0], values[1]

    def absent(self, key: str) -> bool:
        """Whether an optional attribute is not given or None."""
        self._read.add(key)
        return self.node.attributes.get(key, "None") == "None"

    def ignore(self, *keys: str) -> None:
        """Accept attributes that do not matter to what an inference computes."""
        self._read.update(keys)

    def unread(self) -> list[str]:
        """Attributes, as key=value, that no converter understood. Users' own are `__named__` or multipliers."""
        keys = self.node.attributes.keys() - self._read - IRRELEVANT_ATTRIBUTES
        unknown = [key for key in sorted(keys) if not key.startswith("__") and not key.endswith("_mult")]
        return [f"{key}={self.node.attributes[key]}" for key in unknown]
