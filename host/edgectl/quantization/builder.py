"""An integer Model in the making.

Every value gets one of three forms, made when a reader asks for it: int8 with a scale, an int32 accumulator with a
scale, or float32.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass

import numpy as np

from edgectl.graph import Model, Node
from edgectl.operators.activation import Clip, Relu
from edgectl.operators.base import Operator
from edgectl.operators.lookup import ENTRIES, LOWEST, Lookup
from edgectl.operators.quantization import Dequantize, Quantize, Requantize
from edgectl.quantization.calibration import Observation
from edgectl.quantization.common_scales import common_scales
from edgectl.quantization.fitting import LinearLayer
from edgectl.quantization.scales import best_free_scale, best_scale, power_of_two_ratio, quantized
from edgectl.quantization.suitability import Suitability
from edgectl.quantization.tied_values import tied_values

MAXIMUM_SHIFT = 15
"""Right shifts the hardware does right (vta-facts 3.5)."""
MAXIMUM_SUM_SHIFT = 22
"""Right shifts, in two steps, into int8 from accumulators that fill int32 but for two bits."""
EVERY_INT8 = np.arange(LOWEST, LOWEST + ENTRIES, dtype=np.int16)
"""What the entries of a table are for."""


@dataclass(frozen=True)
class Form:
    """An integer form of a value: the name of the tensor that holds it, and what one unit is worth.

    Where there are `ratios` (positive, one for each channel), a unit is worth `scale` times the channel's. Only readers
    that can multiply them into constants may get such a form (Suitability.takes_ratios).
    """

    name: str
    scale: float
    ratios: np.ndarray | None = None


class IntegerModelBuilder:
    """Collects the nodes and parameters that compute a folded float `model` in integers; `finish` gives the Model.

    `observations` say what each value of `model` looked like. `int8` and `int32` hold the forms made so far; a rule
    that computes a value enters its form there. `layers` are, by the names of their
    weights, those that can be fitted.
    """

    def __init__(self, model: Model, observations: Mapping[str, Observation], in_float: Set[str] = frozenset()) -> None:
        self.model = model
        self.seen = observations
        self.types = model.types()
        self.suitability = Suitability(model, in_float)
        self.int8: dict[str, Form] = {}
        self.int32: dict[str, Form] = {}
        self._common = common_scales(model, observations)
        self._consumers = model.consumers()
        self.layers: dict[str, LinearLayer] = {}
        self._tied = tied_values(model, self.suitability.unary_roots)
        self._nodes: list[Node] = []
        self._parameters = dict(model.parameters)
        self._float: dict[str, str] = {name: name for name in (*model.inputs, *model.parameters)}
        self._fused: set[str] = set()
        self._names = {*model.inputs, *model.parameters, *model.producers()}

    def finish(self) -> Model:
        outputs = tuple(self.as_float(name) for name in self.model.outputs)
        renamed = self._keep_output_names(outputs)
        return self.model.rebuilt(renamed, self._parameters, self.model.outputs)

    def _keep_output_names(self, outputs: tuple[str, ...]) -> list[Node]:
        """Give the tensors that hold the outputs the outputs' own names."""
        new = dict(zip(outputs, self.model.outputs, strict=True))
        # An integer form may carry the bare name; it makes room.
        for node in self._nodes:
            if node.name in self.model.outputs and node.name not in new:
                new[node.name] = self.derived(node.name, "integer")
        return [
            Node(
                new.get(node.name, node.name),
                node.operator,
                tuple(new.get(name, name) for name in node.inputs),
                node.source,
            )
            for node in self._nodes
        ]

    def derived(self, value: str, kind: str) -> str:
        """A name for what is made of `value`; the model's own layers may be called anything."""
        name = f"{value}.{kind}"
        while name in self._names:
            name += "_"
        self._names.add(name)
        return name

    def emit(self, name: str, operator: Operator, inputs: tuple[str, ...], source: str) -> str:
        self._nodes.append(Node(name, operator, inputs, source))
        return name

    def constant(self, node: Node, kind: str, array: np.ndarray) -> str:
        """The name of a new parameter of `node`."""
        name = self.derived(node.name, kind)
        self._parameters[name] = array
        return name

    def is_constant(self, *names: str) -> bool:
        return all(name in self.model.parameters for name in names)

    def is_ready(self, value: str) -> bool:
        return value in self.int8 or value in self.int32 or value in self._float

    def is_fused(self, node: Node) -> bool:
        """Whether a node before already computes what `node` does."""
        return node.name in self._fused

    def chosen_scale(self, value: str, unit: float | None = None, maximum: int | None = None) -> float:
        """`unit` * 2**k for the int8 form of `value`: the scale of the concatenations that it goes into, unless that is
        out of reach (k above `maximum`); else the best for what was observed. Without a unit, any number, but for
        values that are tied to others a power of two."""
        if unit is None and value in self._tied:
            unit = 1.0
        if value in self._common:
            shift = 0 if unit is None else power_of_two_ratio(self._common[value], unit)
            if shift is not None and (maximum is None or shift <= maximum):
                return self._common[value]
        seen = self.seen[value]
        if unit is None:
            return best_free_scale(seen.sample, seen.largest)
        return best_scale(seen.sample, seen.largest, unit)

    def largest(self, value: str) -> float:
        """The largest magnitude that the int8 form of `value` should reach."""
        return max(self.seen[value].largest, 127 * self._common.get(value, 0.0))

    def as_float(self, value: str) -> str:
        """The name of a float32 tensor that holds `value`."""
        if value not in self._float:
            form = self.int32.get(value) or self.int8[value]
            assert form.ratios is None, f"'{value}' is read by what needs one scale"
            self._float[value] = self.emit(self.derived(value, "float"), Dequantize(form.scale), (form.name,), value)
        return self._float[value]

    def as_int8(self, value: str) -> Form:
        """An int8 form of `value`."""
        if value not in self.int8:
            scale = self.chosen_scale(value)
            quantize = Quantize((1.0 / scale,))
            name = self.emit(self.derived(value, "int8"), quantize, (self.as_float(value),), value)
            self.int8[value] = Form(name, scale)
        return self.int8[value]

    def narrowed(self, value: str, unit: float) -> tuple[float, int]:
        """Scale of the int8 form of `value`, and the shift to it from an accumulator in `unit`s.

        Left shifts end where the hardware's do: a finer scale would show nothing that the accumulator holds.
        """
        scale = max(self.chosen_scale(value, unit, MAXIMUM_SHIFT), unit * 2.0**-MAXIMUM_SHIFT)
        return scale, _shift(scale, unit)

    def accumulated(self, value: str, accumulator: Form) -> None:
        """Enter `accumulator`, int32 and just emitted, as `value`, narrowed at once where int8 is all that is read.

        So an accumulator has one reader: the Requantize after it, or a Dequantize.
        """
        if self.suitability.read_as_int8(value):
            self.int8[value] = self.requantize(value, accumulator)
        else:
            self.int32[value] = accumulator

    def requantize(self, value: str, accumulator: Form, bound: float | None = None) -> Form:
        """int32 -> int8 for `value`, clipped to 0..`bound` if there is one. A left shift would show nothing more."""
        unit = accumulator.scale
        scale = max(self.chosen_scale(value, unit, MAXIMUM_SUM_SHIFT), unit)
        clip = Requantize(_shift(scale, unit), -127 if bound is None else 0, upper_bound(bound, scale))
        name = self.emit(self.derived(value, "int8"), clip, (accumulator.name,), value)
        return Form(name, scale, accumulator.ratios)

    def rescaled(self, value: str, node: Node, form: Form, scale: float) -> Form:
        """`form`, the int8 form of `value`, in another scale, for `node`: by a table, whatever their ratio."""
        return self.looked_up(self.derived(value, "rescaled"), node, form, EVERY_INT8 * form.scale, scale)

    def looked_up(self, name: str, node: Node, form: Form, values: np.ndarray, scale: float) -> Form:
        """Emit `name`, which is values[i + 128], rounded to `scale`, where `form`, of int8, is i. For `node`."""
        table = self.constant(node, "table", quantized(values, scale))
        return Form(self.emit(name, Lookup(), (form.name, table), node.label), scale)

    def in_float(self, node: Node) -> None:
        inputs = tuple(self.as_float(name) for name in node.inputs)
        self._float[node.name] = self.emit(node.name, node.operator, inputs, node.source)

    def only_reader(self, value: str) -> Node | None:
        """The single node that reads `value`, None if there are several or it is an output."""
        readers = self._consumers[value]
        return readers[0] if len(readers) == 1 and value not in self.model.outputs else None

    def clip_after(self, value: str) -> tuple[str, float | None]:
        """(the value after a ReLU or Clip(0, h) that alone reads `value`, upper bound): fused; else (value, None)."""
        reader = self.only_reader(value)
        if reader is not None and isinstance(reader.operator, Relu):
            return reader.name, np.inf
        if reader is not None and isinstance(reader.operator, Clip) and reader.operator.low == 0:
            return reader.name, reader.operator.high
        return value, None

    def fuse(self, first: str, last: str) -> None:
        """Mark the nodes after `first` up to `last`, each the only reader of the one before, as computed."""
        while first != last:
            (reader,) = self._consumers[first]
            self._fused.add(reader.name)
            first = reader.name


def _shift(scale: float, unit: float) -> int:
    shift = power_of_two_ratio(scale, unit)
    assert shift is not None, "the scale was chosen as a power of two of the accumulator's"
    return shift


def upper_bound(bound: float | None, scale: float) -> int:
    """The largest int8 of a value of `scale` that is clipped to `bound` (None, infinity: to int8 alone)."""
    return 127 if bound is None else int(min(127, round(bound / scale) if bound < np.inf else 127))
