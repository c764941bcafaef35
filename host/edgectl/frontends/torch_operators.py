"""PyTorch's ATen operators by name: CONVERTERS says how each becomes operators of the graph.

Both the operators that torch.export traces and the core ones that it decomposes them to. To add one, write a converter
(layer -> its result or results) and give it its names, without overload and the "_" of in-place forms, in the table's
decorator. Arguments have the names and defaults of ATen's schemas.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from edgectl.frontends import compositions as compose
from edgectl.frontends.graph_builder import GraphBuilder
from edgectl.frontends.source_layer import Constant, SourceLayer, Value
from edgectl.operators.activation import Clip, Erf, Relu, Sigmoid, Softmax, Tanh
from edgectl.operators.base import Padding
from edgectl.operators.elementwise import Scalar
from edgectl.operators.pooling import GlobalPool
from edgectl.operators.shape import Pad
from edgectl.registration import registering

Result = Any
"""A Value, a number, or a list of them where the operator has several results (None: one that inference has not)."""


class TorchLayer(SourceLayer):
    """One call of an operator. Every argument must be read or not matter; `unread` names the others."""

    def __init__(self, builder: GraphBuilder, kind: str, label: str, arguments: Mapping[str, Any]) -> None:
        super().__init__(builder, kind, label)
        self._arguments, self._read = arguments, set[str]()

    def argument(self, name: str, default: Any = None) -> Any:
        self._read.add(name)
        return self._arguments.get(name, default)

    def value(self, name: str = "self") -> Value:
        """A tensor argument."""
        found = self.argument(name)
        if not isinstance(found, str | Constant):
            raise self.unsupported(f"its argument '{name}' is {found!r}, not a tensor")
        return found

    def optional(self, name: str) -> Value | None:
        return None if self.argument(name) is None else self.value(name)

    def number(self, name: str, default: float | None = None) -> float:
        found = self.argument(name, default)
        if not isinstance(found, int | float) or math.isnan(found):
            raise self.unsupported(f"its argument '{name}' is {found!r}, not a number")
        return float(found)

    def integer(self, name: str, default: int | None = None) -> int:
        found = self.argument(name, default)
        if not isinstance(found, int):
            raise self.unsupported(f"its argument '{name}' is {found!r}, not an integer")
        return int(found)

    def integers(self, name: str, default: Sequence[int] = ()) -> tuple[int, ...]:
        found = self.argument(name, default)
        found = [found] if isinstance(found, int) else found
        if not isinstance(found, list | tuple) or not all(isinstance(item, int) for item in found):
            raise self.unsupported(f"its argument '{name}' is {found!r}, not integers")
        return tuple(found)

    def pair(self, name: str, default: tuple[int, int] | None = None) -> tuple[int, int]:
        """Two integers, (height, width); one stands for both."""
        found = self.integers(name) or default
        if found is None or len(found) > 2:
            raise self.unsupported(f"its argument '{name}' is {found!r}; only two-dimensional images are supported")
        return found[0], found[-1]

    def require(self, name: str, *allowed: Any) -> None:
        """The argument is absent or one of `allowed`."""
        found = self.argument(name, allowed[0])
        if found not in allowed:
            raise self.unsupported(f"{name}={found} is not supported (only {', '.join(map(str, allowed))})")

    def numbers(self) -> list[Any]:
        """All arguments, which must be numbers."""
        self._read.update(self._arguments)
        found = list(self._arguments.values())
        if not all(isinstance(item, int | float) for item in found):
            raise self.unsupported(f"its arguments are {found}, not numbers")
        return found

    def ignore(self, *names: str) -> None:
        """Accept arguments that do not matter to what an inference computes."""
        self._read.update(names)

    def unread(self) -> list[str]:
        return [
            f"{name}={value}" for name, value in self._arguments.items() if name not in self._read and value is not None
        ]


Converter = Callable[[TorchLayer], Result]
CONVERTERS: dict[str, Converter] = {}
"""ATen operator -> converter."""
converts = registering(CONVERTERS)
"""Enters a converter into the table under PyTorch's names."""


# Layers with parameters


