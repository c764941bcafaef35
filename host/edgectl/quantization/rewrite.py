"""Rewrites a floating-point Model into integers.

Every value gets one of three forms, made when a reader asks for it: int8 with a scale, an int32 accumulator with a
scale, or float32. An operator with an integer rule below reads and makes integer forms; any other runs in floating
point between a Dequantize and a Quantize, so every network comes through.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from edgectl.graph import Model, Node
from edgectl.operators.activation import Clip, Relu
from edgectl.operators.base import Operator
from edgectl.operators.batch_norm import BatchNorm
from edgectl.operators.convolution import Convolution
from edgectl.operators.dense import Dense
from edgectl.operators.elementwise import Binary
from edgectl.operators.integer import (
    IntegerAdd,
    IntegerAffine,
    IntegerConvolution,
    IntegerDense,
    IntegerPoolSum,
    IntegerWindowSum,
)
from edgectl.operators.pooling import AveragePool, GlobalPool, MaxPool
from edgectl.operators.quantization import Dequantize, Quantize, Requantize
from edgectl.operators.shape import Concatenate, Flatten, Reshape, Transpose
from edgectl.quantization.calibration import Observation
from edgectl.quantization.scales import best_scale, power_of_two_ratio, quantized

AFFINE_BITS = 14
"""Multipliers of an IntegerAffine use about this many bits: int8 times that, summed, stays far inside int32."""
LARGEST_OFFSET = 2.0**100
"""An input's offset by which a Quantize can still multiply in float32."""
MAXIMUM_SHIFT = 15
"""Right shifts the hardware does right (vta-facts 3.5)."""
MAXIMUM_CPU_SHIFT = 22
"""Right shifts into int8 from accumulators that fill int32 but for two bits."""


@dataclass(frozen=True)
class Form:
    """An integer form of a value: the name of the tensor that holds it, and what one unit is worth."""

    name: str
    scale: float


