"""Whole segments: fusion, memory planning, shared constants and one library for all."""

from __future__ import annotations

import numpy as np
import pytest

from edgectl.codegen.cpu import TARGETS, compile_segments
from edgectl.codegen.cpu.fusion import fuse
from edgectl.errors import CompileError
from edgectl.graph import Model, Node
from edgectl.interpreter import interpret
from edgectl.operators.activation import Activation, Clip, LeakyRelu, Relu, Sigmoid, Softmax, Tanh
from edgectl.operators.base import Operator, TensorType
from edgectl.operators.batch_norm import BatchNorm
from edgectl.operators.convolution import Convolution
from edgectl.operators.dense import Dense
from edgectl.operators.elementwise import Binary, Scalar
from edgectl.operators.integer import IntegerConvolution, IntegerDense, IntegerPoolSum
from edgectl.operators.layout import Pack, Unpack
from edgectl.operators.pooling import GlobalPool, MaxPool
from edgectl.operators.quantization import Dequantize, Quantize, Requantize
from edgectl.operators.shape import Flatten
from tests.edgectl.codegen.cpu.support import HOST, run_fragment, run_model

RANDOM = np.random.default_rng(5)


def normal(*shape: int) -> np.ndarray:
    return RANDOM.normal(0, 1, shape).astype(np.float32)


def integer_parameters(*shape: int) -> dict[str, np.ndarray]:
    """int8 weights `w` of that shape and an int32 bias `b`."""
    return {
        "w": RANDOM.integers(-127, 128, shape).astype(np.int8),
        "b": RANDOM.integers(-999, 999, shape[0]).astype(np.int32),
    }


def front(size: int = 32) -> Model:
    """The integer front of a ResNet: quantize, convolution with ReLU, max-pool, pack."""
    parameters = integer_parameters(24, 3, 3, 3)
    nodes = (
        Node("quantized", Quantize((40.0, 41.0, 42.0), (0.1, 0.2, 0.3)), ("data",)),
        Node("convolved", IntegerConvolution((1, 1), (1, 1, 1, 1), shift=8, low=0), ("quantized", "w", "b"), "conv0"),
        Node("pooled", MaxPool((3, 3), (2, 2), (1, 1, 1, 1)), ("convolved",), "pool0"),
        Node("packed", Pack(), ("pooled",)),
    )
    return Model("front", {"data": TensorType((1, 3, size, size))}, nodes, parameters, ("packed",))


def back() -> Model:
    """The integer end of a ResNet: unpack, pool, classifier."""
    parameters = integer_parameters(10, 24)
    nodes = (
        Node("unpacked", Unpack(24), ("packed",)),
        Node("sum", IntegerPoolSum(), ("unpacked",)),
        Node("mean", Requantize(4), ("sum",)),
        Node("flat", Flatten(), ("mean",)),
        Node("classes", IntegerDense(), ("flat", "w", "b"), "dense0"),
        Node("logits", Dequantize(0.01), ("classes",)),
    )
    return Model("back", {"packed": TensorType((1, 2, 4, 4, 1, 16), "int8")}, nodes, parameters, ("logits",))


def residual_network() -> Model:
    """A small float network with a branch, a batch norm, a shared input and two outputs."""
    parameters = {
        "w0": normal(8, 3, 3, 3),
        "b0": normal(8),
        "w1": normal(8, 8, 3, 3),
        "gamma": normal(8),
        "beta": normal(8),
        "mean": normal(8),
        "variance": np.abs(normal(8)),
        "w2": normal(5, 8),
    }
    nodes = (
        Node("c0", Convolution((2, 2), (1, 1, 1, 1)), ("x", "w0", "b0")),
        Node("r0", Relu(), ("c0",)),
        Node("c1", Convolution((1, 1), (1, 1, 1, 1)), ("r0", "w1")),
        Node("n1", BatchNorm(), ("c1", "gamma", "beta", "mean", "variance"), "stage1_batchnorm"),
        Node("sum", Binary("add"), ("n1", "r0")),
        Node("r1", Relu(), ("sum",)),
        Node("square", Binary("multiply"), ("r1", "r1")),
        Node("pooled", GlobalPool(), ("square",)),
        Node("flat", Flatten(), ("pooled",)),
        Node("logits", Dense(), ("flat", "w2")),
        Node("probabilities", Softmax(), ("logits",)),
    )
    return Model("residual", {"x": TensorType((2, 3, 15, 17))}, nodes, parameters, ("logits", "probabilities"))


def test_segments_of_a_network_share_one_library() -> None:
    models = [front(), back(), front()]
    code = compile_segments(models, HOST)
    for index, model in enumerate(models):
        ((name, declared),) = model.inputs.items()
        value = (
            normal(*declared.shape)
            if declared.dtype == "float32"
            else RANDOM.integers(-127, 128, declared.shape).astype(np.int8)
        )
        expected = interpret(model, {name: value})
        actual = run_fragment(code, index, {name: value})
        assert list(actual) == list(expected)
        for output, array in expected.items():
            np.testing.assert_array_equal(actual[output], array)


def test_equal_layers_share_kernels() -> None:
    code = compile_segments([front(), front()], HOST)
    first, second = ([step.kernel for step in fragment.steps] for fragment in code.fragments)
    assert first == second and len(set(first)) == 4
    assert code.fragments[0].buffers != code.fragments[1].buffers  # other weights