@converts("conv2d", "convolution")
def convolution(layer: TorchLayer) -> Result:
    layer.require("transposed", False)
    layer.ignore("output_padding")  # of transposed convolutions only
    weight, dilation = layer.value("weight"), layer.pair("dilation", (1, 1))
    strides = layer.pair("stride", (1, 1))
    padding = _padding(layer, layer.shape(weight)[2:], strides, dilation)
    groups = layer.integer("groups", 1)
    return compose.convolution(
        layer, layer.value("input"), weight, layer.optional("bias"), strides, padding, dilation, groups
    )


def _padding(layer: TorchLayer, kernel: Sequence[int], strides: Sequence[int], dilation: Sequence[int]) -> Padding:
    given = layer.argument("padding", 0)
    if given == "same" and len(kernel) == 2:
        # Where the total is odd, the pixel more is behind the image.
        total = [reach * (extent - 1) for reach, extent in zip(dilation, kernel, strict=True)]
        top, left = total[0] // 2, total[1] // 2
        return top, left, total[0] - top, total[1] - left
    if given == "valid":
        return 0, 0, 0, 0
    top, left = layer.pair("padding", (0, 0))
    return top, left, top, left


@converts("linear")
def linear(layer: TorchLayer) -> Result:
    return compose.dense(layer, layer.value("input"), layer.value("weight"), layer.optional("bias"))


@converts("addmm")
def addmm(layer: TorchLayer) -> Result:
    layer.require("alpha", 1)
    layer.require("beta", 1)
    weight = layer.stored(layer.value("mat2"), "second matrix")
    return compose.dense(layer, layer.value("mat1"), Constant(weight.name, weight.array.T), layer.value())


@converts("mm", "matmul")
def matrix_product(layer: TorchLayer) -> Result:
    weight = layer.stored(layer.value("mat2" if layer.kind.startswith("aten.mm") else "other"), "second matrix")
    if len(weight.shape) != 2:
        raise layer.unsupported(f"a second matrix of shape {list(weight.shape)} is not supported")
    return compose.dense(layer, layer.value(), Constant(weight.name, weight.array.T), None)


@converts("batch_norm", "_native_batch_norm_legit_no_training", "native_batch_norm")
def batch_norm(layer: TorchLayer) -> Result:
    if layer.argument("training", False):
        raise layer.unsupported("it normalises by the batch's own statistics: call net.eval() before exporting")
    layer.ignore("cudnn_enabled")
    # PyTorch counts what a step adds, the graph what it keeps; what float64 makes of it is rounded to what was written.
    momentum = round(1 - layer.number("momentum", 0.1), 12)
    mean, variance = layer.optional("running_mean"), layer.optional("running_var")
    if mean is None or variance is None:
        raise layer.unsupported("it keeps no running statistics, so it normalises by the batch's own")
    arrays = layer.optional("weight"), layer.optional("bias"), mean, variance
    result = compose.batch_norm(layer, layer.value("input"), *arrays, layer.number("eps"), momentum)
    return result if layer.kind.startswith("aten.batch_norm") else [result, None, None]


# Activations


@converts("relu")
def relu(layer: TorchLayer) -> Result:
    return layer.emit(Relu(), layer.value())


@converts("relu6")
def relu6(layer: TorchLayer) -> Result:
    return layer.emit(Clip(0.0, 6.0), layer.value())


@converts("hardtanh")
def hardtanh(layer: TorchLayer) -> Result:
    return layer.emit(Clip(layer.number("min_val", -1), layer.number("max_val", 1)), layer.value())


@converts("clamp", "clamp_min", "clamp_max", "clip")
def clamp(layer: TorchLayer) -> Result:
    low = -math.inf if layer.argument("min") is None else layer.number("min")
    high = math.inf if layer.argument("max") is None else layer.number("max")
    return layer.emit(Relu() if (low, high) == (0, math.inf) else Clip(low, high), layer.value())


@converts("sigmoid")
def sigmoid(layer: TorchLayer) -> Result:
    return layer.emit(Sigmoid(), layer.value())


@converts("tanh")
def tanh(layer: TorchLayer) -> Result:
    return layer.emit(Tanh(), layer.value())


@converts("silu")
def silu(layer: TorchLayer) -> Result:
    return compose.silu(layer, layer.value())


@converts("hardswish")
def hardswish(layer: TorchLayer) -> Result:
    return compose.hard_swish(layer, layer.value())


