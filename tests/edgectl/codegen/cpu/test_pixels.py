"""Kernels that look pixels up equal `QuantizePixels.evaluate`, alone and in front of what packs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgectl.codegen.cpu import CpuTarget, compile_segments
from edgectl.errors import CompileError
from edgectl.graph import Model, Node
from edgectl.interpreter import interpret
from edgectl.operators.base import Operator, TensorType
from edgectl.operators.layout import Pack
from edgectl.operators.patches import PackPatches
from edgectl.operators.pixels import QuantizePixels
from tests.edgectl.codegen.cpu.support import HOST, RUNNABLE, run_fragment
from tests.edgectl.codegen.cpu.test_layout_operators import STEM, pairs, seeds, targets


def looked_up(x: TensorType, *operators: Operator, seed: int = 1) -> Model:
    """Pixels through a random table and then `operators`."""
    table = np.random.default_rng(seed).integers(-128, 128, (x.shape[1], 256)).astype(np.int8)
    nodes = [Node("v", QuantizePixels(), ("x", "table"))]
    for index, operator in enumerate(operators):
        nodes.append(Node(f"v{index}", operator, (nodes[-1].name,)))
    return Model("pixels", {"x": x}, tuple(nodes), {"table": table}, (nodes[-1].name,))


def assert_one_kernel(model: Model, target: CpuTarget = HOST) -> None:
    shape = model.inputs["x"].shape
    x = np.random.default_rng(2).integers(0, 256, shape, dtype=np.uint8)
    code = compile_segments([model], target)
    assert len(code.fragments[0].steps) == 1
    (expected,), (actual,) = interpret(model, {"x": x}).values(), run_fragment(code, 0, {"x": x}).values()
    np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("target", RUNNABLE, ids=lambda target: target.name)
@pytest.mark.parametrize("shape", [(1, 3, 224, 224), (2, 1, 5, 7), (1, 4, 3, 16), (1, 3, 9, 37)])
def test_alone(shape: tuple[int, ...], target: CpuTarget) -> None:
    assert_one_kernel(looked_up(TensorType(shape, "uint8")), target)


@pytest.mark.parametrize("operator", [STEM, Pack()], ids=lambda operator: operator.kind)
@pytest.mark.parametrize("target", RUNNABLE, ids=lambda target: target.name)
def test_packed(operator: Operator, target: CpuTarget) -> None:
    assert_one_kernel(looked_up(TensorType((1, 3, 224, 224), "uint8"), operator), target)


@settings(max_examples=30)
@given(
    operator=st.builds(
        PackPatches,
        batch=st.sampled_from([1, 2]),
        block=st.sampled_from([4, 16]),
        patch=pairs,
        steps=pairs,
        padding=st.tuples(st.integers(0, 6), st.integers(0, 6)),
        grid=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    ).filter(lambda operator: (np.array(operator.extents()) > operator.padding).all()),
    seed=seeds,
    target=targets,
    channels=st.integers(1, 6),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
)
def test_patches(operator: PackPatches, seed: int, target: CpuTarget, channels: int, size: tuple[int, int]) -> None:
    """Grids inside the image and across all its edges; few tiles per patch and many."""
    assert_one_kernel(looked_up(TensorType((2, channels, *size), "uint8"), operator, seed=seed), target)


def test_a_computed_table_is_refused() -> None:
    inputs = {"x": TensorType((1, 3, 4, 4), "uint8"), "table": TensorType((3, 256), "int8")}
    model = Model("net", inputs, (Node("v", QuantizePixels(), ("x", "table"), "layer"),), {}, ("v",))
    with pytest.raises(CompileError, match="layer 'layer': quantize_pixels: operand 1 must be a parameter"):
        compile_segments([model], HOST)
