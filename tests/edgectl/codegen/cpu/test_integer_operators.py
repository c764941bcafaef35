"""Integer kernels equal `Operator.evaluate` bit for bit, on every processor level this machine has."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgectl.codegen.cpu import CpuTarget
from edgectl.graph import Model, Node
from edgectl.operators.base import TensorType
from edgectl.operators.integer import (
    IntegerAdd,
    IntegerAffine,
    IntegerConvolution,
    IntegerDense,
    IntegerExtremum,
    IntegerMultiply,
    IntegerPoolSum,
    IntegerWindowSum,
)
from edgectl.operators.layout import Pack, Unpack
from edgectl.operators.lookup import Lookup
from edgectl.operators.pooling import MaxPool
from edgectl.operators.quantization import Dequantize, Quantize, Requantize
from tests.edgectl.codegen.cpu.support import RUNNABLE, run_model, run_operator

EXAMPLES = settings(max_examples=12)
targets = st.sampled_from(RUNNABLE)
seeds = st.integers(0, 2**32 - 1)
shifts = st.integers(-2, 12)


def int8(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-128, 128, shape).astype(np.int8)


def int32(seed: int, *shape: int, limit: int = 20000) -> np.ndarray:
    return np.random.default_rng(seed).integers(-limit, limit, shape).astype(np.int32)


@EXAMPLES
@given(data=st.data(), target=targets, seed=seeds)
def test_convolution(data: st.DataObject, target: CpuTarget, seed: int) -> None:
    groups = data.draw(st.sampled_from([1, 1, 1, 2, 4]))
    channels = groups * data.draw(st.integers(1, 5))
    out_channels = groups * data.draw(st.sampled_from([1, 2, 3, 8, 16]))
    kernel = data.draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    operator = IntegerConvolution(
        strides=data.draw(st.tuples(st.integers(1, 3), st.integers(1, 3))),
        padding=data.draw(st.tuples(*[st.integers(0, 3)] * 4)),
        dilation=data.draw(st.tuples(st.integers(1, 2), st.integers(1, 2))),
        groups=groups,
        shift=data.draw(shifts),
        low=data.draw(st.sampled_from([-127, 0])),
        residual_shift=data.draw(st.integers(-3, 8)),
    )
    size = (2 * kernel[0] + data.draw(st.integers(0, 20)), 2 * kernel[1] + data.draw(st.integers(0, 40)))
    x = int8(seed, data.draw(st.integers(1, 2)), channels, *size)
    parameters = [int8(seed + 1, out_channels, channels // groups, *kernel), int32(seed + 2, out_channels)]
    expected = operator.evaluate(x, *parameters)
    np.testing.assert_array_equal(run_operator(operator, [x], parameters, target), expected)


@pytest.mark.parametrize("target", RUNNABLE, ids=lambda target: target.name)
@pytest.mark.parametrize(
    ("shape", "weight", "operator"),
    [
        ((1, 3, 224, 224), (64, 3, 7, 7), IntegerConvolution((2, 2), (3, 3, 3, 3), shift=9, low=0)),
        ((1, 3, 32, 32), (16, 3, 3, 3), IntegerConvolution((1, 1), (1, 1, 1, 1), shift=7)),
        ((1, 64, 7, 7), (512, 64, 1, 1), IntegerConvolution((1, 1), shift=8)),
        ((1, 64, 56, 56), (128, 64, 1, 1), IntegerConvolution((2, 2), shift=8)),
        ((1, 32, 14, 14), (32, 1, 3, 3), IntegerConvolution((1, 1), (1, 1, 1, 1), groups=32, shift=6)),
        ((1, 5, 9, 130), (7, 5, 3, 13), IntegerConvolution((1, 1), (1, 6, 1, 6), shift=9)),
    ],
)
def test_convolution_of_real_layers(
    shape: tuple[int, ...], weight: tuple[int, ...], operator: IntegerConvolution, target: CpuTarget
) -> None:
    x, parameters = int8(1, *shape), [int8(2, *weight), int32(3, weight[0])]
    expected = operator.evaluate(x, *parameters)
    np.testing.assert_array_equal(run_operator(operator, [x], parameters, target), expected)


@EXAMPLES
@given(seed=seeds, target=targets, width=st.integers(1, 33), shift=shifts, residual_shift=st.integers(-3, 8))
def test_convolution_with_residual(seed: int, target: CpuTarget, width: int, shift: int, residual_shift: int) -> None:
    operator = IntegerConvolution((1, 1), (1, 1, 1, 1), shift=shift, residual_shift=residual_shift)
    x, weight, bias = int8(seed, 1, 4, 6, width), int8(seed + 1, 6, 4, 3, 3), int32(seed + 2, 6)
    residual = int8(seed + 3, 1, 6, 6, width)
    types = {"x": TensorType(x.shape, "int8"), "r": TensorType(residual.shape, "int8")}
    model = Model("residual", types, (Node("y", operator, ("x", "w", "b", "r")),), {"w": weight, "b": bias}, ("y",))
    actual = run_model(model, {"x": x, "r": residual}, target)["y"]
    np.testing.assert_array_equal(actual, operator.evaluate(x, weight, bias, residual))


@EXAMPLES
@given(seed=seeds, target=targets, batch=st.integers(1, 5), length=st.integers(1, 70), features=st.integers(1, 200))
def test_dense(seed: int, target: CpuTarget, batch: int, length: int, features: int) -> None:
    x, parameters = int8(seed, batch, length), [int8(seed + 1, features, length), int32(seed + 2, features)]
    actual = run_operator(IntegerDense(), [x], parameters, target)
    np.testing.assert_array_equal(actual, IntegerDense().evaluate(x, *parameters))


@EXAMPLES
@given(
    seed=seeds,
    target=targets,
    size=st.tuples(st.integers(4, 40), st.integers(4, 40)),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(*[st.integers(0, 2)] * 4),
)
def test_max_pool(
    seed: int,
    target: CpuTarget,
    size: tuple[int, int],
    kernel: tuple[int, int],
    strides: tuple[int, int],
    padding: tuple[int, int, int, int],
) -> None:
    operator, x = MaxPool(kernel, strides, padding), int8(seed, 2, 3, *size)
    np.testing.assert_array_equal(run_operator(operator, [x], target=target), operator.evaluate(x))


@EXAMPLES
@given(
    seed=seeds,
    target=targets,
    channels=st.integers(1, 40),
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    batch=st.sampled_from([1, 2]),
    block=st.sampled_from([4, 16]),
)
def test_pack_and_unpack(
    seed: int, target: CpuTarget, channels: int, size: tuple[int, int], batch: int, block: int
) -> None:
    x = int8(seed, 2, channels, *size)
    pack, unpack = Pack(batch, block), Unpack(channels)
    packed = run_operator(pack, [x], target=target)
    np.testing.assert_array_equal(packed, pack.evaluate(x))
    np.testing.assert_array_equal(run_operator(unpack, [packed], target=target), x)


@EXAMPLES
@given(seed=seeds, target=targets, a_shift=st.integers(0, 8), b_shift=st.integers(0, 8), shift=shifts)
def test_add(seed: int, target: CpuTarget, a_shift: int, b_shift: int, shift: int) -> None:
    operator, a, b = IntegerAdd(a_shift, b_shift, shift), int8(seed, 1, 5, 3, 7), int8(seed + 1, 1, 5, 3, 7)
    np.testing.assert_array_equal(run_operator(operator, [a, b], target=target), operator.evaluate(a, b))


@EXAMPLES
@given(
    seed=seeds,
    target=targets,
    function=st.sampled_from(["maximum", "minimum"]),
    a_shift=st.integers(0, 8),
    b_shift=st.integers(0, 8),
    shift=shifts,
)
def test_extremum(seed: int, target: CpuTarget, function: str, a_shift: int, b_shift: int, shift: int) -> None:
    operator = IntegerExtremum(function, a_shift, b_shift, shift)
    a, b = int8(seed, 1, 5, 3, 7), int8(seed + 1, 1, 5, 3, 7)
    np.testing.assert_array_equal(run_operator(operator, [a, b], target=target), operator.evaluate(a, b))


@EXAMPLES
@given(
    seed=seeds, target=targets, shift=shifts, other=st.sampled_from([(2, 5, 3, 7), (1, 5, 1, 1), (2, 1, 3, 7), (7,)])
)
def test_multiply(seed: int, target: CpuTarget, shift: int, other: tuple[int, ...]) -> None:
    operator, a, b = IntegerMultiply(shift), int8(seed, 2, 5, 3, 7), int8(seed + 1, *other)
    np.testing.assert_array_equal(run_operator(operator, [a, b], target=target), operator.evaluate(a, b))


@EXAMPLES
@given(seed=seeds, target=targets, shape=st.sampled_from([(2, 5, 3, 7), (1, 16, 9, 5), (3, 40)]))
def test_lookup(seed: int, target: CpuTarget, shape: tuple[int, ...]) -> None:
    x, table = int8(seed, *shape), int8(seed + 1, 256)
    x.flat[:2] = (-128, 127)
    expected = [table[int(value) + 128] for value in x.ravel()]
    np.testing.assert_array_equal(run_operator(Lookup(), [x], [table], target).ravel(), expected)
    np.testing.assert_array_equal(Lookup().evaluate(x, table).ravel(), expected)


@EXAMPLES
@given(seed=seeds, target=targets, shift=shifts, low=st.sampled_from([-127, 0]))
def test_affine(seed: int, target: CpuTarget, shift: int, low: int) -> None:
    operator, x = IntegerAffine(shift, low), int8(seed, 2, 7, 5, 9)
    parameters = [int32(seed + 1, 7, limit=1000), int32(seed + 2, 7)]
    np.testing.assert_array_equal(run_operator(operator, [x], parameters, target), operator.evaluate(x, *parameters))


@EXAMPLES
@given(seed=seeds, target=targets, size=st.tuples(st.integers(1, 20), st.integers(1, 20)))
def test_pool_sum(seed: int, target: CpuTarget, size: tuple[int, int]) -> None:
    x = int8(seed, 2, 19, *size)
    np.testing.assert_array_equal(run_operator(IntegerPoolSum(), [x], target=target), IntegerPoolSum().evaluate(x))


@EXAMPLES
@given(
    seed=seeds,
    target=targets,
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    strides=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    pad=st.integers(0, 1),
)
def test_window_sum(seed: int, target: CpuTarget, kernel: tuple[int, int], strides: tuple[int, int], pad: int) -> None:
    operator, x = IntegerWindowSum(kernel, strides, (pad, 0, 0, pad)), int8(seed, 2, 5, 9, 7)
    np.testing.assert_array_equal(run_operator(operator, [x], target=target), operator.evaluate(x))


@EXAMPLES
@given(
    seed=seeds,
    target=targets,
    inverses=st.sampled_from([(1.0,), (63.7,), (0.3, 17.1, 44.9)]),
    offsets=st.sampled_from([(), (0.449,), (1.0, -1.0, 0.1)]),
)
def test_quantize(seed: int, target: CpuTarget, inverses: tuple[float, ...], offsets: tuple[float, ...]) -> None:
    """Includes exact ties, values beyond the clip, infinities and denormals."""
    operator = Quantize(inverses, offsets)
    x = (np.random.default_rng(seed).normal(0, 100, (2, 3, 9, 50)) / max(inverses)).astype(np.float32)
    x[0, :, 0, :48] = np.arange(-24, 24, dtype=np.float32) / 2
    x[0, :, 1, :6] = np.array([np.inf, -np.inf, 1e-40, -1e-40, 1e30, -0.0], np.float32)
    np.testing.assert_array_equal(run_operator(operator, [x], target=target), operator.evaluate(x))


@EXAMPLES
@given(seed=seeds, target=targets, shift=shifts, scale=st.floats(1e-6, 10))
def test_requantize_and_dequantize(seed: int, target: CpuTarget, shift: int, scale: float) -> None:
    for x in (int8(seed, 3, 41), int32(seed, 3, 41, limit=1 << 24)):
        requantize, dequantize = Requantize(shift, -127, 100), Dequantize(scale)
        np.testing.assert_array_equal(run_operator(requantize, [x], target=target), requantize.evaluate(x))
        np.testing.assert_array_equal(run_operator(dequantize, [x], target=target), dequantize.evaluate(x))