@converts("hardsigmoid")
def hardsigmoid(layer: TorchLayer) -> Result:
    return compose.hard_sigmoid(layer, layer.value())


@converts("gelu")
def gelu(layer: TorchLayer) -> Result:
    exact = layer.argument("approximate", "none") != "tanh"
    return (compose.gelu if exact else compose.gelu_tanh)(layer, layer.value())


@converts("erf")
def error_function(layer: TorchLayer) -> Result:
    return layer.emit(Erf(), layer.value())


@converts("leaky_relu")
def leaky_relu(layer: TorchLayer) -> Result:
    return compose.leaky_relu(layer, layer.value(), layer.number("negative_slope", 0.01))


@converts("prelu", "_prelu_kernel")
def prelu(layer: TorchLayer) -> Result:
    return compose.prelu(layer, layer.value(), layer.stored(layer.value("weight"), "slope"))


@converts("softmax", "_softmax")
def softmax(layer: TorchLayer) -> Result:
    layer.ignore("dtype", "half_to_float")
    return layer.emit(Softmax(layer.integer("dim")), layer.value())


# Arithmetic


@converts("add", "sub", "subtract", "rsub")
def sum_or_difference(layer: TorchLayer) -> Result:
    first, second = _operand(layer, "self"), _operand(layer, "other")
    name = layer.kind.split(".")[1].rstrip("_")
    if name == "rsub":
        first, second = second, first
    if (factor := layer.number("alpha", 1)) != 1:
        second = compose.binary(layer, "multiply", second, _scalar(layer, factor), final=False)
    return compose.binary(layer, "add" if name == "add" else "subtract", first, second)


@converts("mul", "multiply")
def product(layer: TorchLayer) -> Result:
    return compose.binary(layer, "multiply", _operand(layer, "self"), _operand(layer, "other"))


@converts("div", "divide", "true_divide")
def quotient(layer: TorchLayer) -> Result:
    layer.require("rounding_mode", None)
    return compose.binary(layer, "divide", _operand(layer, "self"), _operand(layer, "other"))


@converts("reciprocal")
def reciprocal(layer: TorchLayer) -> Result:
    return compose.binary(layer, "divide", _scalar(layer, 1.0), layer.value())


@converts("pow")
def power(layer: TorchLayer) -> Result:
    if (exponent := layer.number("exponent")) != 2:
        raise layer.unsupported(f"an exponent of {exponent} is not supported (only 2)")
    return compose.binary(layer, "multiply", layer.value(), layer.value())


@converts("maximum")
def greater(layer: TorchLayer) -> Result:
    return compose.binary(layer, "maximum", layer.value(), layer.value("other"))


@converts("minimum")
def smaller(layer: TorchLayer) -> Result:
    return compose.binary(layer, "minimum", layer.value(), layer.value("other"))


@converts("neg")
def negative(layer: TorchLayer) -> Result:
    return layer.emit(Scalar("multiply", -1.0), layer.value())


@converts("square")
def square(layer: TorchLayer) -> Result:
    return compose.binary(layer, "multiply", layer.value(), layer.value())


def _operand(layer: TorchLayer, name: str) -> Value:
    """A tensor, or a number as a constant."""
    found = layer.argument(name)
    return _scalar(layer, found) if isinstance(found, int | float) else layer.value(name)


def _scalar(layer: TorchLayer, number: float) -> Constant:
    return Constant(f"{layer.label}.scalar", np.array(number, np.float32))


# Pooling


@converts("max_pool2d", "max_pool2d_with_indices")
def max_pool(layer: TorchLayer) -> Result:
    kernel = layer.pair("kernel_size")
    strides, (top, left) = layer.pair("stride", kernel), layer.pair("padding", (0, 0))
    dilation, ceil = layer.pair("dilation", (1, 1)), bool(layer.argument("ceil_mode", False))
    result = compose.max_pool(layer, layer.value(), kernel, strides, (top, left, top, left), dilation, ceil)
    return [result, None] if "with_indices" in layer.kind else result


@converts("avg_pool2d")
def average_pool(layer: TorchLayer) -> Result:
    kernel = layer.pair("kernel_size")
    strides, (top, left) = layer.pair("stride", kernel), layer.pair("padding", (0, 0))
    layer.require("divisor_override", None)
    ceil, count = bool(layer.argument("ceil_mode", False)), bool(layer.argument("count_include_pad", True))
    return compose.average_pool(layer, layer.value(), kernel, strides, (top, left, top, left), ceil, count)


