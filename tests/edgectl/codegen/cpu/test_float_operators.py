"""Float kernels agree with `Operator.evaluate` within rounding, on every processor level this machine has."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgectl.codegen.cpu import CpuTarget
from edgectl.codegen.cpu.lowerings import LOWERINGS
from edgectl.errors import CompileError
from edgectl.operators import OPERATORS
from edgectl.operators.activation import Clip, Erf, LeakyRelu, Relu, Sigmoid, Softmax, Tanh
from edgectl.operators.base import Operator
from edgectl.operators.batch_norm import BatchNorm
from edgectl.operators.convolution import Convolution
from edgectl.operators.dense import Dense
from edgectl.operators.elementwise import Binary, Scalar
from edgectl.operators.local_response import LocalResponseNorm
from edgectl.operators.pooling import AveragePool, GlobalPool, MaxPool
from edgectl.operators.shape import Concatenate, Flatten, Pad, Reshape, Slice, Transpose, Upsample
from tests.edgectl.codegen.cpu.support import RUNNABLE, run_operator

EXAMPLES = settings(max_examples=12)
targets = st.sampled_from(RUNNABLE)
seeds = st.integers(0, 2**32 - 1)


def normal(seed: int, *shape: int, scale: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, scale, shape).astype(np.float32)


def check(
    operator: Operator,
    inputs: Sequence[np.ndarray],
    parameters: Sequence[np.ndarray] = (),
    target: CpuTarget = RUNNABLE[0],
    tolerance: float = 1e-5,
) -> None:
    expected = operator.evaluate(*inputs, *parameters)
    actual = run_operator(operator, inputs, parameters, target)
    assert actual.dtype == expected.dtype
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


def test_every_operator_has_a_lowering() -> None:
    assert {operator.kind for operator in LOWERINGS} == set(OPERATORS)


@EXAMPLES
@given(data=st.data(), target=targets, seed=seeds)
def test_convolution(data: st.DataObject, target: CpuTarget, seed: int) -> None:
    groups = data.draw(st.sampled_from([1, 1, 2, 3]))
    channels, out_channels = groups * data.draw(st.integers(1, 5)), groups * data.draw(st.sampled_from([1, 3, 8]))
    kernel = data.draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    operator = Convolution(
        strides=data.draw(st.tuples(st.integers(1, 3), st.integers(1, 3))),
        padding=data.draw(st.tuples(*[st.integers(0, 3)] * 4)),
        dilation=data.draw(st.tuples(st.integers(1, 2), st.integers(1, 2))),
        groups=groups,
    )
    size = (2 * kernel[0] + 3, 2 * kernel[1] + data.draw(st.integers(0, 40)))
    x = normal(seed, data.draw(st.integers(1, 2)), channels, *size)
    bias = [normal(seed + 2, out_channels)] if data.draw(st.booleans()) else []
    check(operator, [x], [normal(seed + 1, out_channels, channels // groups, *kernel), *bias], target)


@EXAMPLES
@given(
    seed=seeds,
    target=targets,
    batch=st.integers(1, 4),
    length=st.integers(1, 90),
    features=st.integers(1, 150),
    bias=st.booleans(),
)
def test_dense(seed: int, target: CpuTarget, batch: int, length: int, features: int, bias: bool) -> None:
    parameters = [normal(seed + 1, features, length), *([normal(seed + 2, features)] if bias else [])]
    check(Dense(), [normal(seed, batch, length)], parameters, target)


@EXAMPLES
@given(
    seed=seeds,
    target=targets,
    size=st.tuples(st.integers(4, 30), st.integers(4, 30)),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(*[st.integers(0, 2)] * 4),
    counted=st.booleans(),
    ceil=st.tuples(st.integers(0, 1), st.integers(0, 1)),
)
def test_pools(
    seed: int,
    target: CpuTarget,
    size: tuple[int, int],
    kernel: tuple[int, int],
    strides: tuple[int, int],
    padding: tuple[int, int, int, int],
    counted: bool,
    ceil: tuple[int, int],
) -> None:
    padding = tuple(min(amount, extent - 1) for amount, extent in zip(padding, (*kernel, *kernel), strict=True))  # type: ignore[assignment]
    ceil = (ceil[0] if kernel[0] - padding[2] > 1 else 0, ceil[1] if kernel[1] - padding[3] > 1 else 0)
    x = normal(seed, 2, 3, *size)
    check(MaxPool(kernel, strides, padding), [x], target=target, tolerance=0)
    check(AveragePool(kernel, strides, padding, counted, ceil), [x], target=target)


@pytest.mark.parametrize("target", RUNNABLE, ids=lambda target: target.name)
@pytest.mark.parametrize(
    "operator",
    [
        Relu(),
        Clip(-0.5, 6.0),
        LeakyRelu(0.1),
        Sigmoid(),
        Tanh(),
        Erf(),
        LocalResponseNorm(5, 1.0, 0.75, 2.0),
        LocalResponseNorm(3, 0.5, 0.6, 1.0),
        Upsample((2, 3)),
        Softmax(),
        Softmax(1),
        Scalar("multiply", 0.3),
        Scalar("subtract", 2.0, reverse=True),
        Scalar("divide", 7.0),
        Scalar("divide", 7.0, reverse=True),
        Scalar("maximum", 0.5),
        GlobalPool(),
        GlobalPool("max"),
        Flatten(),
        Reshape((15, 28)),
        Transpose((0, 2, 3, 1)),
        Pad((1, 2, 0, 3), -1.5),
        Slice(1, 2, 5),
        Slice(3, 1, 12, 3),
    ],
    ids=str,
)
def test_functions_of_one_tensor(operator: Operator, target: CpuTarget) -> None:
    check(operator, [normal(3, 2, 5, 7, 12, scale=3.0)], target=target, tolerance=2e-6)


@pytest.mark.parametrize("function", ["add", "subtract", "multiply", "divide", "maximum", "minimum"])
def test_functions_of_two_tensors(function: str) -> None:
    a, b = normal(1, 2, 5, 7, 3), np.abs(normal(2, 2, 5, 7, 3)) + np.float32(0.1)
    check(Binary(function), [a, b], tolerance=1e-6)
    check(Binary(function), [a], [b[:1, :, :1, :1]], tolerance=1e-6)  # broadcasting
    check(Binary(function), [a], [b[0, 0, 0]], tolerance=1e-6)


def test_integer_division_is_refused() -> None:
    values = np.ones((1, 2), np.int8)
    with pytest.raises(CompileError, match=r"layer 'y'.*divide of int8 and int8"):
        run_operator(Binary("divide"), [values, values])


@pytest.mark.parametrize("fix_gamma", [False, True])
@pytest.mark.parametrize("shape", [(2, 6, 5, 4), (3, 6)])
def test_batch_norm(shape: tuple[int, ...], fix_gamma: bool) -> None:
    statistics = [normal(i, 6) for i in range(3)]
    check(BatchNorm(1e-3, fix_gamma), [normal(9, *shape)], [*statistics, np.abs(normal(4, 6)) + np.float32(0.1)])


def test_statistics_must_be_parameters() -> None:
    x, statistics = normal(1, 1, 4, 2, 2), [np.ones(4, np.float32)] * 4
    with pytest.raises(CompileError, match=r"layer 'y': batch_norm: operand 1 must be a parameter"):
        run_operator(BatchNorm(), [x, *statistics])


@pytest.mark.parametrize("axis", [1, 3])
def test_concatenate(axis: int) -> None:
    shapes = [[2, 5, 7, 3] for _ in range(3)]
    for extra, shape in enumerate(shapes):
        shape[axis] += extra
    check(Concatenate(axis), [normal(i, *shape) for i, shape in enumerate(shapes)], tolerance=0)


def test_exponentials_over_their_whole_range() -> None:
    """Relative error of a softmax of two logits is that of exp; sigmoid and tanh saturate cleanly."""
    differences = np.linspace(-87, 0, 5001, dtype=np.float32)
    logits = np.stack([differences, np.zeros_like(differences)], axis=1)
    expected = Softmax().evaluate(logits.astype(np.float64))
    np.testing.assert_allclose(run_operator(Softmax(), [logits]), expected, rtol=5e-7)
    wide = np.linspace(-120, 120, 4001, dtype=np.float32)[None]
    np.testing.assert_allclose(run_operator(Sigmoid(), [wide]), Sigmoid().evaluate(wide.astype(np.float64)), atol=1e-7)
    erf = np.array([[math.erf(value) for value in wide[0].tolist()]])
    np.testing.assert_allclose(run_operator(Erf(), [wide]), erf, atol=2e-7)
    np.testing.assert_allclose(run_operator(Tanh(), [wide]), np.tanh(wide.astype(np.float64)), rtol=3e-7, atol=1e-37)
