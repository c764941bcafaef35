"""What PyTorch and ONNX have one operator for and the graph has several, or another form."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from edgectl.frontends.source_layer import Constant, SourceLayer, Value
from edgectl.operators.activation import Clip, Erf, LeakyRelu, Relu, Sigmoid, Tanh
from edgectl.operators.base import Padding, window_output
from edgectl.operators.batch_norm import BatchNorm
from edgectl.operators.convolution import Convolution
from edgectl.operators.dense import Dense
from edgectl.operators.elementwise import BINARY_FUNCTIONS, Binary, Scalar
from edgectl.operators.pooling import AveragePool, GlobalPool, MaxPool
from edgectl.operators.shape import Concatenate, Flatten, Reshape, Slice, Transpose, Upsample

Pair = tuple[int, int]


# Layers with parameters


def convolution(
    layer: SourceLayer,
    x: Value,
    weight: Value,
    bias: Value | None,
    strides: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
) -> Value:
    """A two-dimensional convolution by stored weights (O, C/groups, KH, KW)."""
    weight = layer.stored(weight, "weight")
    if len(weight.shape) != 4:
        raise layer.unsupported(f"its weights are {list(weight.shape)}; only two-dimensional images are supported")
    more = () if bias is None else (layer.stored(bias, "bias"),)
    return layer.emit(Convolution(strides, padding, dilation, groups), layer.computed(x), weight, *more)


def dense(layer: SourceLayer, x: Value, weight: Value, bias: Value | None) -> Value:
    """x (N, K) times stored weights (O, K) transposed, and a bias (O), or one number for all."""
    if len(layer.shape(x)) != 2:
        raise layer.unsupported(f"an input of shape {list(layer.shape(x))} is not supported (only (N, features))")
    stored = layer.stored(weight, "weight")
    if bias is None:
        return layer.emit(Dense(), layer.computed(x), stored)
    row = layer.stored(bias, "bias")
    if row.array.size not in (1, stored.shape[0]):
        raise layer.unsupported(f"its bias has shape {list(row.shape)}, {stored.shape[0]} numbers are supported")
    full = Constant(row.name, np.broadcast_to(row.array.reshape(-1), stored.shape[:1]))
    return layer.emit(Dense(), layer.computed(x), stored, full)


def batch_norm(
    layer: SourceLayer,
    x: Value,
    gamma: Value | None,
    beta: Value | None,
    mean: Value,
    variance: Value,
    epsilon: float,
    momentum: float = 0.9,
) -> Value:
    """Normalisation by stored statistics; absent gamma and beta are 1 and 0."""
    shape = layer.stored(mean, "running mean").shape
    arrays = (
        Constant(f"{layer.label}.gamma", np.ones(shape, np.float32)) if gamma is None else layer.stored(gamma, "gamma"),
        Constant(f"{layer.label}.beta", np.zeros(shape, np.float32)) if beta is None else layer.stored(beta, "beta"),
        layer.stored(mean, "running mean"),
        layer.stored(variance, "running variance"),
    )
    return layer.emit(BatchNorm(epsilon, momentum=momentum), layer.computed(x), *arrays)


# Elementwise


def hard_sigmoid(layer: SourceLayer, x: Value, slope: float = 1 / 6, offset: float = 0.5, final: bool = True) -> Value:
    """clip(slope * x + offset, 0, 1)."""
    scaled = layer.emit(Scalar("multiply", slope), x, final=False)
    return layer.emit(Clip(0.0, 1.0), layer.emit(Scalar("add", offset), scaled, final=False), final=final)


def hard_swish(layer: SourceLayer, x: Value) -> Value:
    """x * clip(x / 6 + 1/2, 0, 1)."""
    return layer.emit(Binary("multiply"), x, hard_sigmoid(layer, x, final=False))


def silu(layer: SourceLayer, x: Value) -> Value:
    """x * sigmoid(x)."""
    return layer.emit(Binary("multiply"), x, layer.emit(Sigmoid(), x, final=False))


def gelu_tanh(layer: SourceLayer, x: Value) -> Value:
    """x * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3))) / 2, the approximation that frameworks call tanh."""

    def step(operator: Scalar | Binary | Tanh, *inputs: Value) -> Value:
        return layer.emit(operator, *inputs, final=False)

    cube = step(Binary("multiply"), x, step(Binary("multiply"), x, x))
    inner = step(Binary("add"), x, step(Scalar("multiply", 0.044715), cube))
    gate = step(Scalar("add", 1.0), step(Tanh(), step(Scalar("multiply", math.sqrt(2 / math.pi)), inner)))
    return layer.emit(Binary("multiply"), step(Scalar("multiply", 0.5), x), gate)


def gelu(layer: SourceLayer, x: Value) -> Value:
    """x * (1 + erf(x / sqrt(2))) / 2, without approximation."""
    scaled = layer.emit(Scalar("multiply", math.sqrt(0.5)), x, final=False)
    gate = layer.emit(Scalar("add", 1.0), layer.emit(Erf(), scaled, final=False), final=False)
    return layer.emit(Binary("multiply"), layer.emit(Scalar("multiply", 0.5), x, final=False), gate)


def leaky_relu(layer: SourceLayer, x: Value, slope: float) -> Value:
    return layer.emit(LeakyRelu(slope), x)


def prelu(layer: SourceLayer, x: Value, slope: Constant) -> Value:
    """x where positive, slope * x elsewhere, with one slope or one for each channel (axis 1)."""
    number = slope.number()
    if number is not None:
        return leaky_relu(layer, x, number)
    channels = layer.shape(x)[1]
    if slope.array.size != channels or channels not in slope.shape:
        raise layer.unsupported(f"its slopes are {list(slope.shape)}, its input has {channels} channels")
    below = layer.emit(Scalar("minimum", 0.0), x, final=False)
    scaled = _per_channel(layer, below, Constant(slope.name, slope.array.reshape(-1)), None, final=False)
    return layer.emit(Binary("add"), layer.emit(Relu(), x, final=False), scaled)


def binary(layer: SourceLayer, function: str, a: Value, b: Value, final: bool = True) -> Value:
    """`function` of two values with NumPy's broadcasting.

    A constant of one element becomes a Scalar, one number for each channel an affine map, which quantization folds.
    """
    if isinstance(a, Constant) and isinstance(b, Constant):
        return Constant(layer.label, np.asarray(BINARY_FUNCTIONS[function](a.array, b.array)))
    constant, value, reverse = (a, b, True) if isinstance(a, Constant) else (b, a, False)
    if not isinstance(constant, Constant):
        return layer.emit(Binary(function), a, b, final=final)
    assert isinstance(value, str)
    shape = layer.shape(value)
    if len(constant.shape) > len(shape):
        raise layer.unsupported(f"a constant of shape {list(constant.shape)} does not broadcast to {list(shape)}")
    if (number := constant.number()) is not None:
        if function in ("add", "multiply", "maximum", "minimum"):
            reverse = False
        return layer.emit(Scalar(function, number, reverse), value, final=final)
    full = constant.array.reshape((1,) * (len(shape) - constant.array.ndim) + constant.shape)
    if len(shape) in (2, 4) and full.size == full.shape[-len(shape) + 1] == shape[1]:
        numbers = full.reshape(-1).astype(np.float32)
        stored, negative = Constant(constant.name, numbers), Constant(f"{layer.label}.negative", -numbers)
        if function == "add" or (function == "subtract" and not reverse):
            return _per_channel(layer, value, None, stored if function == "add" else negative, final)
        if function == "multiply":
            return _per_channel(layer, value, stored, None, final)
        if function == "divide" and not reverse:
            return _per_channel(layer, value, Constant(f"{layer.label}.inverse", 1 / numbers), None, final)
    operands = (Constant(constant.name, full), value) if reverse else (value, Constant(constant.name, full))
    return layer.emit(Binary(function), *operands, final=final)


def _per_channel(layer: SourceLayer, x: Value, scale: Constant | None, offset: Constant | None, final: bool) -> Value:
    """x * scale + offset, one number for each channel (axis 1), as a normalisation; None: 1 and 0."""
    count = layer.shape(x)[1]
    zeros = Constant(f"{layer.label}.zeros", np.zeros(count, np.float32))
    ones = Constant(f"{layer.label}.ones", np.ones(count, np.float32))
    return layer.emit(BatchNorm(0.0), x, scale or ones, offset or zeros, zeros, ones, final=final)


# Pooling


def ceil_padding(size: int, kernel: int, stride: int, before: int, after: int, dilation: int = 1) -> int:
    """Pixels that the last window of a ceil convention needs behind the padded image. A window that would begin behind
    the image and what is before it does not count."""
    floor = window_output(size, kernel, stride, before, after, dilation)
    reach = dilation * (kernel - 1) + 1
    count = math.ceil((size + before + after - reach) / stride) + 1
    if (count - 1) * stride >= size + before:
        count -= 1
    return 0 if count <= floor else (count - 1) * stride + reach - (size + before + after)


def max_pool(
    layer: SourceLayer, x: Value, kernel: Pair, strides: Pair, padding: Padding, dilation: Pair, ceil: bool
) -> Value:
    if dilation != (1, 1):
        raise layer.unsupported(f"a dilation of {dilation} is not supported")
    below, right = _ceil_padding(layer, x, kernel, strides, padding) if ceil else (0, 0)
    top, left, bottom, behind = padding
    return layer.emit(MaxPool(kernel, strides, (top, left, bottom + below, behind + right)), layer.computed(x))


def average_pool(
    layer: SourceLayer, x: Value, kernel: Pair, strides: Pair, padding: Padding, ceil: bool, count_include_pad: bool
) -> Value:
    more = _ceil_padding(layer, x, kernel, strides, padding) if ceil else (0, 0)
    return layer.emit(AveragePool(kernel, strides, padding, count_include_pad, more), layer.computed(x))


def _ceil_padding(layer: SourceLayer, x: Value, kernel: Pair, strides: Pair, padding: Padding) -> Pair:
    shape = image_shape(layer, x)
    below, right = (
        ceil_padding(shape[2 + axis], kernel[axis], strides[axis], padding[axis], padding[axis + 2]) for axis in (0, 1)
    )
    return below, right


def image_shape(layer: SourceLayer, x: Value) -> tuple[int, ...]:
    shape = layer.shape(x)
    if len(shape) != 4:
        raise layer.unsupported(f"needs an input (N, C, H, W), got shape {list(shape)}")
    return shape


def adaptive_average_pool(layer: SourceLayer, x: Value, size: Sequence[int | None]) -> Value:
    """Pooling to `size` (height, width; None: as it is), where windows are alike."""
    shape = image_shape(layer, x)
    wanted = [given or extent for given, extent in zip(size, shape[2:], strict=True)]
    if wanted == [1, 1]:
        return layer.emit(GlobalPool("average"), layer.computed(x))
    if wanted == list(shape[2:]):
        return x
    if any(extent % count for extent, count in zip(shape[2:], wanted, strict=True)):
        raise layer.unsupported(
            f"pooling {list(shape[2:])} pixels to {wanted} takes windows of different sizes, which is not supported; "
            "another input size may make them alike"
        )
    kernel = (shape[2] // wanted[0], shape[3] // wanted[1])
    return layer.emit(AveragePool(kernel, kernel), layer.computed(x))


def mean(layer: SourceLayer, x: Value, axes: Sequence[int], keep: bool) -> Value:
    """The mean over axes behind the channels; (N, C, L) is an image of one column."""
    shape = layer.shape(x)
    over = sorted({axis % len(shape) for axis in axes})
    if len(shape) not in (3, 4) or not over or over[0] < 2:
        raise layer.unsupported(
            f"axes {list(axes)} of shape {list(shape)} are not supported (only those behind (N, C))"
        )
    if len(shape) == 3:
        column = layer.emit(Reshape((*shape[1:], 1)), x, final=False)
        pooled = layer.emit(GlobalPool("average"), column, final=False)
        return layer.emit(Reshape((shape[1], 1)) if keep else Flatten(), pooled)
    if over == [2, 3]:
        pooled = layer.emit(GlobalPool("average"), x, final=keep)
        return pooled if keep else layer.emit(Flatten(), pooled)
    kernel = (shape[2] if 2 in over else 1, shape[3] if 3 in over else 1)
    pooled = layer.emit(AveragePool(kernel), x, final=keep)
    rest = tuple(extent for axis, extent in enumerate(shape) if axis and axis not in over)
    return pooled if keep else layer.emit(Reshape(rest), pooled)


def maximum(layer: SourceLayer, x: Value, axes: Sequence[int], keep: bool) -> Value:
    """The maximum over both spatial axes."""
    shape = image_shape(layer, x)
    if sorted({axis % 4 for axis in axes}) != [2, 3]:
        raise layer.unsupported(f"axes {list(axes)} of shape {list(shape)} are not supported (only the spatial two)")
    pooled = layer.emit(GlobalPool("max"), x, final=keep)
    return pooled if keep else layer.emit(Flatten(), pooled)


# Shapes


def upsample(layer: SourceLayer, x: Value, size: Sequence[int]) -> Value:
    """Each pixel several times, up to `size` (height, width)."""
    extents = image_shape(layer, x)[2:]
    if any(wanted < extent or wanted % extent for wanted, extent in zip(size, extents, strict=True)):
        raise layer.unsupported(f"resizing {list(extents)} pixels to {list(size)} is not supported (only multiples)")
    return layer.emit(Upsample((size[0] // extents[0], size[1] // extents[1])), layer.computed(x))


def reshape(layer: SourceLayer, x: Value, target: Sequence[int]) -> Value:
    """To `target`, in which one extent may be -1. The batch stays."""
    shape, wanted = layer.shape(x), list(target)
    if wanted.count(-1) == 1:
        rest = -math.prod(wanted)
        wanted[wanted.index(-1)] = math.prod(shape) // rest if rest else 0
    if math.prod(wanted) != math.prod(shape) or min(wanted, default=1) < 0:
        raise layer.unsupported(f"shape {list(shape)} does not reshape to {list(target)}")
    if isinstance(x, Constant):
        return Constant(x.name, x.array.reshape(wanted))
    if wanted == list(shape):
        return x
    if not wanted or wanted[0] != shape[0]:
        raise layer.unsupported(f"reshaping {list(shape)} to {wanted} does not keep the batch, the first axis")
    return layer.emit(Flatten() if len(wanted) == 2 else Reshape(tuple(wanted[1:])), x)


def flatten(layer: SourceLayer, x: Value, start: int, end: int) -> Value:
    """Axes `start` to `end` as one."""
    shape = layer.shape(x)
    start, end = start % max(len(shape), 1), end % max(len(shape), 1)
    return reshape(layer, x, (*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :]))


def transpose(layer: SourceLayer, x: Value, axes: Sequence[int]) -> Value:
    order = tuple(axis % len(axes) for axis in axes)
    if isinstance(x, Constant):
        return Constant(x.name, x.array.transpose(order))
    return x if order == tuple(range(len(order))) else layer.emit(Transpose(order), x)


def concatenate(layer: SourceLayer, parts: Sequence[Value], axis: int) -> Value:
    # Frameworks skip the empty tensor that code starts a list with.
    some = [part for part in parts if 0 not in layer.shape(part)]
    if len(some) == 1:
        return some[0]
    return layer.emit(Concatenate(axis % len(layer.shape(some[0]))), *some)


def cut(layer: SourceLayer, x: Value, axis: int, start: int, stop: int, step: int = 1) -> Value:
    """`x[start:stop:step]` along `axis`; negative numbers count from the end."""
    shape = layer.shape(x)
    axis %= len(shape)
    chosen = range(*slice(start, stop, step).indices(shape[axis]))
    if not chosen or step < 1:
        raise layer.unsupported(f"elements {start}:{stop}:{step} of axis {axis} of {list(shape)} are none")
    if len(chosen) == shape[axis]:
        return x
    if isinstance(x, Constant):
        return Constant(x.name, np.take(x.array, chosen, axis))
    return layer.emit(Slice(axis, chosen.start, chosen[-1] + 1, step), x)


def split(layer: SourceLayer, x: Value, axis: int, extents: Sequence[int]) -> list[Value]:
    """Consecutive parts of those extents along `axis`."""
    whole = layer.shape(x)[axis]
    if sum(extents) != whole or min(extents, default=0) < 1:
        raise layer.unsupported(f"parts of {list(extents)} do not make the {whole} of axis {axis}")
    starts = np.cumsum([0, *extents]).tolist()
    return [cut(layer, x, axis, start, start + extent) for start, extent in zip(starts, extents, strict=False)]
