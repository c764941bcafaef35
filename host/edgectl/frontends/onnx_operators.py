"""ONNX's operators by name: CONVERTERS says how each becomes operators of the graph.

To add one, write a converter (layer -> its result or results) and give it its names in the table's decorator. Operators
that changed take their attributes from operands too, and their defaults by `layer.opset`: versions 7 and later.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from edgectl.frontends import compositions as compose
from edgectl.frontends.graph_builder import GraphBuilder
from edgectl.frontends.source_layer import Constant, SourceLayer, Value
from edgectl.operators.activation import Clip, Erf, Relu, Sigmoid, Softmax, Tanh
from edgectl.operators.base import Padding
from edgectl.operators.elementwise import Scalar
from edgectl.operators.local_response import LocalResponseNorm
from edgectl.operators.pooling import GlobalPool
from edgectl.operators.shape import Pad
from edgectl.registration import registering

Result = Value | list[Value]
FLOAT_TYPES = frozenset({1, 10, 11, 16})
"""ONNX's numbers of float, float16, double and bfloat16."""


class OnnxLayer(SourceLayer):
    """One node with so many `results`. `operands` are its inputs (None: left out), `attributes` Python's values by
    name, each of which must be read or not matter; `unread` names the others."""

    def __init__(
        self, builder: GraphBuilder, kind: str, label: str, operands: Sequence[Value | None],
        attributes: Mapping[str, Any], opset: int, results: int,
    ) -> None:  # fmt: skip
        super().__init__(builder, kind, label)
        self.operands, self.opset, self.results, self._attributes = operands, opset, results, attributes
        self._read: set[str] = set()

    def has(self, index: int) -> bool:
        return index < len(self.operands) and self.operands[index] is not None

    def value(self, index: int = 0) -> Value:
        found = self.operands[index] if index < len(self.operands) else None
        if found is None:
            raise self.unsupported(f"has {len(self.operands)} operands, needs operand {index}")
        return found

    def optional(self, index: int) -> Value | None:
        return self.value(index) if self.has(index) else None

    def attribute(self, name: str, default: Any = None) -> Any:
        self._read.add(name)
        value = self._attributes.get(name, default)
        return value.decode(errors="replace") if isinstance(value, bytes) else value

    def constants(self, index: int, attribute: str) -> list[int] | None:
        """Integers that older versions have as an attribute and newer ones as an operand; None: not given."""
        if self.has(index):
            return [int(item) for item in self.stored(self.value(index), attribute).array.reshape(-1)]
        found = self.attribute(attribute)
        return None if found is None else [int(item) for item in found]

    def limit(self, index: int, attribute: str, default: float) -> float:
        """A number, as `constants`."""
        if self.has(index):
            number = self.stored(self.value(index), attribute).number()
            if number is None:
                raise self.unsupported(f"its {attribute} is not one number")
            return number
        return float(self.attribute(attribute, default))

    def pair(self, name: str, default: Sequence[int] | None = (1, 1)) -> tuple[int, int]:
        found = self.attribute(name) or default
        if found is None or len(found) != 2:
            raise self.unsupported(f"{name}={found} is no pair; only two-dimensional images are supported")
        return int(found[0]), int(found[1])

    def require(self, name: str, *allowed: Any) -> None:
        """The attribute is absent or one of `allowed`."""
        found = self.attribute(name, allowed[0])
        if found not in allowed:
            raise self.unsupported(f"{name}={found} is not supported (only {', '.join(map(str, allowed))})")

    def ignore(self, *names: str) -> None:
        """Accept attributes that do not matter to what an inference computes."""
        self._read.update(names)

    def unread(self) -> list[str]:
        return [f"{name}={value}" for name, value in self._attributes.items() if name not in self._read]


Converter = Callable[[OnnxLayer], Result]
CONVERTERS: dict[str, Converter] = {}
"""ONNX operator -> converter."""
converts = registering(CONVERTERS)
"""Enters a converter into the table under ONNX's names."""


# Layers with parameters


@converts("Conv")
def convolution(layer: OnnxLayer) -> Result:
    weight = layer.value(1)
    kernel = layer.shape(weight)[2:]
    given = tuple(layer.attribute("kernel_shape", kernel))
    if given != tuple(kernel):
        raise layer.unsupported(f"kernel_shape={list(given)}, but its weights are {list(layer.shape(weight))}")
    strides, dilation = layer.pair("strides"), layer.pair("dilations")
    padding = _padding(layer, kernel, strides, dilation)
    groups = int(layer.attribute("group", 1))
    return compose.convolution(layer, layer.value(), weight, layer.optional(2), strides, padding, dilation, groups)


