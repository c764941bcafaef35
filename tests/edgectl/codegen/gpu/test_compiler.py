"""GPU code: what it computes, executed by this machine's CPU, and that nvcc takes it. No GPU was at hand."""

from __future__ import annotations

import ctypes
import shutil
from collections.abc import Sequence

import numpy as np
import pytest

import edgectl
from edgectl.codegen.gpu.compiler import device_code, generate
from edgectl.errors import CompileError
from edgectl.frontends import zoo
from edgectl.graph import Model, Node
from edgectl.interpreter import interpret
from edgectl.local import compile_local
from edgectl.operators import OPERATORS
from edgectl.operators.activation import Clip, Erf, LeakyRelu, Relu, Sigmoid, Softmax, Tanh
from edgectl.operators.base import Operator, TensorType
from edgectl.operators.batch_norm import BatchNorm
from edgectl.operators.convolution import Convolution
from edgectl.operators.dense import Dense
from edgectl.operators.elementwise import Binary, Scalar
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
from edgectl.operators.local_response import LocalResponseNorm
from edgectl.operators.lookup import Lookup
from edgectl.operators.patches import PackPatches
from edgectl.operators.pixels import QuantizePixels
from edgectl.operators.planes import JoinPlanes, SplitPlanes
from edgectl.operators.pooling import AveragePool, GlobalPool, MaxPool
from edgectl.operators.quantization import Dequantize, Quantize, Requantize
from edgectl.operators.shape import Concatenate, Flatten, Pad, Reshape, Slice, Transpose, Upsample
from edgectl.quantization.folding import fold_batch_norm
from edgectl.quantization.quantizer import quantize
from edgectl.random_weights import random_parameters
from tests.edgectl.codegen.gpu.support import gpu, stand_in  # noqa: F401
from tests.edgectl.quantization.networks import NETWORKS

AMPERE = (8, 0)
_RANDOM = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return _RANDOM.normal(0, 1, shape).astype(np.float32)


def int8(*shape: int) -> np.ndarray:
    return _RANDOM.integers(-128, 128, shape).astype(np.int8)


def int32(*shape: int, limit: int = 20000) -> np.ndarray:
    return _RANDOM.integers(-limit, limit, shape).astype(np.int32)


Case = tuple[Operator, Sequence[np.ndarray], Sequence[np.ndarray]]
"""An operator, its inputs and its parameters."""

