"""Kernels that pack, split and join equal `Operator.evaluate`, alone and fused with their neighbours."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgectl.codegen.cpu import CpuTarget, compile_segments
from edgectl.graph import Model, Node
from edgectl.interpreter import interpret
from edgectl.operators.base import Operator, TensorType
from edgectl.operators.elementwise import Binary
from edgectl.operators.layout import Pack, Unpack
from edgectl.operators.patches import PackPatches
from edgectl.operators.planes import JoinPlanes, SplitPlanes
from edgectl.operators.quantization import Dequantize, Quantize, Requantize
from edgectl.operators.shape import Flatten, Reshape
from tests.edgectl.codegen.cpu.support import HOST, RUNNABLE, run_fragment, run_operator

EXAMPLES = settings(max_examples=12)
targets = st.sampled_from(RUNNABLE)
seeds = st.integers(0, 2**32 - 1)
pairs = st.tuples(st.integers(1, 4), st.integers(1, 4))
sizes = st.one_of(st.just(()), pairs)
tiles = st.tuples(st.sampled_from([1, 2]), st.sampled_from([4, 16]))

STEM = PackPatches(1, 16, patch=(2, 2), steps=(2, 2), padding=(4, 4), grid=(115, 115))
"""What a 7x7 convolution with stride 2 of a 224x224 image needs."""


def int8(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-128, 128, shape).astype(np.int8)


def int32(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-(2**31), 2**31, shape).astype(np.int32)


def chain(x: np.ndarray, *operators: Operator) -> Model:
    """`operators` one after the other, on an input `x` of the array's type."""
    names = ["x", *(f"v{index}" for index in range(len(operators)))]
    nodes = tuple(Node(names[i + 1], operator, (names[i],)) for i, operator in enumerate(operators))
    name = "-".join(operator.kind for operator in operators)
    return Model(name, {"x": TensorType(x.shape, str(x.dtype))}, nodes, {}, (names[-1],))


def assert_one_kernel(x: np.ndarray, *operators: Operator, target: CpuTarget = HOST) -> None:
    """The chain is one kernel that equals the interpreter."""
    model = chain(x, *operators)
    code = compile_segments([model], target)
    assert len(code.fragments[0].steps) == 1
    (expected,), (actual,) = interpret(model, {"x": x}).values(), run_fragment(code, 0, {"x": x}).values()
    np.testing.assert_array_equal(actual, expected)


@EXAMPLES
@given(seed=seeds, target=targets, tile=tiles, channels=st.integers(1, 40))
def test_pack_and_unpack_vectors(seed: int, target: CpuTarget, tile: tuple[int, int], channels: int) -> None:
    x, pack, unpack = int8(seed, 2, channels), Pack(*tile), Unpack(channels, flat=True)
    packed = run_operator(pack, [x], target=target)
    np.testing.assert_array_equal(packed, pack.evaluate(x))
    np.testing.assert_array_equal(run_operator(unpack, [packed], target=target), x)


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
    quantize=st.booleans(),
)
def test_pack_patches(
    operator: PackPatches, seed: int, target: CpuTarget, channels: int, size: tuple[int, int], quantize: bool
) -> None:
    """Grids inside the image and across its edges; few tiles per patch and many."""
    x = int8(seed, 2, channels, *size)
    if quantize:
        assert_one_kernel(x.astype(np.float32) / 3, Quantize((7.3,), (0.21,)), operator, target=target)
    else:
        assert_one_kernel(x, operator, target=target)


@pytest.mark.parametrize("target", RUNNABLE, ids=lambda target: target.name)
@pytest.mark.parametrize("channels", [3, 100])
def test_pack_patches_of_real_images(target: CpuTarget, channels: int) -> None:
    """100 channels make 25 tiles, more than get code of their own."""
    x = np.random.default_rng(1).normal(0, 1, (1, channels, 224, 224)).astype(np.float32)
    assert_one_kernel(x, Quantize((50.0,)), STEM, target=target)


@pytest.mark.parametrize(
    "after",
    [
        (Requantize(1),),
        (Flatten(),),
        (Requantize(1), Reshape((3, 4, 35)), Requantize(-1)),
        (Reshape((3, 14, 10)), PackPatches(2, 16, patch=(2, 2), steps=(2, 2), padding=(1, 1), grid=(8, 6))),
    ],
    ids=lambda after: "-".join(operator.kind for operator in after),
)
def test_operators_behind_pack_patches(after: tuple[Operator, ...]) -> None:
    operator = PackPatches(1, 4, patch=(2, 2), steps=(2, 2), padding=(1, 1), grid=(5, 7))
    assert_one_kernel(int8(3, 2, 3, 8, 12), operator, *after)


@EXAMPLES
@given(seed=seeds, target=targets, tile=tiles, channels=st.integers(1, 40), size=sizes)
def test_split_and_join_planes(
    seed: int, target: CpuTarget, tile: tuple[int, int], channels: int, size: tuple[int, ...]
) -> None:
    x, split, join = int32(seed, 2, channels, *size), SplitPlanes(*tile), JoinPlanes(channels, flat=not size)
    planes = run_operator(split, [x], target=target)
    np.testing.assert_array_equal(planes, split.evaluate(x))
    np.testing.assert_array_equal(run_operator(join, [planes], target=target), x)
    assert_one_kernel(planes, join, Dequantize(0.37), target=target)


def test_planes_may_be_joined_twice_in_a_kernel() -> None:
    planes = SplitPlanes().evaluate(int32(1, 1, 1000) >> 2)
    nodes = (
        Node("joined", JoinPlanes(1000, flat=True), ("planes",)),
        Node("again", JoinPlanes(1000, flat=True), ("planes",)),
        Node("sum", Binary("add"), ("joined", "again")),
        Node("logits", Dequantize(0.01), ("sum",)),
    )
    model = Model("twice", {"planes": TensorType(planes.shape, "int8")}, nodes, {}, ("logits",))
    code = compile_segments([model], HOST)
    actual = run_fragment(code, 0, {"planes": planes})["logits"]
    np.testing.assert_array_equal(actual, interpret(model, {"planes": planes})["logits"])
