"""Floating-point operators: what their type rules refuse, and values that the recordings of MXNet do not reach."""

from __future__ import annotations

import math
from dataclasses import fields, is_dataclass

import numpy as np
import pytest

from edgectl.errors import ModelError
from edgectl.operators import OPERATORS, Operator, TensorType
from edgectl.operators.activation import Erf, Sigmoid, Softmax
from edgectl.operators.batch_norm import BatchNorm
from edgectl.operators.convolution import Convolution
from edgectl.operators.dense import Dense
from edgectl.operators.elementwise import Binary, Scalar
from edgectl.operators.local_response import LocalResponseNorm
from edgectl.operators.pooling import AveragePool, GlobalPool, MaxPool
from edgectl.operators.shape import Concatenate, Flatten, Pad, Reshape, Slice, Transpose, Upsample

IMAGE = TensorType((2, 4, 5, 6))
FLAT = TensorType((2, 12))
INTEGERS = TensorType((2, 4, 5, 6), "int8")


@pytest.mark.parametrize(
    ("operator", "inputs", "message"),
    [
        (Convolution(), (IMAGE, TensorType((3, 3, 3, 3))), "input has 4 channels, its weights need 3"),
        (Convolution(groups=2), (IMAGE, TensorType((3, 2, 3, 3))), "3 output channels do not divide into 2 groups"),
        (Convolution(), (IMAGE, TensorType((3, 4, 9, 9))), "does not fit"),
        (Convolution(), (FLAT, TensorType((3, 4, 3, 3))), "NCHW"),
        (Convolution(), (IMAGE, TensorType((3, 4, 3))), "OIHW"),
        (Convolution(), (IMAGE, TensorType((3, 4, 3, 3)), TensorType((4,))), "bias"),
        (Convolution(), (INTEGERS, TensorType((3, 4, 3, 3))), "one dtype"),
        (Dense(), (IMAGE, TensorType((3, 120))), r"\(N, K\)"),
        (Dense(), (FLAT, TensorType((3, 11))), "12 features, weights need 11"),
        (Dense(), (FLAT, TensorType((3, 12)), TensorType((2,))), "bias"),
        (BatchNorm(), (IMAGE, *[TensorType((4,))] * 3, TensorType((5,))), "4 channels got an array"),
        (BatchNorm(), (IMAGE, *[TensorType((4,))] * 3), "gamma, beta, mean and variance"),
        (MaxPool((7, 7)), (IMAGE,), "does not fit"),
        (AveragePool((2, 2)), (FLAT,), "NCHW"),
        (GlobalPool("median"), (IMAGE,), "median"),
        (GlobalPool(), (FLAT,), "NCHW"),
        (Binary("add"), (IMAGE, TensorType((2, 3, 5, 6))), "shapes do not fit"),
        (Binary("add"), (IMAGE, INTEGERS), "one dtype"),
        (Binary("modulo"), (IMAGE, IMAGE), "modulo"),
        (Scalar("modulo", 1.0), (IMAGE,), "modulo"),
        (Reshape((7,)), (IMAGE,), "does not reshape"),
        (Transpose((1, 0, 2, 3)), (IMAGE,), "batch axis"),
        (Transpose((0, 1)), (IMAGE,), "not an order"),
        (Concatenate(0), (IMAGE, IMAGE), "batch axis"),
        (Concatenate(1), (IMAGE, TensorType((2, 3, 4, 6))), "cannot concatenate"),
        (Concatenate(1), (IMAGE, FLAT), "cannot concatenate"),
        (Concatenate(1), (IMAGE, INTEGERS), "cannot concatenate"),
        (Softmax(4), (IMAGE,), "axis 4"),
        (Pad((1, 1, 1, 1)), (FLAT,), "NCHW"),
        (LocalResponseNorm(4), (IMAGE,), "no odd number"),
        (LocalResponseNorm(3), (FLAT,), "NCHW"),
        (LocalResponseNorm(3, bias=0.0), (IMAGE,), "divides by zero"),
        (Upsample((0, 1)), (IMAGE,), "at least 1"),
        (Upsample((2, 2)), (FLAT,), "NCHW"),
        (Slice(0, 0, 1), (IMAGE,), "along axis 0"),
        (Slice(1, 2, 9), (IMAGE,), "slice 2:9:1 of 4 elements"),
    ],
)
def test_types_that_do_not_fit_are_refused(operator: Operator, inputs: tuple[TensorType, ...], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        operator.infer(*inputs)


def test_softmax_of_large_values_does_not_overflow() -> None:
    out = Softmax().evaluate(np.array([[1e4, 1e4 - 1, -1e4]], np.float32))
    np.testing.assert_allclose(out, [[0.7310586, 0.2689414, 0]], rtol=1e-5)


def test_sigmoid_of_large_values_does_not_overflow() -> None:
    out = Sigmoid().evaluate(np.array([-1e4, 0, 1e4], np.float32))
    np.testing.assert_array_equal(out, np.array([0, 0.5, 1], np.float32))


def test_max_pool_of_integers_ignores_padding() -> None:
    x = np.full((1, 1, 2, 2), -100, np.int8)
    out = MaxPool((3, 3), (1, 1), (1, 1, 1, 1)).evaluate(x)
    assert out.dtype == np.int8 and (out == -100).all()


def test_average_divides_by_what_it_counts() -> None:
    x = np.ones((1, 1, 3, 3), np.float32)
    counted = AveragePool((2, 2), (2, 2), (1, 1, 1, 1)).evaluate(x)
    np.testing.assert_array_equal(counted[0, 0], [[0.25, 0.5], [0.5, 1]])
    inside = AveragePool((2, 2), (2, 2), (1, 1, 1, 1), count_include_pad=False).evaluate(x)
    np.testing.assert_array_equal(inside, np.ones((1, 1, 2, 2), np.float32))
    ceil = AveragePool((2, 2), (2, 2), ceil_padding=(1, 1)).evaluate(x)
    np.testing.assert_array_equal(ceil, np.ones((1, 1, 2, 2), np.float32))


def test_batch_norm_equals_its_formula_and_its_affine_map() -> None:
    generator = np.random.default_rng(0)
    x = generator.standard_normal((2, 3, 4, 5)).astype(np.float32)
    gamma, beta, mean = generator.standard_normal((3, 3)).astype(np.float32)
    variance = generator.uniform(0.1, 2, 3).astype(np.float32)
    for fixed in (False, True):
        operator = BatchNorm(1e-3, fixed)
        shaped = [array.reshape(1, 3, 1, 1).astype(np.float64) for array in (gamma, beta, mean, variance)]
        factor = 1 if fixed else shaped[0]
        expected = factor * (x - shaped[2]) / np.sqrt(shaped[3] + 1e-3) + shaped[1]
        np.testing.assert_allclose(operator.evaluate(x, gamma, beta, mean, variance), expected, rtol=1e-5, atol=1e-5)
        scale, offset = operator.affine(gamma, beta, mean, variance)
        mapped = x * scale.reshape(1, 3, 1, 1) + offset.reshape(1, 3, 1, 1)
        np.testing.assert_allclose(mapped, expected, rtol=1e-6, atol=1e-6)


def test_registry_holds_every_operator_by_its_kind() -> None:
    assert {"convolution", "dense", "batch_norm", "max_pool", "global_pool", "softmax"} <= OPERATORS.keys()
    for kind, cls in OPERATORS.items():
        assert cls.kind == kind and is_dataclass(cls)


def test_attributes_rebuild_an_operator() -> None:
    operator = AveragePool((3, 2), (2, 1), (1, 0, 1, 0), False, (1, 0))
    assert set(operator.attributes()) == {field.name for field in fields(operator)}
    assert AveragePool(**operator.attributes()) == operator


def test_shapes_keep_the_batch() -> None:
    assert Flatten().infer(IMAGE) == TensorType((2, 120))
    assert Reshape((4, 30)).infer(IMAGE) == TensorType((2, 4, 30))
    assert Transpose((0, 2, 3, 1)).infer(IMAGE) == TensorType((2, 5, 6, 4))
    assert Slice(2, 1, 5, 2).infer(IMAGE) == TensorType((2, 4, 2, 6))
    assert Concatenate(1).infer(IMAGE, IMAGE) == TensorType((2, 8, 5, 6))


def test_slices_are_pythons() -> None:
    x = np.arange(2 * 4 * 5, dtype=np.float32).reshape(2, 4, 5)
    np.testing.assert_array_equal(Slice(1, 1, 3).evaluate(x), x[:, 1:3])
    np.testing.assert_array_equal(Slice(2, 0, 5, 2).evaluate(x), x[:, :, ::2])


def test_the_error_function_to_the_last_bits_of_float32() -> None:
    x = np.linspace(-9, 9, 20001)
    expected = [math.erf(value) for value in x.tolist()]
    np.testing.assert_allclose(Erf().evaluate(x), expected, atol=6e-9)
    assert Erf().evaluate(x.astype(np.float32)).dtype == np.float32


def test_local_response_norm_reads_only_channels_around() -> None:
    x = np.array([3.0, 4.0, 5.0, 6.0], np.float32).reshape(1, 4, 1, 1)
    found = LocalResponseNorm(3, alpha=3.0, beta=0.5, bias=2.0).evaluate(x)
    sums = np.array([3**2 + 4**2, 3**2 + 4**2 + 5**2, 4**2 + 5**2 + 6**2, 5**2 + 6**2])
    np.testing.assert_allclose(found[0, :, 0, 0], x[0, :, 0, 0] / np.sqrt(2 + sums), rtol=1e-6)


def test_upsampling_repeats_pixels() -> None:
    x = np.array([[1, 2], [3, 4]], np.float32).reshape(1, 1, 2, 2)
    expected = [[1, 1, 1, 2, 2, 2], [1, 1, 1, 2, 2, 2], [3, 3, 3, 4, 4, 4], [3, 3, 3, 4, 4, 4]]
    np.testing.assert_array_equal(Upsample((2, 3)).evaluate(x)[0, 0], expected)