IMAGE, WIDE = normal(2, 6, 11, 13), normal(1, 3, 40, 37)
CASES: list[Case] = [
    (Convolution((2, 1), (1, 2, 0, 1)), [IMAGE], [normal(16, 6, 3, 2), normal(16)]),
    (Convolution((1, 1), (1, 1, 1, 1), (1, 1), 6), [IMAGE], [normal(6, 1, 3, 3)]),
    (Convolution((2, 2), (2, 2, 2, 2), (2, 2), 3), [IMAGE], [normal(9, 2, 3, 3), normal(9)]),
    (Convolution(), [normal(1, 24, 7, 7)], [normal(10, 24, 1, 1)]),
    (Convolution((2, 2), (3, 3, 3, 3)), [WIDE], [normal(16, 3, 7, 7)]),
    (Dense(), [normal(3, 70)], [normal(301, 70), normal(301)]),
    (Dense(), [normal(1, 5)], [normal(7, 5)]),
    (MaxPool((3, 3), (2, 2), (1, 1, 1, 1)), [WIDE], []),
    (AveragePool((3, 2), (2, 1), (1, 0, 1, 1), False), [WIDE], []),
    (GlobalPool(), [IMAGE], []),
    (GlobalPool("max"), [IMAGE], []),
    (BatchNorm(), [IMAGE], [normal(6), normal(6), normal(6), np.abs(normal(6)) + 0.5]),
    (LocalResponseNorm(5, 0.1, 0.75, 2.0), [IMAGE], []),
    (Softmax(), [normal(3, 1000) * 5], []),
    (Softmax(1), [IMAGE], []),
    (Relu(), [IMAGE], []),
    (LeakyRelu(0.1), [IMAGE], []),
    (Clip(-0.5, 0.7), [IMAGE], []),
    (Sigmoid(), [IMAGE * 4], []),
    (Tanh(), [IMAGE * 2], []),
    (Erf(), [IMAGE], []),
    (Binary("divide"), [IMAGE, np.abs(normal(1, 6, 1, 1)) + 0.5], []),
    (Scalar("subtract", 1.5, True), [IMAGE], []),
    (Concatenate(1), [normal(1, channels, 5, 5) for channels in range(1, 14)], []),
    (Flatten(), [IMAGE], []),
    (Reshape((13, 66)), [IMAGE], []),
    (Transpose((0, 2, 3, 1)), [IMAGE], []),
    (Slice(1, 1, 6, 2), [IMAGE], []),
    (Pad((1, 2, 3, 0), 1.5), [IMAGE], []),
    (Upsample((2, 3)), [IMAGE], []),
    (Quantize((20.0, 21.5, 7.0), (0.1, 0.2, -0.3)), [WIDE], []),
    (QuantizePixels(), [_RANDOM.integers(0, 256, (1, 3, 9, 35)).astype(np.uint8)], [int8(3, 256)]),
    (Dequantize(0.125), [int8(2, 6, 5, 5)], []),
    (Requantize(4, 0, 127), [int32(2, 6, 5, 5)], []),
    (IntegerConvolution((2, 2), (1, 1, 1, 1), shift=7), [int8(1, 5, 9, 9)], [int8(7, 5, 3, 3), int32(7)]),
    (IntegerConvolution((1, 1), (1, 1, 1, 1), groups=8, shift=6), [int8(1, 8, 9, 9)], [int8(8, 1, 3, 3), int32(8)]),
    (IntegerDense(), [int8(2, 70)], [int8(33, 70), int32(33)]),
    (IntegerAdd(1, 2, 3), [int8(1, 6, 5, 5), int8(1, 6, 5, 5)], []),
    (IntegerExtremum("maximum", 1, 0, 1), [int8(1, 6, 5, 5), int8(1, 6, 5, 5)], []),
    (IntegerMultiply(5, 0), [int8(2, 6, 5, 5), int8(2, 6, 1, 1)], []),
    (Lookup(), [int8(2, 6, 5, 5)], [int8(256)]),
    (IntegerAffine(6), [int8(1, 6, 5, 5)], [int32(6, limit=100), int32(6)]),
    (IntegerPoolSum(), [int8(2, 6, 7, 5)], []),
    (IntegerWindowSum((3, 3), (2, 2), (1, 1, 1, 1)), [int8(1, 6, 9, 9)], []),
    (Pack(2, 4), [int8(4, 6, 5, 3)], []),
    (Unpack(6), [int8(2, 2, 5, 3, 2, 4)], []),
    (PackPatches(1, 16, (2, 2), (2, 2), (4, 4), (12, 12)), [int8(1, 3, 20, 17)], []),
    (SplitPlanes(1, 16), [int32(1, 20, 3, 3, limit=2**31)], []),
    (JoinPlanes(20), [int8(4, 1, 2, 3, 3, 1, 16)], []),
]


def together(cases: Sequence[Case]) -> tuple[Model, dict[str, np.ndarray]]:
    """A model of all cases side by side, and its inputs."""
    nodes, parameters, inputs = [], {}, {}
    for index, (operator, arrays, constants) in enumerate(cases):
        own = {f"x{index}_{i}": array for i, array in enumerate(arrays)}
        fixed = {f"p{index}_{i}": array for i, array in enumerate(constants)}
        nodes.append(Node(f"y{index}", operator, (*own, *fixed)))
        inputs.update(own)
        parameters.update(fixed)
    types = {name: TensorType(array.shape, str(array.dtype)) for name, array in inputs.items()}
    return Model("cases", types, tuple(nodes), parameters, tuple(node.name for node in nodes)), inputs