class Rewriter:
    """One pass over a folded float model. `run` gives the integer model."""

    def __init__(self, model: Model, observations: Mapping[str, Observation]) -> None:
        self._model = model
        self._seen = observations
        self._types = model.types()
        self._consumers = model.consumers()
        self._nodes: list[Node] = []
        self._parameters = dict(model.parameters)
        self._int8: dict[str, Form] = {}
        self._int32: dict[str, Form] = {}
        self._float: dict[str, str] = {name: name for name in (*model.inputs, *model.parameters)}
        self._done: set[str] = set()
        self._names = {*model.inputs, *model.parameters, *model.producers()}
        self._rules: dict[type[Operator], Callable[[Node], bool]] = {
            Convolution: self._convolution,
            Dense: self._dense,
            BatchNorm: self._batch_norm,
            Binary: self._add,
            Relu: self._relu,
            MaxPool: self._same_scale,
            Flatten: self._same_scale,
            Reshape: self._same_scale,
            Transpose: self._same_scale,
            Concatenate: self._concatenate,
            GlobalPool: self._global_average,
            AveragePool: self._average,
        }

    def run(self) -> Model:
        for node in self._model.nodes:
            if node.name in self._done:
                continue
            rule = self._rules.get(type(node.operator))
            if rule is None or self._is_constant(*node.inputs) or not rule(node):
                self._in_float(node)
        outputs = tuple(self._as_float(name) for name in self._model.outputs)
        renamed = self._keep_output_names(outputs)
        return self._model.rebuilt(renamed, self._parameters, self._model.outputs)

    def _keep_output_names(self, outputs: tuple[str, ...]) -> list[Node]:
        """Give the tensors that hold the outputs the outputs' own names."""
        new = dict(zip(outputs, self._model.outputs, strict=True))
        # An integer form may carry the bare name; it makes room.
        for node in self._nodes:
            if node.name in self._model.outputs and node.name not in new:
                new[node.name] = self._derived(node.name, "integer")
        return [
            Node(
                new.get(node.name, node.name),
                node.operator,
                tuple(new.get(name, name) for name in node.inputs),
                node.source,
            )
            for node in self._nodes
        ]

    def _derived(self, value: str, kind: str) -> str:
        """A name for what is made of `value`; the model's own layers may be called anything."""
        name = f"{value}.{kind}"
        while name in self._names:
            name += "_"
        self._names.add(name)
        return name

    def _emit(self, name: str, operator: Operator, inputs: tuple[str, ...], source: str) -> str:
        self._nodes.append(Node(name, operator, inputs, source))
        return name

    def _constant(self, node: Node, kind: str, array: np.ndarray) -> str:
        name = self._derived(node.name, kind)
        self._parameters[name] = array
        return name

    def _is_constant(self, *names: str) -> bool:
        return all(name in self._model.parameters for name in names)

    def _is_integer(self, value: str) -> bool:
        return value in self._int8 or value in self._int32

    def _observed_scale(self, value: str, unit: float = 1.0) -> float:
        seen = self._seen[value]
        return best_scale(seen.sample, seen.largest, unit)

    def _as_float(self, value: str) -> str:
        """The name of a float32 tensor that holds `value`."""
        if value not in self._float:
            form = self._int32.get(value) or self._int8[value]
            self._float[value] = self._emit(self._derived(value, "float"), Dequantize(form.scale), (form.name,), value)
        return self._float[value]

    def _as_int8(self, value: str) -> Form:
        """An int8 form of `value`."""
        if value in self._int8:
            return self._int8[value]
        if value in self._int32:
            self._int8[value] = self._requantize(value, self._int32[value], -127)
        else:
            scale = self._observed_scale(value)
            name = self._emit(self._derived(value, "int8"), Quantize((1.0 / scale,)), (self._float[value],), value)
            self._int8[value] = Form(name, scale)
        return self._int8[value]

    def _narrowed(self, value: str, unit: float) -> tuple[float, int]:
        """Scale of the int8 form of `value` by its observed range, and the shift to it from an accumulator in `unit`s.

        Left shifts end where the hardware's do: a finer scale would show nothing that the accumulator holds.
        """
        scale = max(self._observed_scale(value, unit), unit * 2.0**-MAXIMUM_SHIFT)
        shift = power_of_two_ratio(scale, unit)
        assert shift is not None, "the scale was chosen as a power of two of the accumulator's"
        return scale, shift

    def _requantize(self, value: str, accumulator: Form, low: int) -> Form:
        """int32 -> int8 for `value`."""
        scale, shift = self._narrowed(value, accumulator.scale)
        name = self._emit(self._derived(value, "int8"), Requantize(shift, low), (accumulator.name,), value)
        return Form(name, scale)

    def _in_float(self, node: Node) -> bool:
        inputs = tuple(self._as_float(name) for name in node.inputs)
        self._float[node.name] = self._emit(node.name, node.operator, inputs, node.source)
        return True

    def _only_reader(self, value: str) -> Node | None:
        """The single node that reads `value`, None if there are several or it is an output."""
        readers = self._consumers[value]
        return readers[0] if len(readers) == 1 and value not in self._model.outputs else None

    def _clip_after(self, value: str) -> tuple[str, float | None]:
        """(the value after a ReLU or Clip(0, h) that alone reads `value`, upper bound): fused; else (value, None)."""
        reader = self._only_reader(value)
        if reader is not None and isinstance(reader.operator, Relu):
            return reader.name, np.inf
        if reader is not None and isinstance(reader.operator, Clip) and reader.operator.low == 0:
            return reader.name, reader.operator.high
        return value, None

    def _convolution(self, node: Node) -> bool:
        """Convolution [+ residual] [ReLU]: one IntegerConvolution."""
        operator = node.operator
        assert isinstance(operator, Convolution)
        if not self._is_constant(*node.inputs[1:]):
            return False
        x = self._as_int8(node.inputs[0])
        weight = self._model.parameters[node.inputs[1]]
        value, residual = node.name, None
        add = self._only_reader(value)
        other = self._residual(add, value) if add is not None else None
        results = (value, other, add.name) if add is not None and other is not None else (value,)
        weight_scale = self._reaching(best_scale(weight, float(np.abs(weight).max())), x, MAXIMUM_SHIFT, *results)
        scale = x.scale * weight_scale
        if add is not None and other is not None:
            form = self._as_int8(other)
            ratio = power_of_two_ratio(form.scale, scale)
            if ratio is not None and -MAXIMUM_SHIFT <= ratio <= MAXIMUM_SHIFT:
                value, residual = add.name, (form, ratio)
        value, bound = self._clip_after(value)
        out_scale, shift = self._narrowed(value, scale)
        integer = IntegerConvolution(
            operator.strides,
            operator.padding,
            operator.dilation,
            operator.groups,
            shift,
            low=-127 if bound is None else 0,
            high=_upper(bound, out_scale),
            residual_shift=residual[1] if residual else 0,
        )
        inputs = [
            x.name,
            self._constant(node, "weight_int8", quantized(weight, weight_scale)),
            self._constant(node, "bias_int32", self._bias(node, scale, len(weight))),
        ]
        if residual is not None:
            inputs.append(residual[0].name)
        self._int8[value] = Form(self._emit(value, integer, tuple(inputs), node.label), out_scale)
        self._finish_chain(node.name, value)
        return True

    def _residual(self, add: Node, value: str) -> str | None:
        """What `add` adds to `value`, if that is ready and of the same type."""
        if not isinstance(add.operator, Binary) or add.operator.function != "add":
            return None
        other = add.inputs[1] if add.inputs[0] == value else add.inputs[0]
        ready = other in self._int8 or other in self._int32 or other in self._float
        fits = other != value and not self._is_constant(other) and self._types[other] == self._types[value]
        return other if ready and fits else None

    def _reaching(self, weight_scale: float, x: Form, shift: int, *results: str) -> float:
        """`weight_scale`, or a coarser one where a right `shift` could not bring accumulators of `results` into int8.

        Such weights are small beside a bias or a residual, or so many that their rounding averages out.
        """
        largest = max(self._seen[value].largest for value in results)
        finest = largest / (127 * 2.0**shift * x.scale)
        return weight_scale if weight_scale >= finest else 2.0 ** math.ceil(math.log2(finest))

    def _finish_chain(self, first: str, last: str) -> None:
        """Mark the nodes fused between `first` and `last` as done."""
        while first != last:
            (reader,) = self._consumers[first]
            self._done.add(reader.name)
            first = reader.name

    def _bias(self, node: Node, scale: float, channels: int) -> np.ndarray:
        if len(node.inputs) < 3:
            return np.zeros(channels, np.int32)
        bias = np.rint(self._model.parameters[node.inputs[2]].astype(np.float64) / scale)
        return np.clip(bias, -(2**30), 2**30).astype(np.int32)

    def _dense(self, node: Node) -> bool:
        if not self._is_constant(*node.inputs[1:]):
            return False
        x = self._as_int8(node.inputs[0])
        weight = self._model.parameters[node.inputs[1]]
        weight_scale = self._reaching(float(np.abs(weight).max()) / 127 or 1.0, x, MAXIMUM_CPU_SHIFT, node.name)
        scale = x.scale * weight_scale
        inputs = (
            x.name,
            self._constant(node, "weight_int8", quantized(weight, weight_scale)),
            self._constant(node, "bias_int32", self._bias(node, scale, len(weight))),
        )
        name = self._emit(self._derived(node.name, "int32"), IntegerDense(), inputs, node.label)
        self._int32[node.name] = Form(name, scale)
        value, bound = self._clip_after(node.name)
        if bound == np.inf:
            self._int8[value] = self._requantize(value, self._int32[node.name], 0)
            self._finish_chain(node.name, value)
        return True

    def _batch_norm(self, node: Node) -> bool:
        """Stand-alone batch normalisation [ReLU]: per-channel multiply-add; on the input, part of its quantization."""
        operator = node.operator
        assert isinstance(operator, BatchNorm)
        if not self._is_constant(*node.inputs[1:]) or len(self._types[node.name].shape) != 4:
            return False
        gain, offset = operator.affine(*(self._model.parameters[name].astype(np.float64) for name in node.inputs[1:]))
        # A channel that is nearly constant has no offset that float32 could hold.
        if node.inputs[0] in self._model.inputs and (np.abs(gain) * LARGEST_OFFSET > np.abs(offset)).all():
            scale = self._observed_scale(node.name)
            quantize = Quantize(tuple((gain / scale).tolist()), tuple((-offset / gain).tolist()))
            self._int8[node.name] = Form(self._emit(node.name, quantize, (node.inputs[0],), node.label), scale)
            return True
        x = self._as_int8(node.inputs[0])
        value, bound = self._clip_after(node.name)
        scale = self._observed_scale(value)
        factors = gain * x.scale / scale
        largest = max(float(np.abs(factors).max()), float(np.abs(offset).max()) / scale / 256, 2.0**-AFFINE_BITS)
        shift = AFFINE_BITS - 1 - int(np.floor(np.log2(largest)))
        shift = min(max(shift, 0), 24)
        inputs = (
            x.name,
            self._constant(node, "multiplier", np.rint(factors * 2.0**shift).astype(np.int32)),
            self._constant(node, "offset", np.rint(offset / scale * 2.0**shift).astype(np.int32)),
        )
        affine = IntegerAffine(shift, low=-127 if bound is None else 0, high=_upper(bound, scale))
        self._int8[value] = Form(self._emit(value, affine, inputs, node.label), scale)
        self._finish_chain(node.name, value)
        return True

    def _add(self, node: Node) -> bool:
        """Addition of two int8 tensors [ReLU]."""
        operator = node.operator
        assert isinstance(operator, Binary)
        a, b = node.inputs
        same = self._types[a] == self._types[b] and len(self._types[a].shape) == 4
        if operator.function != "add" or not same or self._is_constant(a) or self._is_constant(b):
            return False
        first, second = self._as_int8(a), self._as_int8(b)
        ratio = power_of_two_ratio(first.scale, second.scale)
        if ratio is None or abs(ratio) > MAXIMUM_SHIFT:
            return False
        value, bound = self._clip_after(node.name)
        unit = min(first.scale, second.scale)
        scale, shift = self._narrowed(value, unit)
        add = IntegerAdd(
            max(ratio, 0), max(-ratio, 0), shift, low=-127 if bound is None else 0, high=_upper(bound, scale)
        )
        self._int8[value] = Form(self._emit(value, add, (first.name, second.name), node.label), scale)
        self._finish_chain(node.name, value)
        return True

    def _relu(self, node: Node) -> bool:
        if not self._is_integer(node.inputs[0]):
            return False
        x = self._as_int8(node.inputs[0])
        self._int8[node.name] = Form(self._emit(node.name, Requantize(0, 0, 127), (x.name,), node.label), x.scale)
        return True

    def _same_scale(self, node: Node) -> bool:
        """Operators that only move or select values."""
        if not self._is_integer(node.inputs[0]):
            return False
        x = self._as_int8(node.inputs[0])
        self._int8[node.name] = Form(self._emit(node.name, node.operator, (x.name,), node.label), x.scale)
        return True

    def _concatenate(self, node: Node) -> bool:
        """Parts are shifted to the coarsest scale."""
        if not all(self._is_integer(name) for name in node.inputs):
            return False
        forms = [self._as_int8(name) for name in node.inputs]
        coarsest = max(form.scale for form in forms)
        shifts = [power_of_two_ratio(coarsest, form.scale) for form in forms]
        if any(shift is None or shift > MAXIMUM_SHIFT for shift in shifts):
            return False
        parts = []
        for number, (form, shift) in enumerate(zip(forms, shifts, strict=True)):
            parts.append(
                form.name
                if not shift
                else self._emit(self._derived(node.name, f"part{number}"), Requantize(shift), (form.name,), node.label)
            )
        self._int8[node.name] = Form(self._emit(node.name, node.operator, tuple(parts), node.label), coarsest)
        return True

    def _global_average(self, node: Node) -> bool:
        """A sum; the division by the number of pixels moves into the scale."""
        operator = node.operator
        assert isinstance(operator, GlobalPool)
        if operator.mode != "average" or not self._is_integer(node.inputs[0]):
            return False
        x = self._as_int8(node.inputs[0])
        height, width = self._types[node.inputs[0]].shape[2:]
        name = self._emit(self._derived(node.name, "sum"), IntegerPoolSum(), (x.name,), node.label)
        self._int32[node.name] = Form(name, x.scale / (height * width))
        return True

    def _average(self, node: Node) -> bool:
        """Window sums, the divisor in the scale, where all windows have the same one."""
        operator = node.operator
        assert isinstance(operator, AveragePool)
        uniform = not any(operator.ceil_padding) and (operator.count_include_pad or not any(operator.padding))
        if not self._is_integer(node.inputs[0]) or not uniform:
            return False
        x = self._as_int8(node.inputs[0])
        window = IntegerWindowSum(operator.kernel, operator.strides, operator.padding)
        name = self._emit(self._derived(node.name, "sum"), window, (x.name,), node.label)
        self._int32[node.name] = Form(name, x.scale / (operator.kernel[0] * operator.kernel[1]))
        return True


def _upper(bound: float | None, scale: float) -> int:
    return 127 if bound is None else int(min(127, round(bound / scale) if bound < np.inf else 127))