@converts("adaptive_avg_pool2d", "_adaptive_avg_pool2d")
def adaptive_average_pool(layer: TorchLayer) -> Result:
    return compose.adaptive_average_pool(layer, layer.value(), layer.pair("output_size"))


@converts("adaptive_max_pool2d")
def adaptive_max_pool(layer: TorchLayer) -> Result:
    if layer.pair("output_size") != (1, 1):
        raise layer.unsupported("only an output of one pixel is supported")
    return [layer.emit(GlobalPool("max"), layer.computed(layer.value())), None]


@converts("mean")
def mean(layer: TorchLayer) -> Result:
    layer.ignore("dtype")
    return compose.mean(layer, layer.value(), layer.integers("dim"), bool(layer.argument("keepdim", False)))


@converts("amax")
def maximum(layer: TorchLayer) -> Result:
    return compose.maximum(layer, layer.value(), layer.integers("dim"), bool(layer.argument("keepdim", False)))


# Shapes


@converts("view", "reshape", "_unsafe_view")
def reshape(layer: TorchLayer) -> Result:
    size = layer.integers("shape" if "reshape" in layer.kind else "size")
    return compose.reshape(layer, layer.value(), size)


@converts("flatten")
def flatten(layer: TorchLayer) -> Result:
    return compose.flatten(layer, layer.value(), layer.integer("start_dim", 0), layer.integer("end_dim", -1))


@converts("upsample_nearest2d")
def upsample(layer: TorchLayer) -> Result:
    x, scales = layer.value("input" if layer.kind.endswith(".vec") else "self"), layer.argument("scale_factors")
    layer.ignore("scales_h", "scales_w")
    if layer.argument("output_size") is not None:
        return compose.upsample(layer, x, layer.integers("output_size"))
    extents = layer.shape(x)[2:]
    return compose.upsample(layer, x, [int(extent * scale) for extent, scale in zip(extents, scales, strict=True)])


