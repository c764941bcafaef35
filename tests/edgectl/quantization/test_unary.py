"""Functions of one int8 value become tables, which hold what the float operators would give of each integer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgectl.graph import Model, Node
from edgectl.interpreter import interpret
from edgectl.operators.activation import Clip, Erf, LeakyRelu, Relu, Sigmoid, Softmax, Tanh
from edgectl.operators.base import Operator, TensorType
from edgectl.operators.convolution import Convolution
from edgectl.operators.elementwise import Binary, Scalar
from edgectl.operators.integer import IntegerMultiply
from edgectl.operators.lookup import Lookup
from edgectl.operators.pooling import MaxPool
from edgectl.quantization.calibration import Observation
from edgectl.quantization.headroom import with_headroom
from edgectl.quantization.quantizer import quantize
from edgectl.quantization.rewrite import rewrite
from edgectl.quantization.unary_chains import unary_function, unary_roots
from tests.edgectl.quantization.networks import NETWORKS, SMALL, NetworkBuilder, hard_swish, kinds, noise

STEPS = [Relu(), Clip(-1.0, 2.0), LeakyRelu(0.2), Sigmoid(), Tanh(), Erf(), Scalar("multiply", 0.5)]
STEPS += [Scalar("subtract", 1.0, reverse=True), Binary("multiply"), Binary("add"), Binary("maximum")]


def between(*nodes: Node, output: str = "") -> Model:
    """`nodes` read the convolution `a`; a convolution reads `y`, the last of them."""
    rng = np.random.default_rng(2)
    weights = {name: (rng.standard_normal((16, 16, 1, 1)) / 4).astype(np.float32) for name in ("wa", "wc")}
    chain = (Node("a", Convolution(), ("x", "wa")), *nodes, Node("c", Convolution(), (nodes[-1].name, "wc")))
    return Model("net", {"x": TensorType(SMALL)}, chain, weights, (output, "c") if output else ("c",))


def quantized(model: Model) -> Model:
    return quantize(model, noise(8))


@given(st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=8))
@settings(max_examples=60)
def test_any_function_of_one_value_is_one_table(steps: list[tuple[Operator, int, int]]) -> None:
    nodes: list[Node] = [Node("s", Sigmoid(), ("a",))]
    for number, (operator, first, second) in enumerate(steps):
        names = ["a", *(node.name for node in nodes)]
        inputs = [names[first % len(names)], names[second % len(names)]][: 1 + isinstance(operator, Binary)]
        nodes.append(Node(f"n{number}", operator, tuple(inputs)))
    # What the last one does not need would be no part of its table.
    last = Node("y", Tanh(), (nodes[-1].name,))
    model = between(*_needed([*nodes, last]))
    x = np.linspace(-3, 3, 50, dtype=np.float32).reshape(1, 1, 5, 10)
    values: dict[str, np.ndarray] = {}
    interpret(Model("alone", {"a": TensorType(x.shape)}, model.nodes[1:-1], {}, ("y",)), {"a": x}, values.__setitem__)
    roots = unary_roots(model)
    if roots["y"] == "a":
        np.testing.assert_array_equal(unary_function(model, "a", "y", x), values["y"])
    integer = quantized(model)
    assert integer.types()["y"].dtype == "int8"
    assert [node.operator.kind for node in integer.nodes if node.name == "y"] == ["lookup"]


def _needed(nodes: list[Node]) -> list[Node]:
    wanted, kept = {nodes[-1].name}, []
    for node in reversed(nodes):
        if node.name in wanted:
            wanted.update(node.inputs)
            kept.append(node)
    return kept[::-1]


def test_a_table_holds_what_the_float_operators_give() -> None:
    model = between(Node("s", Sigmoid(), ("a",)), Node("y", Binary("multiply"), ("a", "s")))
    integer = quantized(model)
    assert kinds(integer) == ["quantize", "integer_convolution", "lookup", "integer_convolution", "dequantize"]
    (lookup,) = (node for node in integer.nodes if isinstance(node.operator, Lookup))
    table = integer.parameters[lookup.inputs[1]].astype(np.float64)
    values: dict[str, np.ndarray] = {}
    x = noise(4)
    interpret(integer, {"x": x}, values.__setitem__)
    known: dict[str, np.ndarray] = {}
    interpret(model, {"x": x}, known.__setitem__)
    unit = float((known["a"] * values["a"]).sum() / np.square(values["a"].astype(np.float64)).sum())
    v = np.arange(-128, 128) * unit
    silu = v / (1 + np.exp(-v))
    scale = float((silu * table).sum() / (table * table).sum())
    inside = np.abs(table) < 127
    assert np.abs(silu / scale - table)[inside].max() < 0.8  # half a step, and what `unit` and `scale` are off


@pytest.mark.filterwarnings("error")
def test_a_function_that_is_no_number_somewhere_has_a_table() -> None:
    """0 / 0 is looked up as 0, 1 / 0 as the largest."""
    inverse = Node("i", Scalar("divide", 1.0, reverse=True), ("a",))
    model = between(inverse, Node("z", Scalar("multiply", 0.0), ("i",)), Node("y", Binary("add"), ("i", "z")))
    sample = np.linspace(-1, 1, 64, dtype=np.float32).reshape(1, 16, 4)
    seen = Observation(1.0, sample, np.ones(16), np.zeros(16))
    rewritten, _ = rewrite(model, dict.fromkeys(("x", "a", "i", "z", "y", "c"), seen))
    (lookup,) = (node for node in rewritten.nodes if isinstance(node.operator, Lookup))
    table = rewritten.parameters[lookup.inputs[1]]
    assert (table[128], table[129], table[127]) == (0, 127, -127)


def test_a_relu_or_clip_alone_needs_no_table() -> None:
    for operator in (Relu(), Clip(-1.0, 1.0), Clip(0.0, 6.0)):
        assert "lookup" not in kinds(quantized(between(Node("y", operator, ("a",)))))
    model = between(Node("r", Relu(), ("a",)), Node("y", Tanh(), ("r",)))
    assert unary_roots(model) == {"y": "r"}
    assert kinds(quantized(model))[1:3] == ["integer_convolution", "lookup"]


def test_what_is_read_in_float_stays_in_float() -> None:
    """A sigmoid that is an output, too, and what it is made of."""
    chain = (Node("h", Scalar("multiply", 0.5), ("a",)), Node("y", Sigmoid(), ("h",)))
    integer = quantized(between(*chain, output="y"))
    assert "lookup" not in kinds(integer) and {"scalar", "sigmoid"} <= set(kinds(integer))
    inner = quantized(between(*chain, output="h"))
    assert kinds(inner).count("lookup") == 1 and inner.types()["h"].dtype == "float32"


def test_softmax_is_no_function_of_one_value() -> None:
    assert unary_roots(between(Node("y", Softmax(1), ("a",)))) == {}


def test_a_function_of_the_input_stays_in_float() -> None:
    """It is not an integer before."""
    net = NetworkBuilder((1, 16, 6, 6))
    x = net.convolution("conv", net.add("half", Scalar("multiply", 0.5), "data"), (16, 16))
    assert kinds(quantize(net.model(x), noise(2)))[:2] == ["scalar", "quantize"]


@pytest.mark.parametrize("gate", [(16, 6, 6), (16, 1, 1)])
def test_products_are_as_near_as_their_operands(gate: tuple[int, ...]) -> None:
    net = NetworkBuilder(SMALL)
    x = net.convolution("a", "data", (16, 16))
    y = net.add("tanh", Tanh(), net.convolution("b", "data", (16, 16)))
    if gate[1] == 1:
        net.parameters["mean.w"] = np.ones((16, 1, 6, 6), np.float32) / 9
        y = net.add("mean", Convolution(groups=16), y, "mean.w")
    x = net.add("y", Binary("multiply"), x, y)
    model = net.model(net.convolution("c", net.add("relu", Relu(), x), (16, 16)))
    integer = quantize(model, noise(16))
    (product,) = (node for node in integer.nodes if isinstance(node.operator, IntegerMultiply))
    assert product.name == "relu" and product.operator.attributes()["low"] == 0
    assert not [name for name, t in integer.types().items() if t.dtype == "float32" and name not in ("data", "c")]
    expected, found = (interpret(form, {"data": noise(16)})["c"] for form in (model, integer))
    assert np.linalg.norm(found - expected) < 0.05 * np.linalg.norm(expected)


def test_a_gated_network_is_integers_throughout() -> None:
    integer = quantize(
        NETWORKS["gated"](), np.random.default_rng(1).standard_normal((16, 3, 16, 16)).astype(np.float32)
    )
    floats = [node.name for node in integer.nodes if integer.types()[node.name].dtype == "float32"]
    assert floats == ["fc"]
    assert kinds(integer).count("lookup") == 5 and kinds(integer).count("integer_multiply") == 2


def test_a_function_of_hundreds_of_operators() -> None:
    nodes = [Node("s0", Tanh(), ("a",))]
    nodes += [Node(f"s{number}", Scalar("add", 0.01), (f"s{number - 1}",)) for number in range(1, 600)]
    assert kinds(quantized(between(*nodes))).count("lookup") == 1


def test_without_data_functions_grow_as_they_do() -> None:
    seen = Observation(2.0, np.linspace(-2, 2, 64, dtype=np.float32).reshape(1, 16, 4), np.full(16, 2.0), np.zeros(16))
    model = between(
        Node("square", Binary("multiply"), ("a", "a")),
        Node("t", Tanh(), ("a",)),
        Node("p", MaxPool((3, 3), (1, 1), (1, 1, 1, 1)), ("t",)),
        Node("y", Binary("multiply"), ("p", "a")),
    )
    known = {"x": 2.0, "a": 2.0, "square": 4.0, "t": float(np.tanh(2.0)), "p": float(np.tanh(2.0)), "y": 2.0, "c": 1.0}
    found = with_headroom(model, {name: seen.times(largest / 2.0) for name, largest in known.items()} | {"a": seen})
    growth = {name: found[name].largest / known[name] for name in known}
    tanh = np.tanh(2.8) / np.tanh(2.0)
    expected = {"x": 1.4, "a": 1.4, "square": 1.96, "t": tanh, "p": tanh, "y": 1.4 * tanh, "c": 1.4}
    assert growth == pytest.approx(expected, rel=1e-5)


def test_layers_in_float_keep_their_functions_in_float() -> None:
    net = NetworkBuilder(SMALL)
    x = hard_swish(net, "swish", net.convolution("a", "data", (16, 16)))
    model = net.model(net.convolution("b", x, (16, 16)))
    integer = quantize(model, noise(4), in_float=frozenset({"a"}))
    assert "lookup" not in kinds(integer) and {"clip", "binary"} <= set(kinds(integer))