def _padding(layer: OnnxLayer, kernel: Sequence[int], strides: Sequence[int], dilation: Sequence[int]) -> Padding:
    """The padding that auto_pad means for this input, or `pads`."""
    kind = layer.attribute("auto_pad", "NOTSET")
    if kind in ("NOTSET", ""):
        pads = tuple(int(pad) for pad in layer.attribute("pads", (0, 0, 0, 0)))
        if len(pads) != 4:
            raise layer.unsupported(f"pads={list(pads)} are not of a two-dimensional image")
        return pads[0], pads[1], pads[2], pads[3]
    layer.ignore("pads")
    if kind == "VALID":
        return 0, 0, 0, 0
    if kind not in ("SAME_UPPER", "SAME_LOWER"):
        raise layer.unsupported(f"auto_pad={kind} is not known")
    shape, before, after = compose.image_shape(layer, layer.value()), [], []
    for size, extent, stride, step in zip(shape[2:], kernel, strides, dilation, strict=True):
        total = max((-(-size // stride) - 1) * stride + step * (extent - 1) + 1 - size, 0)
        smaller, larger = total // 2, total - total // 2
        before.append(smaller if kind == "SAME_UPPER" else larger)
        after.append(larger if kind == "SAME_UPPER" else smaller)
    return before[0], before[1], after[0], after[1]


@converts("Gemm")
def general_product(layer: OnnxLayer) -> Result:
    if layer.attribute("transA", 0):
        raise layer.unsupported("transA=1 is not supported, as it moves the batch")
    alpha, beta = float(layer.attribute("alpha", 1.0)), float(layer.attribute("beta", 1.0))
    weight = layer.stored(layer.value(1), "second matrix")
    array = weight.array if layer.attribute("transB", 0) else weight.array.T
    scaled = Constant(weight.name, array if alpha == 1 else (array * array.dtype.type(alpha)))
    bias: Value | None = None
    if layer.has(2) and beta != 0:
        stored = layer.stored(layer.value(2), "bias")
        bias = stored if beta == 1 else Constant(stored.name, stored.array * stored.array.dtype.type(beta))
    return compose.dense(layer, layer.value(), scaled, bias)


@converts("MatMul")
def matrix_product(layer: OnnxLayer) -> Result:
    weight = layer.stored(layer.value(1), "second matrix")
    if len(weight.shape) != 2:
        raise layer.unsupported(f"a second matrix of shape {list(weight.shape)} is not supported")
    return compose.dense(layer, layer.value(), Constant(weight.name, weight.array.T), None)


@converts("BatchNormalization")
def batch_norm(layer: OnnxLayer) -> Result:
    layer.require("training_mode", 0)
    layer.require("spatial", 1)
    arrays = [layer.value(index) for index in range(1, 5)]
    gamma, beta, mean, variance = arrays
    epsilon, momentum = layer.attribute("epsilon", 1e-5), layer.attribute("momentum", 0.9)
    return compose.batch_norm(layer, layer.value(), gamma, beta, mean, variance, epsilon, momentum)


@converts("LRN")
def local_response_norm(layer: OnnxLayer) -> Result:
    size = int(layer.attribute("size"))
    if size % 2 == 0:
        raise layer.unsupported(f"size={size} is not supported (only odd numbers)")
    alpha, beta = float(layer.attribute("alpha", 1e-4)), float(layer.attribute("beta", 0.75))
    return layer.emit(LocalResponseNorm(size, alpha, beta, float(layer.attribute("bias", 1.0))), layer.value())


# Activations


@converts("Relu")
def relu(layer: OnnxLayer) -> Result:
    return layer.emit(Relu(), layer.value())


@converts("Clip")
def clip(layer: OnnxLayer) -> Result:
    low, high = layer.limit(1, "min", -math.inf), layer.limit(2, "max", math.inf)
    if low == 0 and high > float(np.finfo(np.float32).max) / 2:
        return layer.emit(Relu(), layer.value())
    return layer.emit(Clip(low, high), layer.value())


@converts("Sigmoid")
def sigmoid(layer: OnnxLayer) -> Result:
    return layer.emit(Sigmoid(), layer.value())


@converts("Tanh")
def tanh(layer: OnnxLayer) -> Result:
    return layer.emit(Tanh(), layer.value())


@converts("HardSigmoid")
def hard_sigmoid(layer: OnnxLayer) -> Result:
    slope, offset = float(layer.attribute("alpha", 0.2)), float(layer.attribute("beta", 0.5))
    return compose.hard_sigmoid(layer, layer.value(), slope, offset)


@converts("HardSwish")
def hard_swish(layer: OnnxLayer) -> Result:
    return compose.hard_swish(layer, layer.value())


@converts("Swish")
def swish(layer: OnnxLayer) -> Result:
    layer.require("alpha", 1.0)
    return compose.silu(layer, layer.value())


@converts("Gelu")
def gelu(layer: OnnxLayer) -> Result:
    exact = layer.attribute("approximate", "none") != "tanh"
    return (compose.gelu if exact else compose.gelu_tanh)(layer, layer.value())


@converts("Erf")
def error_function(layer: OnnxLayer) -> Result:
    return layer.emit(Erf(), layer.value())


@converts("LeakyRelu")
def leaky_relu(layer: OnnxLayer) -> Result:
    return compose.leaky_relu(layer, layer.value(), float(layer.attribute("alpha", 0.01)))


@converts("PRelu")
def prelu(layer: OnnxLayer) -> Result:
    return compose.prelu(layer, layer.value(), layer.stored(layer.value(1), "slope"))


@converts("Softmax")
def softmax(layer: OnnxLayer) -> Result:
    x, shape = layer.value(), layer.shape(layer.value())
    axis = int(layer.attribute("axis", -1 if layer.opset >= 13 else 1)) % len(shape)
    if layer.opset >= 13 or len(shape) == 2:
        return layer.emit(Softmax(axis), x)
    if axis != 1:
        raise layer.unsupported(f"axis={axis} of shape {list(shape)} is not supported in version {layer.opset}")
    # Before version 13 it is over all axes from `axis` on.
    flat = compose.reshape(layer, x, (shape[0], -1))
    return compose.reshape(layer, layer.emit(Softmax(1), flat), shape)


# Arithmetic


FUNCTIONS = {
    "Add": "add", "Sum": "add", "Sub": "subtract", "Mul": "multiply", "Div": "divide", "Max": "maximum",
    "Min": "minimum",
}  # fmt: skip


@converts(*FUNCTIONS)
def arithmetic(layer: OnnxLayer) -> Result:
    result = layer.value()
    for index in range(1, len(layer.operands)):
        last = index == len(layer.operands) - 1
        result = compose.binary(layer, FUNCTIONS[layer.kind], result, layer.value(index), final=last)
    return result


@converts("Neg")
def negative(layer: OnnxLayer) -> Result:
    return layer.emit(Scalar("multiply", -1.0), layer.value())


@converts("Pow")
def power(layer: OnnxLayer) -> Result:
    exponent = layer.stored(layer.value(1), "exponent").number()
    if exponent != 2:
        raise layer.unsupported(f"an exponent of {exponent} is not supported (only 2)")
    return compose.binary(layer, "multiply", layer.value(), layer.value())


# Pooling


@converts("MaxPool")
def max_pool(layer: OnnxLayer) -> Result:
    layer.require("storage_order", 0)
    kernel, strides, dilation = layer.pair("kernel_shape", None), layer.pair("strides"), layer.pair("dilations")
    padding = _padding(layer, kernel, strides, dilation)
    return compose.max_pool(layer, layer.value(), kernel, strides, padding, dilation, _ceil(layer))


@converts("AveragePool")
def average_pool(layer: OnnxLayer) -> Result:
    kernel, strides = layer.pair("kernel_shape", None), layer.pair("strides")
    layer.require("dilations", [1, 1], (1, 1))
    padding = _padding(layer, kernel, strides, (1, 1))
    count = bool(layer.attribute("count_include_pad", 0))
    return compose.average_pool(layer, layer.value(), kernel, strides, padding, _ceil(layer), count)


def _ceil(layer: OnnxLayer) -> bool:
    ceil = bool(layer.attribute("ceil_mode", 0))
    return ceil and not str(layer.attribute("auto_pad", "NOTSET")).startswith("SAME")


@converts("GlobalAveragePool")
def global_average_pool(layer: OnnxLayer) -> Result:
    return layer.emit(GlobalPool("average"), layer.value())


@converts("GlobalMaxPool")
def global_max_pool(layer: OnnxLayer) -> Result:
    return layer.emit(GlobalPool("max"), layer.value())


@converts("ReduceMean", "ReduceMax")
def reduction(layer: OnnxLayer) -> Result:
    axes, keep = layer.constants(1, "axes"), bool(layer.attribute("keepdims", 1))
    if axes is None and layer.attribute("noop_with_empty_axes", 0):
        return layer.value()
    over = range(len(layer.shape(layer.value()))) if axes is None else axes
    reduce = compose.mean if layer.kind == "ReduceMean" else compose.maximum
    layer.ignore("noop_with_empty_axes")
    return reduce(layer, layer.value(), over, keep)


# Shapes


@converts("Shape")
def shape(layer: OnnxLayer) -> Result:
    extents = layer.shape(layer.value())
    chosen = extents[slice(layer.attribute("start", 0), layer.attribute("end"))]
    return Constant(layer.label, np.array(chosen, np.int64))


@converts("Size")
def size(layer: OnnxLayer) -> Result:
    return Constant(layer.label, np.array(math.prod(layer.shape(layer.value())), np.int64))


@converts("Flatten")
def flatten(layer: OnnxLayer) -> Result:
    extents = layer.shape(layer.value())
    axis = int(layer.attribute("axis", 1))
    axis = axis + len(extents) if axis < 0 else axis
    return compose.reshape(layer, layer.value(), (math.prod(extents[:axis]), math.prod(extents[axis:])))


@converts("Reshape")
def reshape(layer: OnnxLayer) -> Result:
    extents = layer.shape(layer.value())
    codes = layer.constants(1, "shape")
    if codes is None:
        raise layer.unsupported("it has no shape")
    if not layer.attribute("allowzero", 0):
        if any(code == 0 and place >= len(extents) for place, code in enumerate(codes)):
            raise layer.unsupported(f"shape={codes} does not fit an input of shape {list(extents)}")
        codes = [extents[place] if code == 0 else code for place, code in enumerate(codes)]
    return compose.reshape(layer, layer.value(), codes)


@converts("Upsample", "Resize")
def upsample(layer: OnnxLayer) -> Result:
    """Of pixels that are repeated a whole number of times, all conventions but one say the same."""
    layer.require("mode", "nearest")
    layer.ignore("cubic_coeff_a", "exclude_outside", "extrapolation_value", "antialias", "keep_aspect_ratio_policy")
    place = layer.attribute("coordinate_transformation_mode", "half_pixel" if layer.opset > 10 else "asymmetric")
    rounding = layer.attribute("nearest_mode", "round_prefer_floor" if layer.opset > 10 else "floor")
    halves = place in ("half_pixel", "half_pixel_symmetric") and rounding.startswith("round")
    if not halves and (place, rounding) != ("asymmetric", "floor"):
        raise layer.unsupported(f"coordinate_transformation_mode={place} with nearest_mode={rounding} is not supported")
    extents = list(layer.shape(layer.value()))
    axes = layer.attribute("axes") or range(len(extents))
    scales = _stored_numbers(layer, 1 if layer.kind == "Upsample" or layer.opset < 11 else 2)
    scales = layer.attribute("scales") or scales
    sizes = _stored_numbers(layer, 3)
    wanted = [*extents]
    for axis, number in zip(axes, sizes or scales, strict=True):
        wanted[axis] = int(number if sizes else math.floor(extents[axis] * number))
    if wanted[:2] != extents[:2]:
        raise layer.unsupported(f"resizing {extents} to {wanted} is not supported (only the two spatial axes)")
    return compose.upsample(layer, layer.value(), wanted[2:])


def _stored_numbers(layer: OnnxLayer, index: int) -> list[float]:
    """A stored operand's numbers; none where it is left out or empty."""
    return layer.stored(layer.value(index), "scale").array.reshape(-1).tolist() if layer.has(index) else []


@converts("Squeeze")
def squeeze(layer: OnnxLayer) -> Result:
    extents = layer.shape(layer.value())
    axes = layer.constants(1, "axes")
    # Without axes, a batch of one would go too; that would depend on the batch.
    over = {axis % len(extents) for axis in (range(1, len(extents)) if axes is None else axes)}
    kept = [extent for axis, extent in enumerate(extents) if axis not in over or (axes is None and extent != 1)]
    return compose.reshape(layer, layer.value(), kept)


@converts("Unsqueeze")
def unsqueeze(layer: OnnxLayer) -> Result:
    extents = list(layer.shape(layer.value()))
    axes = layer.constants(1, "axes") or []
    for axis in sorted(axis % (len(extents) + len(axes)) for axis in axes):
        extents.insert(axis, 1)
    return compose.reshape(layer, layer.value(), extents)


@converts("Transpose")
def transpose(layer: OnnxLayer) -> Result:
    rank = len(layer.shape(layer.value()))
    return compose.transpose(layer, layer.value(), layer.attribute("perm") or tuple(reversed(range(rank))))


@converts("Concat")
def concatenate(layer: OnnxLayer) -> Result:
    parts = [layer.value(index) for index in range(len(layer.operands))]
    return compose.concatenate(layer, parts, int(layer.attribute("axis", 1)))


@converts("Split")
def split(layer: OnnxLayer) -> Result:
    x = layer.value()
    axis = int(layer.attribute("axis", 0)) % len(layer.shape(x))
    extents = layer.constants(1, "split")
    if extents is None:
        whole, count = layer.shape(x)[axis], int(layer.attribute("num_outputs", layer.results))
        each = -(-whole // count)
        extents = [min(each, whole - start) for start in range(0, whole, each)]
    return compose.split(layer, x, axis, extents)


@converts("Slice")
def cut(layer: OnnxLayer) -> Result:
    x = layer.value()
    starts, ends = layer.constants(1, "starts"), layer.constants(2, "ends")
    if starts is None or ends is None:
        raise layer.unsupported("it has no starts or ends")
    axes = layer.constants(3, "axes") or list(range(len(starts)))
    steps = layer.constants(4, "steps") or [1] * len(starts)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        x = compose.cut(layer, x, axis, start, end, step)
    return x


@converts("Gather")
def gather(layer: OnnxLayer) -> Result:
    x, index = layer.value(), layer.stored(layer.value(1), "index")
    axis = int(layer.attribute("axis", 0)) % len(layer.shape(x))
    if index.array.size != 1 or index.shape not in ((), (1,)):
        raise layer.unsupported(f"indices of shape {list(index.shape)} are not supported (only one)")
    place = int(index.array.reshape(-1)[0]) % layer.shape(x)[axis]
    part = compose.cut(layer, x, axis, place, place + 1)
    extents = layer.shape(part)
    return part if index.shape else compose.reshape(layer, part, (*extents[:axis], *extents[axis + 1 :]))


@converts("Pad")
def pad(layer: OnnxLayer) -> Result:
    layer.require("mode", "constant")
    shape, widths = compose.image_shape(layer, layer.value()), layer.constants(1, "pads") or []
    axes = [axis % len(shape) for axis in layer.constants(3, "axes") or range(len(shape))]
    before, after = (dict(zip(axes, half, strict=True)) for half in (widths[: len(axes)], widths[len(axes) :]))
    if min(widths, default=0) < 0 or any(before.get(axis) or after.get(axis) for axis in (0, 1)):
        raise layer.unsupported(f"pads={widths} are not supported (only around images, not negative)")
    padding = (before.get(2, 0), before.get(3, 0), after.get(2, 0), after.get(3, 0))
    operator = Pad(padding, layer.limit(2, "value", 0.0))
    return layer.emit(operator, layer.computed(layer.value())) if any(padding) else layer.value()


@converts("Expand")
def expand(layer: OnnxLayer) -> Result:
    extents, wanted = layer.shape(layer.value()), layer.constants(1, "shape") or []
    if tuple(np.broadcast_shapes(extents, tuple(wanted))) != tuple(extents):
        raise layer.unsupported(f"expanding {list(extents)} to {wanted} is not supported")
    return layer.value()


@converts("Identity", "Dropout", "Cast", "CastLike")
def identity(layer: OnnxLayer) -> Result:
    layer.ignore("ratio", "seed", "saturate", "round_mode")
    if layer.kind == "Cast" and layer.attribute("to", 1) not in FLOAT_TYPES:
        raise layer.unsupported("a conversion to integers is not supported")
    if layer.kind == "Dropout" and layer.has(2) and layer.stored(layer.value(2), "mode").array.any():
        raise layer.unsupported("it drops values: export the network for inference")
    return layer.value()