def seeded(model: Model) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {name: generator.normal(0, 1, t.shape).astype(np.float32) for name, t in model.inputs.items()}


def check(model: Model, inputs: dict[str, np.ndarray], gpu: ctypes.CDLL) -> None:  # noqa: F811
    """Runs twice, equals the interpreter (integers exactly), and gives the GPU's memory back."""
    expected = interpret(model, inputs)
    before = gpu.stand_in_live()
    with compile_local(model, target="cuda") as local:
        assert gpu.stand_in_live() > before
        local.run({name: np.zeros_like(array) for name, array in inputs.items()})
        found = local.run(inputs)
    assert gpu.stand_in_live() == before
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        scale = max(1.0, float(np.abs(array.astype(np.float64)).max())) if array.dtype.kind == "f" else 0.0
        np.testing.assert_allclose(found[name], array, rtol=1e-4 if scale else 0, atol=1e-5 * scale, err_msg=name)


def test_every_operator(gpu: ctypes.CDLL) -> None:  # noqa: F811
    assert {operator.kind for operator, _, _ in CASES} == set(OPERATORS)
    check(*together(CASES), gpu)


@pytest.mark.parametrize("network", NETWORKS)
def test_fused_networks(network: str, gpu: ctypes.CDLL) -> None:  # noqa: F811
    model = NETWORKS[network]()
    check(model, seeded(model), gpu)
    check(model.with_batch(3), seeded(model.with_batch(3)), gpu)


def test_integers_equal_the_interpreter_to_the_bit(gpu: ctypes.CDLL) -> None:  # noqa: F811
    model = edgectl.load("resnet20_cifar10")[0]
    integer = quantize(model)
    expected = interpret(integer, seeded(model))
    with compile_local(model, int8=True, target="cuda") as local:
        found = local.run(seeded(model))
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-6)


def test_an_output_that_no_kernel_computes(gpu: ctypes.CDLL) -> None:  # noqa: F811
    """A plan without launches needs no code."""
    constant = normal(1, 3)
    model = Model("constant", {"x": TensorType((1, 3))}, (), {"c": constant}, ("c",))
    with compile_local(model, target="cuda") as local:
        np.testing.assert_array_equal(local.run({"x": constant})["c"], constant)


def test_source_is_deterministic_and_grids_are_within_limits() -> None:
    model, _ = together(CASES)
    first, second = generate(model, AMPERE), generate(model, AMPERE)
    assert first.text == second.text
    assert all(0 < launch.blocks < 2**31 and 0 < launch.threads <= 1024 for launch in first.launches.values())
    assert {step.kernel for step in first.fragment.steps} == set(first.launches)


def test_without_nvcc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(CompileError, match="no nvcc on PATH"):
        device_code("", AMPERE)


def nvidias() -> None:
    if shutil.which("nvcc") is None:
        pytest.skip("no nvcc on PATH: NVIDIA's CUDA toolkit is not installed")


def test_nvcc_takes_every_operator() -> None:
    nvidias()
    code = device_code(generate(together(CASES)[0], AMPERE).text, AMPERE)
    assert len(code) > 10000
    with pytest.raises(CompileError, match=r"(?s)nvcc failed with exit code \d+.*nonsense"):
        device_code("nonsense", AMPERE)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18_v1", "mobilenetv2_0.25", "squeezenet1.1", "densenet121"])
def test_networks_of_the_zoo(name: str, gpu: ctypes.CDLL) -> None:  # noqa: F811
    model = zoo.load(name)
    model = Model(name, model.inputs, model.nodes, random_parameters(model, seed=0), model.outputs)
    check(model, seeded(model), gpu)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18_v1", "mobilenetv2_0.25", "squeezenet1.1", "densenet121"])
def test_nvcc_takes_networks_of_the_zoo(name: str) -> None:
    nvidias()
    model = zoo.load(name)
    parameters = random_parameters(model, seed=0)
    model = fold_batch_norm(Model(name, model.inputs, model.nodes, parameters, model.outputs))
    assert device_code(generate(model, AMPERE).text, AMPERE)
