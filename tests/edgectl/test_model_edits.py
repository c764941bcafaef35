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
