"""MXNet's operators by name: CONVERTERS says how each becomes operators of the graph.

To add one, write a converter (layer -> name of its result, or a list of several) and give it its names in the table's
decorator.
Defaults are MXNet's own, from its operator documentation.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from edgectl.frontends.mxnet_layer import Layer
from edgectl.operators.activation import Clip, Erf, LeakyRelu, Relu, Sigmoid, Softmax, Tanh
from edgectl.operators.base import Operator
from edgectl.operators.batch_norm import BatchNorm
from edgectl.operators.convolution import Convolution
from edgectl.operators.dense import Dense
from edgectl.operators.elementwise import Binary, Scalar
from edgectl.operators.local_response import LocalResponseNorm
from edgectl.operators.pooling import AveragePool, GlobalPool, MaxPool
from edgectl.operators.shape import Concatenate, Flatten, Pad, Reshape, Slice, Transpose, Upsample
from edgectl.registration import registering

Converter = Callable[[Layer], str | list[str]]

CONVERTERS: dict[str, Converter] = {}
"""MXNet operator name -> converter."""
converts = registering(CONVERTERS)
"""Enters a converter into the table under MXNet's names."""


@converts("Convolution", "Convolution_v1")
def convolution(layer: Layer) -> str:
    layer.text("layout", "NCHW", ("NCHW", "None"))
    kernel = layer.pair("kernel")
    groups, filters = layer.integer("num_group", 1, 1), layer.integer("num_filter", None, 1)
    top, left = layer.pair("pad", (0, 0), 0)
    operator = Convolution(layer.pair("stride", (1, 1)), (top, left, top, left), layer.pair("dilate", (1, 1)), groups)
    shape = layer.type().shape
    if len(shape) != 4:
        raise layer.unsupported(f"needs an NCHW input, got shape {list(shape)}")
    if shape[1] % groups or filters % groups:
        raise layer.unsupported(f"{shape[1]} input and {filters} output channels do not divide into {groups} groups")
    weight = layer.parameter(1, "weight", (filters, shape[1] // groups, *kernel))
    bias = () if layer.flag("no_bias", False) else (layer.parameter(2, "bias", (filters,)),)
    return layer.emit(operator, layer.value(), weight, *bias)


@converts("FullyConnected")
def fully_connected(layer: Layer) -> str:
    x, units = layer.value(), layer.integer("num_hidden", None, 1)
    shape = layer.type().shape
    if not layer.flag("flatten", True) and len(shape) != 2:
        raise layer.unsupported(f"flatten=False on an input of shape {list(shape)} is not supported")
    if len(shape) != 2:
        x = layer.emit(Flatten(), x, final=False)
    weight = layer.parameter(1, "weight", (units, math.prod(shape[1:])))
    bias = () if layer.flag("no_bias", False) else (layer.parameter(2, "bias", (units,)),)
    return layer.emit(Dense(), x, weight, *bias)


@converts("BatchNorm", "BatchNorm_v1", "CuDNNBatchNorm")
def batch_norm(layer: Layer) -> str:
    shape, fix_gamma = layer.type().shape, layer.flag("fix_gamma", True)
    axis = layer.integer("axis", 1)
    if len(shape) < 2 or axis % len(shape) != 1:
        raise layer.unsupported(f"axis={axis} of an input of shape {list(shape)} is not supported (only axis 1)")
    channels = (shape[1],)
    # A fixed gamma is 1 whatever is stored, so it need not be stored; a layer that stores no beta either has none.
    without_gamma = fix_gamma and not layer.has_parameter(1, "gamma")
    without_beta = without_gamma and not layer.has_parameter(2, "beta")
    ones, zeros = np.ones(channels, np.float32), np.zeros(channels, np.float32)
    gamma = layer.constant("gamma", ones) if without_gamma else layer.parameter(1, "gamma", channels)
    beta = layer.constant("beta", zeros) if without_beta else layer.parameter(2, "beta", channels)
    mean, variance = layer.parameter(3, "moving_mean", channels), layer.parameter(4, "moving_var", channels)
    operator = BatchNorm(layer.number("eps", 1e-3), fix_gamma, layer.number("momentum", 0.9))
    return layer.emit(operator, layer.value(), gamma, beta, mean, variance)


ACTIVATIONS: dict[str, Operator] = {"relu": Relu(), "sigmoid": Sigmoid(), "tanh": Tanh(), "erf": Erf()}


@converts("Activation")
def activation(layer: Layer) -> str:
    return layer.emit(ACTIVATIONS[layer.text("act_type", allowed=("relu", "sigmoid", "tanh"))], layer.value())


@converts(*ACTIVATIONS)
def named_activation(layer: Layer) -> str:
    return layer.emit(ACTIVATIONS[layer.node.op], layer.value())


@converts("LeakyReLU")
def leaky_relu(layer: Layer) -> str:
    kind = layer.text("act_type", "leaky", ("leaky", "gelu"))
    layer.ignore("lower_bound", "upper_bound")  # of act_type=rrelu only
    if kind == "gelu":
        layer.ignore("slope")
        return _gelu(layer, layer.value())
    return layer.emit(LeakyRelu(layer.number("slope", 0.25)), layer.value())


def _gelu(layer: Layer, x: str) -> str:
    """x * (1 + erf(x / sqrt(2))) / 2."""

    def step(operator: Operator, *inputs: str) -> str:
        return layer.emit(operator, *inputs, final=False)

    gate = step(Scalar("add", 1.0), step(Erf(), step(Scalar("multiply", math.sqrt(0.5)), x)))
    return layer.emit(Binary("multiply"), step(Scalar("multiply", 0.5), x), gate)


@converts("LRN")
def local_response_norm(layer: Layer) -> str:
    size = layer.integer("nsize", None, 1)
    if size % 2 == 0:
        raise layer.unsupported(f"nsize={size} is not supported (only odd numbers)")
    alpha, beta = layer.number("alpha", 1e-4), layer.number("beta", 0.75)
    return layer.emit(LocalResponseNorm(size, alpha, beta, layer.number("knorm", 2.0)), layer.value())


@converts("UpSampling")
def upsampling(layer: Layer) -> str:
    layer.text("sample_type", allowed=("nearest",))
    layer.ignore("num_filter", "multi_input_mode", "workspace")
    if layer.operand_count != 1:
        raise layer.unsupported(f"{layer.operand_count} inputs are not supported (only one)")
    scale = layer.integer("scale", None, 1)
    return layer.emit(Upsample((scale, scale)), layer.value())


@converts("repeat")
def repeat(layer: Layer) -> str:
    times, axis, rank = layer.integer("repeats", None, 1), layer.integer("axis"), len(layer.type().shape)
    if rank != 4 or axis % 4 not in (2, 3):
        raise layer.unsupported(f"axis={axis} of {rank} axes is not supported (only the two spatial axes)")
    return layer.emit(Upsample((times, 1) if axis % 4 == 2 else (1, times)), layer.value())


@converts("clip")
def clip(layer: Layer) -> str:
    # A bound may be infinite: a clip on one side only.
    low, high = layer.number("a_min", finite=False), layer.number("a_max", finite=False)
    return layer.emit(Clip(low, high), layer.value())


@converts("Pooling", "Pooling_v1")
def pooling(layer: Layer) -> str:
    layer.text("layout", "NCHW", ("NCHW", "None"))
    kind = layer.text("pool_type", "max", ("max", "avg"))
    convention = layer.text("pooling_convention", "valid", ("valid", "full", "same"))
    include_padding, everywhere = layer.flag("count_include_pad", True), layer.flag("global_pool", False)
    kernel = layer.pair("kernel", (1, 1) if everywhere else None)
    strides, (top, left) = layer.pair("stride", (1, 1)), layer.pair("pad", (0, 0), 0)
    layer.ignore("p_value")  # of pool_type=lp only
    x, shape = layer.value(), layer.type().shape
    if len(shape) != 4:
        raise layer.unsupported(f"needs an NCHW input, got shape {list(shape)}")
    if everywhere:
        return layer.emit(GlobalPool("average" if kind == "avg" else "max"), x)
    below = _missing_pixels(layer, shape[2], kernel[0], strides[0], top, convention)
    right = _missing_pixels(layer, shape[3], kernel[1], strides[1], left, convention)
    if kind == "max":
        return layer.emit(MaxPool(kernel, strides, (top, left, top + below, left + right)), x)
    return layer.emit(AveragePool(kernel, strides, (top, left, top, left), include_padding, (below, right)), x)


def _missing_pixels(layer: Layer, size: int, kernel: int, stride: int, padding: int, convention: str) -> int:
    """How many pixels the last window of a ceil convention needs beyond the padded image, along one axis."""
    padded = size + 2 * padding
    if convention == "valid":
        return 0
    count = math.ceil(padded / stride) if convention == "same" else math.ceil((padded - kernel) / stride) + 1
    if (count - 1) * stride >= size + padding:
        raise layer.unsupported(f"pooling_convention={convention} puts a window outside of the image")
    return max((count - 1) * stride + kernel - padded, 0)


@converts("_contrib_AdaptiveAvgPooling2D")
def adaptive_average_pooling(layer: Layer) -> str:
    size = layer.integers("output_size", "()")
    if size not in ((), (1,), (1, 1)):
        raise layer.unsupported(f"output_size={size} is not supported (only 1)")
    return layer.emit(GlobalPool("average"), layer.value())


@converts("mean", "max", "max_axis")
def spatial_reduction(layer: Layer) -> str:
    shape, axes = layer.type().shape, layer.integers("axis", "()")
    if layer.flag("exclude", False):
        axes = tuple(axis for axis in range(len(shape)) if axis not in {a % len(shape) for a in axes})
    if len(shape) != 4 or sorted(axis % 4 for axis in axes) != [2, 3]:
        raise layer.unsupported(f"axis={axes} of shape {list(shape)} is not supported (only the two spatial axes)")
    operator = GlobalPool("average" if layer.node.op == "mean" else "max")
    if layer.flag("keepdims", False):
        return layer.emit(operator, layer.value())
    return layer.emit(Flatten(), layer.emit(operator, layer.value(), final=False))


@converts("Flatten", "flatten")
def flatten(layer: Layer) -> str:
    return layer.emit(Flatten(), layer.value())


@converts("Reshape", "reshape")
def reshape(layer: Layer) -> str:
    if layer.flag("reverse", False):
        raise layer.unsupported("reverse=True is not supported")
    shape, codes = layer.type().shape, layer.integers("shape")
    target = _reshaped(layer, shape, codes)
    if math.prod(target) != math.prod(shape) or target[0] != shape[0]:
        raise layer.unsupported(f"shape={codes} on an input of shape {list(shape)} does not keep the batch")
    return layer.emit(Reshape(tuple(target[1:])), layer.value())


def _reshaped(layer: Layer, shape: tuple[int, ...], codes: tuple[int, ...]) -> list[int]:
    """What MXNet's codes make of `shape`, gone through from its begin.

    0 takes a size over, -2 all that are left, -3 the product of two; -4 divides one into the two numbers that follow,
    of which one may be -1. Elsewhere -1 is what is missing.
    """
    wrong = layer.unsupported(f"shape={codes} does not fit an input of shape {list(shape)}")
    left, wanted, target = list(shape), list(codes), []
    while wanted:
        code = wanted.pop(0)
        taken = {0: 1, -3: 2, -4: 1}.get(code, 0)
        if code < -4 or taken > len(left):
            raise wrong
        sizes = [left.pop(0) for _ in range(taken)]
        if code == -2:
            target += left
            left = []
        elif code == -4:
            if len(wanted) < 2:
                raise wrong
            target += _divided(sizes[0], wanted.pop(0), wanted.pop(0))
        elif taken:
            target.append(math.prod(sizes))
        else:
            target.append(code)
            left = left[1:]
    if target.count(-1) > 1:
        raise wrong
    if -1 in target:
        target[target.index(-1)] = math.prod(shape) // max(-math.prod(target), 1)
    if not target:
        raise wrong
    return target


def _divided(size: int, first: int, second: int) -> tuple[int, int]:
    if first == -1 and second > 0:
        return size // second, second
    return first, (size // first if second == -1 and first > 0 else second)


@converts("expand_dims")
def expand_dims(layer: Layer) -> str:
    shape, axis = list(layer.type().shape), layer.integer("axis")
    place = axis if axis >= 0 else axis + len(shape) + 1
    target = [*shape[:place], 1, *shape[place:]]
    if not 0 < place <= len(shape):
        raise layer.unsupported(f"{shape} to {target} does not keep the batch")
    return layer.emit(Reshape(tuple(target[1:])), layer.value())


@converts("squeeze")
def squeeze(layer: Layer) -> str:
    shape = layer.type().shape
    # Without axes, a batch of one would go too; that would depend on the batch.
    axes = range(1, len(shape)) if layer.absent("axis") else layer.integers("axis")
    over = {axis % len(shape) for axis in axes}
    if not layer.absent("axis") and any(shape[axis] != 1 for axis in over):
        raise layer.unsupported(f"axis={tuple(axes)} of shape {list(shape)} is not of size 1")
    if 0 in over:
        raise layer.unsupported(f"axis={tuple(axes)} does not keep the batch")
    kept = tuple(size for axis, size in enumerate(shape) if axis > 0 and (size != 1 or axis not in over))
    return layer.emit(Reshape(kept), layer.value())


@converts("SwapAxis", "swapaxes")
def swap_axes(layer: Layer) -> str:
    rank = len(layer.type().shape)
    axes = list(range(rank))
    first, second = layer.integer("dim1", 0) % rank, layer.integer("dim2", 0) % rank
    axes[first], axes[second] = axes[second], axes[first]
    return layer.emit(Transpose(tuple(axes)), layer.value())


@converts("transpose")
def transpose(layer: Layer) -> str:
    rank = len(layer.type().shape)
    axes = layer.integers("axes", "()") or tuple(reversed(range(rank)))
    return layer.emit(Transpose(tuple(axis % rank for axis in axes)), layer.value())


@converts("Pad", "pad")
def pad(layer: Layer) -> str:
    layer.text("mode", allowed=("constant",))
    widths = layer.integers("pad_width")
    if len(widths) != 8 or any(widths[:4]) or min(widths) < 0:
        raise layer.unsupported(f"pad_width={widths} is not supported (only the two spatial axes)")
    top, bottom, left, right = widths[4:]
    return layer.emit(Pad((top, left, bottom, right), layer.number("constant_value", 0.0)), layer.value())


@converts("slice_axis")
def slice_axis(layer: Layer) -> str:
    axis, begin = layer.integer("axis"), layer.integer("begin")
    end = None if layer.absent("end") else layer.integer("end")
    return _cut(layer, axis, begin, end, 1)


@converts("slice", "crop")
def cut(layer: Layer) -> str:
    begin, end, step = (layer.bounds(key) for key in ("begin", "end", "step"))
    shape, value = layer.type().shape, layer.value()
    places = []
    for axis, (first, last) in enumerate(zip(begin, end, strict=False)):
        stride = (step[axis] if axis < len(step) else None) or 1
        if stride < 1 or axis >= len(shape):
            raise layer.unsupported(f"begin={begin}, end={end}, step={step} of shape {list(shape)} is not supported")
        if range(*slice(first, last, stride).indices(shape[axis])) != range(shape[axis]):
            places.append((axis, first or 0, last, stride))
    if not places:
        return layer.emit(Slice(1, 0, shape[1]), value)
    for place in places[:-1]:
        value = _cut(layer, *place, value=value, final=False)
    return _cut(layer, *places[-1], value=value)


def _cut(layer: Layer, axis: int, begin: int, end: int | None, step: int, value: str = "", final: bool = True) -> str:
    shape = layer.type().shape
    axis %= len(shape)
    if axis == 0:
        raise layer.unsupported("a slice of the batch is not supported")
    start, stop, step = slice(begin, end, step).indices(shape[axis])
    return layer.emit(Slice(axis, start, stop, step), value or layer.value(), final=final)


@converts("SliceChannel", "split")
def split(layer: Layer) -> list[str]:
    count, shape = layer.integer("num_outputs", least=1), layer.type().shape
    axis = layer.integer("axis", 1) % len(shape)
    if layer.flag("squeeze_axis", False):
        raise layer.unsupported("squeeze_axis=True is not supported")
    if axis == 0 or shape[axis] % count:
        raise layer.unsupported(f"{count} parts of axis {axis} of shape {list(shape)} are not supported")
    size = shape[axis] // count
    return [layer.emit_part(Slice(axis, part * size, (part + 1) * size), part) for part in range(count)]


@converts("Concat", "concat")
def concatenate(layer: Layer) -> str:
    values = [layer.value(index) for index in range(layer.operand_count)]
    axis = layer.integer("dim", 1)
    return layer.emit(Concatenate(axis % len(layer.type().shape)), *values)


@converts("_copy", "identity", "Dropout", "BlockGrad", "stop_gradient", "make_loss", "MakeLoss")
def identity(layer: Layer) -> str:
    layer.ignore("p", "axes", "grad_scale", "valid_thresh", "normalization")  # they matter to training only
    layer.text("mode", "training", ("training",))  # of Dropout: "always" drops in inference too
    return layer.value()


@converts("softmax")
def softmax(layer: Layer) -> str:
    if not layer.absent("temperature") and layer.number("temperature") != 1:
        raise layer.unsupported("a temperature is not supported")
    if layer.flag("use_length", False):
        raise layer.unsupported("use_length=True is not supported")
    layer.text("dtype", "None", ("None", "float32"))
    return layer.emit(Softmax(layer.integer("axis", -1)), layer.value())


@converts("SoftmaxActivation")
def softmax_activation(layer: Layer) -> str:
    channels = layer.text("mode", "instance", ("instance", "channel")) == "channel"
    return _softmax_per_sample(layer, channels)


@converts("SoftmaxOutput", "Softmax")
def softmax_output(layer: Layer) -> str:
    # They matter to training only; so does the label, the second operand.
    layer.ignore("grad_scale", "ignore_label", "use_ignore", "normalization", "out_grad", "smooth_alpha")
    channels = layer.flag("multi_output", False)
    if layer.flag("preserve_shape", False):
        return layer.emit(Softmax(-1), layer.value())
    return _softmax_per_sample(layer, channels)


def _softmax_per_sample(layer: Layer, channels: bool) -> str:
    """Softmax over axis 1, or over everything that a sample has."""
    if not channels and len(layer.type().shape) != 2:
        raise layer.unsupported(f"softmax over an input of shape {list(layer.type().shape)} is not supported")
    return layer.emit(Softmax(1), layer.value())


BINARY_NAMES = {
    "add": ("elemwise_add", "broadcast_add", "broadcast_plus", "_Plus", "_plus", "_add", "_grad_add"),
    "subtract": ("elemwise_sub", "broadcast_sub", "broadcast_minus", "_Minus", "_minus", "_sub"),
    "multiply": ("elemwise_mul", "broadcast_mul", "_Mul", "_mul"),
    "divide": ("elemwise_div", "broadcast_div", "_Div", "_div"),
    "maximum": ("broadcast_maximum", "_Maximum", "_maximum"),
    "minimum": ("broadcast_minimum", "_Minimum", "_minimum"),
}
BINARY_FUNCTIONS = {name: function for function, names in BINARY_NAMES.items() for name in names}


@converts(*BINARY_FUNCTIONS)
def binary(layer: Layer) -> str:
    return layer.emit(Binary(BINARY_FUNCTIONS[layer.node.op]), layer.value(0), layer.value(1))


@converts("add_n", "ElementWiseSum", "_sum")
def sum_of_several(layer: Layer) -> str:
    total = layer.value(0)
    for index in range(1, layer.operand_count):
        last = index == layer.operand_count - 1
        total = layer.emit(Binary("add"), total, layer.value(index), final=last)
    return total


SCALAR_NAMES = {
    ("add", False): ("_plus_scalar", "_PlusScalar"),
    ("subtract", False): ("_minus_scalar", "_MinusScalar"),
    ("subtract", True): ("_rminus_scalar", "_RMinusScalar"),
    ("multiply", False): ("_mul_scalar", "_MulScalar"),
    ("divide", False): ("_div_scalar", "_DivScalar"),
    ("divide", True): ("_rdiv_scalar", "_RDivScalar"),
    ("maximum", False): ("_maximum_scalar", "_MaximumScalar"),
    ("minimum", False): ("_minimum_scalar", "_MinimumScalar"),
}
SCALAR_FUNCTIONS = {name: function for function, names in SCALAR_NAMES.items() for name in names}


@converts(*SCALAR_FUNCTIONS)
def scalar(layer: Layer) -> str:
    layer.ignore("is_int")  # whether the constant was written as an integer
    function, reverse = SCALAR_FUNCTIONS[layer.node.op]
    return layer.emit(Scalar(function, layer.number("scalar"), reverse), layer.value())
