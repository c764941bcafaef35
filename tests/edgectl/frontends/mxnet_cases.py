"""Small networks, one per operator or convention, that MXNet builds and computes: the source of the recordings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

IMAGE = (2, 4, 5, 6)
FLAT = (2, 12)


def _bn_network(sym: Any, x: Any) -> Any:
    """A residual network in the small, with what checkpoints of every age contain."""
    x = sym.BatchNorm(x, fix_gamma=True, eps=2e-5, name="bn_data")
    x = sym.Convolution(x, num_filter=8, kernel=(3, 3), pad=(1, 1), stride=(2, 2), no_bias=True, name="conv0")
    x = sym.Activation(sym.BatchNorm(x, fix_gamma=False, name="bn0"), act_type="relu", name="relu0")
    y = sym.Convolution(x, num_filter=8, kernel=(3, 3), pad=(1, 1), name="conv1")
    x = sym.Pooling(x + y, kernel=(2, 2), stride=(2, 2), pool_type="max", pooling_convention="full", name="pool0")
    x = sym.Pooling(x, kernel=(1, 1), global_pool=True, pool_type="avg", name="pool1")
    x = sym.FullyConnected(sym.Flatten(x, name="flat"), num_hidden=5, name="fc1")
    return sym.SoftmaxOutput(x, name="softmax")


def _pool(**attributes: Any) -> Callable[[Any, Any], Any]:
    return lambda sym, x: sym.Pooling(x, name="layer", **attributes)


Case = tuple[tuple[int, ...], Callable[[Any, Any], Any]]

NETWORK: Case = (IMAGE, _bn_network)

CASES: dict[str, Case] = {
    "convolution": (IMAGE, lambda s, x: s.Convolution(x, num_filter=6, kernel=(3, 3), name="layer")),
    "convolution_uneven": (
        IMAGE,
        lambda s, x: s.Convolution(
            x, num_filter=6, kernel=(3, 2), stride=(2, 1), pad=(2, 0), dilate=(1, 3), name="layer"
        ),
    ),
    "convolution_grouped": (
        IMAGE, lambda s, x: s.Convolution(x, num_filter=6, kernel=(3, 3), num_group=2, no_bias=True, name="layer"),
    ),
    "convolution_depthwise": (
        IMAGE,
        lambda s, x: s.Convolution(
            x, num_filter=4, kernel=(3, 3), num_group=4, stride=(2, 2), pad=(1, 1), name="layer"
        ),
    ),
    "convolution_depthwise_twofold": (
        IMAGE, lambda s, x: s.Convolution(x, num_filter=8, kernel=(3, 3), num_group=4, no_bias=True, name="layer"),
    ),
    "convolution_pointwise": (
        IMAGE, lambda s, x: s.Convolution(x, num_filter=6, kernel=(1, 1), stride=(2, 2), name="layer"),
    ),
    "fully_connected": (FLAT, lambda s, x: s.FullyConnected(x, num_hidden=3, name="layer")),
    "fully_connected_flattens": (IMAGE, lambda s, x: s.FullyConnected(x, num_hidden=3, no_bias=True, name="layer")),
    "batch_norm_defaults": (IMAGE, lambda s, x: s.BatchNorm(x, name="layer")),
    "batch_norm": (IMAGE, lambda s, x: s.BatchNorm(x, fix_gamma=False, eps=1e-5, name="layer")),
    "batch_norm_flat": (FLAT, lambda s, x: s.BatchNorm(x, fix_gamma=False, axis=-1, name="layer")),
    "relu": (IMAGE, lambda s, x: s.Activation(x, act_type="relu", name="layer")),
    "sigmoid": (IMAGE, lambda s, x: s.Activation(x, act_type="sigmoid", name="layer")),
    "tanh": (IMAGE, lambda s, x: s.Activation(x, act_type="tanh", name="layer")),
    "named_relu": (IMAGE, lambda s, x: s.relu(x, name="layer")),
    "leaky_relu": (IMAGE, lambda s, x: s.LeakyReLU(x, slope=0.1, name="layer")),
    "leaky_relu_defaults": (IMAGE, lambda s, x: s.LeakyReLU(x, name="layer")),
    "clip": (IMAGE, lambda s, x: s.clip(x, a_min=-0.5, a_max=0.25, name="layer")),
    "max_valid": (IMAGE, _pool(kernel=(3, 3), stride=(2, 2), pool_type="max")),
    "max_padded": (IMAGE, _pool(kernel=(3, 3), stride=(2, 2), pad=(1, 1), pool_type="max")),
    "max_full": (IMAGE, _pool(kernel=(2, 2), stride=(2, 2), pool_type="max", pooling_convention="full")),
    "max_full_padded": (
        IMAGE, _pool(kernel=(3, 3), stride=(2, 2), pad=(1, 1), pool_type="max", pooling_convention="full"),
    ),
    "average_valid": (IMAGE, _pool(kernel=(3, 2), stride=(1, 2), pool_type="avg")),
    "average_padded": (IMAGE, _pool(kernel=(3, 3), stride=(2, 2), pad=(1, 1), pool_type="avg")),
    "average_excludes_padding": (
        IMAGE, _pool(kernel=(3, 3), stride=(2, 2), pad=(1, 1), pool_type="avg", count_include_pad=False),
    ),
    "average_full": (IMAGE, _pool(kernel=(2, 2), stride=(2, 2), pool_type="avg", pooling_convention="full")),
    "average_full_padded": (
        (1, 2, 8, 10), _pool(kernel=(3, 3), stride=(2, 2), pad=(1, 1), pool_type="avg", pooling_convention="full"),
    ),
    "average_full_excludes_padding": (
        (1, 2, 8, 10),
        _pool(
            kernel=(3, 3), stride=(2, 2), pad=(1, 1), pool_type="avg", pooling_convention="full",
            count_include_pad=False,
        ),
    ),
    "global_average": (IMAGE, _pool(kernel=(1, 1), global_pool=True, pool_type="avg")),
    "global_max": (IMAGE, _pool(global_pool=True, pool_type="max", kernel=(2, 2), pad=(1, 1), stride=(2, 2))),
    "adaptive_average": (IMAGE, lambda s, x: s.contrib.AdaptiveAvgPooling2D(x, output_size=1, name="layer")),
    "mean": (IMAGE, lambda s, x: s.mean(x, axis=(2, 3), name="layer")),
    "mean_keepdims": (IMAGE, lambda s, x: s.mean(x, axis=(-1, -2), keepdims=True, name="layer")),
    "mean_exclude": (IMAGE, lambda s, x: s.mean(x, axis=(0, 1), exclude=True, name="layer")),
    "max": (IMAGE, lambda s, x: s.max(x, axis=(2, 3), name="layer")),
    "flatten": (IMAGE, lambda s, x: s.Flatten(x, name="layer")),
    "reshape": (IMAGE, lambda s, x: s.Reshape(x, shape=(0, -1), name="layer")),
    "reshape_copies": (IMAGE, lambda s, x: s.Reshape(x, shape=(0, 0, -1), name="layer")),
    "reshape_batch_inferred": (IMAGE, lambda s, x: s.Reshape(x, shape=(-1, 2, 2, 30), name="layer")),
    "transpose": (IMAGE, lambda s, x: s.transpose(x, axes=(0, 2, 3, 1), name="layer")),
    "pad": (
        IMAGE,
        lambda s, x: s.Pad(x, mode="constant", pad_width=(0, 0, 0, 0, 1, 2, 3, 0), constant_value=0.5, name="layer"),
    ),
    "concat": (IMAGE, lambda s, x: s.Concat(x, s.relu(x, name="other"), dim=1, name="layer")),
    "concat_last": (IMAGE, lambda s, x: s.Concat(x, s.relu(x, name="other"), dim=-1, name="layer")),
    "add": (IMAGE, lambda s, x: s.elemwise_add(x, s.relu(x, name="other"), name="layer")),
    "subtract": (IMAGE, lambda s, x: s.elemwise_sub(x, s.relu(x, name="other"), name="layer")),
    "multiply_broadcast": (
        IMAGE,
        lambda s, x: s.broadcast_mul(
            x, s.Pooling(x, global_pool=True, kernel=(1, 1), pool_type="avg", name="other"), name="layer"
        ),
    ),
    "divide": (IMAGE, lambda s, x: s.broadcast_div(x, s.sigmoid(x, name="other"), name="layer")),
    "maximum": (IMAGE, lambda s, x: s.broadcast_maximum(x, s.tanh(x, name="other"), name="layer")),
    "minimum": (IMAGE, lambda s, x: s.broadcast_minimum(x, s.tanh(x, name="other"), name="layer")),
    "add_n": (IMAGE, lambda s, x: s.add_n(x, s.relu(x, name="a"), s.tanh(x, name="b"), name="layer")),
    "stored_operand": (
        IMAGE, lambda s, x: s.broadcast_mul(x, s.var("scale_weight", shape=(1, 4, 1, 1)), name="layer"),
    ),
    "plus_scalar": (IMAGE, lambda s, x: x + 1.5),
    "reversed_minus_scalar": (IMAGE, lambda s, x: 1.5 - x),
    "minus_scalar": (IMAGE, lambda s, x: x - 2),
    "times_scalar": (IMAGE, lambda s, x: x * 0.25),
    "divided_by_scalar": (IMAGE, lambda s, x: x / 3),
    "scalar_divided": (IMAGE, lambda s, x: 2 / s.sigmoid(x, name="other")),
    "maximum_scalar": (IMAGE, lambda s, x: s.maximum(x, 0.1)),
    "dropout": (IMAGE, lambda s, x: s.relu(s.Dropout(x, p=0.3, name="drop"), name="layer")),
    "identity": (IMAGE, lambda s, x: s.relu(s.identity(x, name="id"), name="layer")),
    "softmax": (FLAT, lambda s, x: s.softmax(x, name="layer")),
    "softmax_axis": (IMAGE, lambda s, x: s.softmax(x, axis=1, name="layer")),
    "softmax_activation": (FLAT, lambda s, x: s.SoftmaxActivation(x, name="layer")),
    "softmax_activation_channel": (IMAGE, lambda s, x: s.SoftmaxActivation(x, mode="channel", name="layer")),
    "softmax_output": (FLAT, lambda s, x: s.SoftmaxOutput(x, name="layer")),
    "softmax_output_channel": (IMAGE, lambda s, x: s.SoftmaxOutput(x, multi_output=True, name="layer")),
    "slice_axis": (IMAGE, lambda s, x: s.slice_axis(x, axis=1, begin=1, end=3, name="layer")),
    "slice_axis_to_the_end": (IMAGE, lambda s, x: s.slice_axis(x, axis=-1, begin=-4, end=None, name="layer")),
    "slice": (IMAGE, lambda s, x: s.slice(x, begin=(None, 1, 0, 2), end=(None, 4, 3, 6), name="layer")),
    "slice_steps": (
        IMAGE, lambda s, x: s.slice(x, begin=(None, 0), end=(None, -1), step=(None, 2), name="layer"),
    ),
    "slice_one_axis": (IMAGE, lambda s, x: s.slice(x, begin=(None, None, -3), end=(None, None, None), name="layer")),
    "erf": (IMAGE, lambda s, x: s.erf(x, name="layer")),
    "gelu": (IMAGE, lambda s, x: s.LeakyReLU(x, act_type="gelu", name="layer")),
    "local_response_norm": (IMAGE, lambda s, x: s.LRN(x, nsize=3, alpha=0.5, beta=0.6, knorm=1.5, name="layer")),
    "local_response_norm_defaults": (IMAGE, lambda s, x: s.LRN(x, nsize=5, name="layer")),
    "upsampling": (IMAGE, lambda s, x: s.UpSampling(x, scale=3, sample_type="nearest", num_args=1, name="layer")),
    "repeat": (IMAGE, lambda s, x: s.repeat(x, repeats=2, axis=3, name="layer")),
    "reshape_copies_the_rest": (IMAGE, lambda s, x: s.Reshape(x, shape=(0, -1, 1, -2), name="layer")),
    "reshape_multiplies": (IMAGE, lambda s, x: s.Reshape(x, shape=(0, -3, -2), name="layer")),
    "reshape_divides": (IMAGE, lambda s, x: s.Reshape(x, shape=(0, -4, 2, -1, -2), name="layer")),
    "reshape_divides_and_infers": (IMAGE, lambda s, x: s.Reshape(x, shape=(0, -4, -1, 2, 0, 0), name="layer")),
    "expand_dims": (FLAT, lambda s, x: s.expand_dims(s.expand_dims(x, axis=2), axis=-1, name="layer")),
    "squeeze": (
        IMAGE,
        lambda s, x: s.squeeze(s.Pooling(x, global_pool=True, kernel=(1, 1), pool_type="avg", name="a"), axis=(2, 3)),
    ),
    "squeeze_all": (
        IMAGE, lambda s, x: s.squeeze(s.Pooling(x, global_pool=True, kernel=(1, 1), pool_type="avg", name="a")),
    ),
    "swap_axes": (IMAGE, lambda s, x: s.SwapAxis(x, dim1=1, dim2=-1, name="layer")),
    "channel_shuffle": (
        IMAGE,
        lambda s, x: s.reshape(
            s.SwapAxis(s.reshape(x, shape=(0, -4, 2, -1, -2)), dim1=1, dim2=2), shape=(0, -3, -2), name="layer"
        ),
    ),
    "split": (
        IMAGE,
        lambda s, x: s.Concat(*reversed(list(s.SliceChannel(x, num_outputs=2, name="halves"))), dim=1, name="layer"),
    ),
    "padded_convolution": (
        IMAGE,
        lambda s, x: s.Convolution(
            s.Pad(x, mode="constant", pad_width=(0, 0, 0, 0, 1, 2, 0, 1), constant_value=0, name="pad"),
            num_filter=6, kernel=(3, 3), pad=(1, 0), stride=(2, 2), name="layer",
        ),
    ),
    "two_outputs": (IMAGE, lambda s, x: s.Group([s.relu(x, name="first"), s.Flatten(x, name="second")])),
}  # fmt: skip