@converts("unflatten")
def unflatten(layer: TorchLayer) -> Result:
    x, sizes = layer.value(), layer.integers("sizes")
    shape = layer.shape(x)
    axis = layer.integer("dim") % len(shape)
    if sizes.count(-1) == 1:
        sizes = tuple(-shape[axis] // math.prod(sizes) if size == -1 else size for size in sizes)
    return compose.reshape(layer, x, (*shape[:axis], *sizes, *shape[axis + 1 :]))


@converts("squeeze")
def squeeze(layer: TorchLayer) -> Result:
    x = layer.value()
    shape = layer.shape(x)
    axes = {axis % len(shape) for axis in layer.integers("dim", tuple(range(len(shape))))}
    # Without axes, PyTorch removes a batch of one too; that would depend on the batch.
    kept = [size for axis, size in enumerate(shape) if axis == 0 or axis not in axes or size != 1]
    return compose.reshape(layer, x, kept)


@converts("unsqueeze")
def unsqueeze(layer: TorchLayer) -> Result:
    x = layer.value()
    shape = list(layer.shape(x))
    axis = layer.integer("dim")
    shape.insert(axis if axis >= 0 else axis + len(shape) + 1, 1)
    return compose.reshape(layer, x, shape)


@converts("permute")
def permute(layer: TorchLayer) -> Result:
    return compose.transpose(layer, layer.value(), layer.integers("dims"))


@converts("transpose")
def transpose(layer: TorchLayer) -> Result:
    x = layer.value()
    order = list(range(len(layer.shape(x))))
    first, second = layer.integer("dim0"), layer.integer("dim1")
    order[first], order[second] = order[second], order[first]
    return compose.transpose(layer, x, order)


@converts("t", "numpy_T")
def matrix_transpose(layer: TorchLayer) -> Result:
    x = layer.value()
    return compose.transpose(layer, x, tuple(reversed(range(len(layer.shape(x))))))


@converts("channel_shuffle")
def channel_shuffle(layer: TorchLayer) -> Result:
    x, groups = layer.value(), layer.integer("groups")
    n, channels, height, width = compose.image_shape(layer, x)
    split = compose.reshape(layer, x, (n, groups, channels // groups, height, width))
    return compose.reshape(layer, compose.transpose(layer, split, (0, 2, 1, 3, 4)), (n, channels, height, width))


@converts("cat", "concat")
def concatenate(layer: TorchLayer) -> Result:
    return compose.concatenate(layer, layer.argument("tensors"), layer.integer("dim", 0))


@converts("chunk")
def chunk(layer: TorchLayer) -> Result:
    x, axis = layer.value(), layer.integer("dim", 0)
    size = -(-layer.shape(x)[axis] // layer.integer("chunks"))
    return compose.split(layer, x, axis, _parts(layer.shape(x)[axis], size))


@converts("split", "split_with_sizes")
def split(layer: TorchLayer) -> Result:
    x, axis = layer.value(), layer.integer("dim", 0)
    sizes = layer.integers("split_sizes")
    return compose.split(layer, x, axis, sizes or _parts(layer.shape(x)[axis], layer.integer("split_size")))


def _parts(extent: int, size: int) -> list[int]:
    return [min(size, extent - start) for start in range(0, extent, max(size, 1))]


@converts("slice")
def cut(layer: TorchLayer) -> Result:
    x, axis = layer.value(), layer.integer("dim", 0)
    end = layer.argument("end")
    stop = layer.shape(x)[axis] if end is None else layer.integer("end")
    return compose.cut(layer, x, axis, layer.integer("start", 0), stop, layer.integer("step", 1))


@converts("select")
def select(layer: TorchLayer) -> Result:
    x, index = layer.value(), layer.integer("index")
    shape = layer.shape(x)
    axis = layer.integer("dim") % len(shape)
    index %= shape[axis]
    part = compose.cut(layer, x, axis, index, index + 1)
    return compose.reshape(layer, part, (*shape[:axis], *shape[axis + 1 :]))


@converts("pad", "constant_pad_nd")
def pad(layer: TorchLayer) -> Result:
    layer.require("mode", "constant")
    widths = (*layer.integers("pad"), 0, 0, 0, 0)
    if any(widths[4:]) or min(widths) < 0:
        raise layer.unsupported(
            f"pad={list(layer.integers('pad'))} is not supported (only around images, not negative)"
        )
    left, right, top, bottom = widths[:4]
    value = 0.0 if layer.argument("value") is None else layer.number("value")
    return layer.emit(Pad((top, left, bottom, right), value), layer.computed(layer.value()))


@converts("expand")
def expand(layer: TorchLayer) -> Result:
    x, size = layer.value(), layer.integers("size")
    layer.ignore("implicit")
    shape = layer.shape(x)
    wanted = [
        have if size == -1 else size
        for have, size in zip((1,) * (len(size) - len(shape)) + tuple(shape), size, strict=True)
    ]
    if isinstance(x, Constant):
        return Constant(x.name, np.broadcast_to(x.array, wanted))
    if tuple(wanted) != tuple(shape):
        raise layer.unsupported(f"expanding {list(shape)} to {wanted} is not supported")
    return x


@converts(
    "dropout", "feature_dropout", "alpha_dropout", "native_dropout", "clone", "contiguous", "detach", "alias", "to",
    "_to_copy", "lift_fresh_copy", "identity",
)  # fmt: skip
def identity(layer: TorchLayer) -> Result:
    # Dropout's input is `input`, but `self` where it is in place.
    x = layer.value("input" if layer.argument("input") is not None else "self")
    if layer.argument("train", False):
        raise layer.unsupported("it drops values: call net.eval() before exporting")
    layer.ignore("p", "memory_format", "device", "layout", "pin_memory", "non_blocking", "copy", "other", "dtype")
    return [x, None] if "native" in layer.kind else x


# Numbers: shapes that a program computes


@converts("sym_size")
def size(layer: TorchLayer) -> Result:
    return layer.shape(layer.value())[layer.integer("dim")]


def arithmetic(function: Callable[[Any, Any], Any]) -> Converter:
    """Python's operator on two numbers, whatever its arguments are called."""

    def converter(layer: TorchLayer) -> Result:
        first, second = layer.numbers()
        return function(first, second)

    return converter


for _name in ("add", "sub", "mul", "floordiv", "mod", "truediv"):
    CONVERTERS[f"_operator.{_name}"] = arithmetic(getattr(operator, _name))
