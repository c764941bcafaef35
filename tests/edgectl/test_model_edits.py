"""Softmax appended once, and models cut at inner layers."""

from __future__ import annotations

import numpy as np
import pytest

from edgectl.errors import UsageError
from edgectl.graph import Model, Node
from edgectl.interpreter import interpret
from edgectl.model_edits import up_to, with_softmax
from edgectl.operators.activation import Relu, Softmax
from edgectl.operators.base import TensorType
from edgectl.operators.dense import Dense

WEIGHT = np.arange(12, dtype=np.float32).reshape(3, 4) / 10


def model() -> Model:
    nodes = (Node("fc", Dense(), ("data", "w"), "source_fc"), Node("out", Relu(), ("fc",), "source_out"))
    return Model("net", {"data": TensorType((1, 4))}, nodes, {"w": WEIGHT}, ("out",))


def test_a_softmax_is_appended_once_and_the_output_keeps_its_name() -> None:
    x = {"data": np.array([[1, 2, 3, 4]], np.float32)}
    scores = interpret(model(), x)["out"]
    softened = with_softmax(model())
    assert softened.outputs == ("out",)
    expected = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
    np.testing.assert_allclose(interpret(softened, x)["out"], expected, rtol=1e-6)
    assert with_softmax(softened) == softened
    assert sum(isinstance(node.operator, Softmax) for node in softened.nodes) == 1


def test_an_output_without_classes_has_no_softmax() -> None:
    flat = Model("flat", {"data": TensorType((4,))}, (Node("out", Relu(), ("data",)),), {}, ("out",))
    with pytest.raises(UsageError, match="a softmax needs"):
        with_softmax(flat)


@pytest.mark.parametrize("name", ["fc", "source_fc"])
def test_layers_go_by_either_name(name: str) -> None:
    cut = up_to(model(), name)
    assert cut.outputs == ("fc",) and [node.name for node in cut.nodes] == ["fc"]


def test_the_nearest_names_are_suggested() -> None:
    with pytest.raises(UsageError, match=r"no layer 'sorce_fc'; nearest are source_fc"):
        up_to(model(), "sorce_fc")


def test_a_part_of_a_name_finds_it_and_names_are_listed_where_none_is_like_it() -> None:
    with pytest.raises(UsageError, match=r"no layer 'out'; nearest are source_out$"):
        up_to(renamed("source_out"), "out")
    with pytest.raises(UsageError, match=r"no layer 'zzz'; its layers are source_fc, source_out, fc, out$"):
        up_to(model(), "zzz")
    long = [Node(f"n{i}", Relu(), (f"n{i - 1}" if i else "data",)) for i in range(20)]
    many = Model("many", {"data": TensorType((1, 4))}, tuple(long), {}, ("n19",))
    with pytest.raises(UsageError, match=r"its layers are n0, .*, n11 and 8 more$"):
        up_to(many, "zzz")


def renamed(name: str) -> Model:
    """One layer whose name is not its source's."""
    return Model("net", {"data": TensorType((1, 4))}, (Node("value", Relu(), ("data",), name),), {}, ("value",))