def test_layers_keep_the_names_of_the_source() -> None:
    fragment = compile_segments([front()], HOST).fragments[0]
    assert [step.layers for step in fragment.steps] == [("quantized",), ("conv0",), ("pool0",), ("packed",)]


def test_a_float_network_with_branches() -> None:
    model, x = residual_network(), normal(2, 3, 15, 17)
    expected, actual = interpret(model, {"x": x}), run_model(model, {"x": x})
    for name in model.outputs:
        np.testing.assert_allclose(actual[name], expected[name], rtol=1e-4, atol=1e-4)


def test_elementwise_chains_fuse_behind_what_produces_their_input() -> None:
    model = residual_network()
    groups = [tuple(node.name for node in group) for group in fuse(model, model.types())]
    assert groups == [
        ("c0", "r0"),
        ("c1", "n1", "sum", "r1", "square"),
        ("pooled",),
        ("flat",),
        ("logits",),
        ("probabilities",),
    ]


def test_inputs_and_outputs_have_storages_of_their_own() -> None:
    fragment = compile_segments([residual_network()], HOST).fragments[0]
    ends = {*fragment.inputs.values(), *fragment.outputs.values()}
    storages = [buffer.storage for buffer in fragment.buffers if not buffer.constant]
    for index in ends:
        assert storages.count(fragment.buffers[index].storage) == 1
    assert len(fragment.storages) < len(storages)  # intermediates share


def test_identical_constants_are_stored_once() -> None:
    weight = normal(8, 8, 3, 3)
    nodes = (Node("a", Convolution(), ("x", "w0")), Node("b", Convolution(), ("a", "w1")))
    shape = {"x": TensorType((1, 8, 9, 9))}
    shared = Model("m", shape, nodes, {"w0": weight, "w1": weight.copy()}, ("b",))
    assert len(compile_segments([shared], HOST).constants) == weight.nbytes


@pytest.mark.parametrize(
    ("functions", "kernels"),
    [
        ([Relu(), Clip(-2.0, 3.0), Scalar("multiply", 1.5), Scalar("add", 0.25)] * 8, 1),
        ([LeakyRelu(0.5), Relu(), Tanh(), Sigmoid()] * 4, 12),  # one that uses its operand twice in each kernel
    ],
)
def test_long_chains(functions: list[Operator], kernels: int) -> None:
    names = ["x", *(f"n{i}" for i in range(len(functions)))]
    nodes = tuple(Node(names[i + 1], function, (names[i],)) for i, function in enumerate(functions))
    model, x = Model("chain", {"x": TensorType((1, 100))}, nodes, {}, (names[-1],)), normal(1, 100)
    code = compile_segments([model], HOST)
    assert len(code.fragments[0].steps) == kernels and len(code.library) < 100_000
    expected = interpret(model, {"x": x})[names[-1]]
    np.testing.assert_allclose(run_fragment(code, 0, {"x": x})[names[-1]], expected, rtol=1e-5, atol=1e-5)


def test_squares_of_squares_stay_small() -> None:
    names = ["x", *(f"n{i}" for i in range(20))]
    nodes = tuple(Node(names[i + 1], Binary("multiply"), (names[i], names[i])) for i in range(20))
    model = Model("squares", {"x": TensorType((1, 10))}, nodes, {}, (names[-1],))
    x = np.linspace(-1, 1, 10, dtype=np.float32)[None]
    np.testing.assert_allclose(run_model(model, {"x": x})[names[-1]], interpret(model, {"x": x})[names[-1]], atol=1e-6)


def test_a_segment_that_only_hands_on() -> None:
    model = Model("identity", {"x": TensorType((1, 4))}, (), {"p": normal(1, 3)}, ("x", "p"))
    x = normal(1, 4)
    actual = run_model(model, {"x": x})
    np.testing.assert_array_equal(actual["x"], x)
    np.testing.assert_array_equal(actual["p"], model.parameters["p"])


def test_operators_on_parameters() -> None:
    parameters = {"p": normal(1, 4, 3, 3), **{f"s{i}": np.abs(normal(4)) for i in range(4)}}
    nodes = (Node("n", BatchNorm(), ("p", "s0", "s1", "s2", "s3")), Node("y", Binary("add"), ("x", "n")))
    model, x = Model("m", {"x": TensorType((1, 4, 3, 3))}, nodes, parameters, ("y",)), normal(1, 4, 3, 3)
    np.testing.assert_allclose(run_model(model, {"x": x})["y"], interpret(model, {"x": x})["y"], rtol=1e-5, atol=1e-5)


def test_an_unknown_operator_is_named() -> None:
    class Mystery(Activation):
        kind = "mystery"

        def evaluate(self, x: np.ndarray) -> np.ndarray:  # type: ignore[override]
            return x

    model = Model("m", {"x": TensorType((1, 4))}, (Node("y", Mystery(), ("x",), "layer7"),), {}, ("y",))
    with pytest.raises(CompileError, match=r"layer 'layer7'.*operator 'mystery'"):
        compile_segments([model], HOST)


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_the_same_sources_give_the_same_code(target: object) -> None:
    model = residual_network()
    assert compile_segments([model], target) == compile_segments([model], target)  # type: ignore[arg-type]
