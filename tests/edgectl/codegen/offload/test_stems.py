"""How a network's image reaches the accelerator: in patches where it has few channels, once for each way of reading."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.vta.config import DEFAULT_CONFIG
from edgectl.codegen.partition import AcceleratorStep, CpuStep
from edgectl.operators.integer import IntegerConvolution
from edgectl.operators.patches import PackPatches
from edgectl.operators.pooling import MaxPool
from edgectl.operators.quantization import Requantize
from tests.edgectl.codegen.offload.integer_models import SEEDS, ModelBuilder, examples, windows
from tests.edgectl.codegen.offload.running import check

ALONE = "it sees nothing but padding"


def test_a_7x7_of_stride_2_is_a_4x4_on_12_channels() -> None:
    net = ModelBuilder(0, DEFAULT_CONFIG)
    operator = IntegerConvolution((2, 2), (3, 3, 3, 3), shift=10)
    x = net.convolution(operator, net.input(3, 32, 32), 64, (7, 7))
    parts = check(net.model(net.add(MaxPool((3, 3), (2, 2), (1, 1, 1, 1)), x)), net.values, net.config)
    first, program = parts.steps[:2]
    assert isinstance(first, CpuStep) and isinstance(program, AcceleratorStep)
    (node,) = first.segment.nodes
    assert node.operator == PackPatches(1, 16, (2, 2), (2, 2), (3, 3), (19, 19))
    (layer,) = program.layers
    assert layer.weight.shape == (4, 1, 4, 4, 16, 16)
    assert (layer.x.channels, layer.strides, layer.padding) == (12, (1, 1), (0, 0, 0, 0))


@given(SEEDS, st.integers(1, 4), windows(7, 4, 4, 2, 20), windows(7, 4, 4, 2, 20))
@examples(15)
def test_several_convolutions_of_one_image(
    seed: int, channels: int, first: tuple[tuple[int, int], ...], second: tuple[tuple[int, int], ...]
) -> None:
    """Each in patches of its own, beside a reader that takes the image as it is."""
    net = ModelBuilder(seed, DEFAULT_CONFIG)
    x = net.input(channels, max(first[4][0], second[4][0]), max(first[4][1], second[4][1]))
    outputs = [net.add(Requantize(1), x)]
    for kernel, strides, padding, dilation, _ in (first, second):
        operator = IntegerConvolution(strides, padding, dilation, shift=9)  # type: ignore[arg-type]
        outputs.append(net.convolution(operator, x, 9, kernel))
    check(net.model(*outputs), net.values, net.config, reasons=[ALONE])


@pytest.mark.parametrize("strides", [(7, 7), (2, 2)])
@pytest.mark.parametrize("rows", [True, False])
@pytest.mark.parametrize("channels", [3, 16])
def test_a_convolution_that_sees_padding_alone(strides: tuple[int, int], rows: bool, channels: int) -> None:
    net = ModelBuilder(0, DEFAULT_CONFIG)
    operator = IntegerConvolution(strides, (2, 0, 0, 0) if rows else (0, 2, 0, 0), shift=2)
    size = (1, 2) if rows else (2, 1)
    check(
        net.model(net.convolution(operator, net.input(channels, *size), 4, (2, 2))),
        net.values,
        net.config,
        reasons=[ALONE],
    )


def test_patches_of_a_computed_image() -> None:
    """Few channels that the CPU computes between two programs."""
    net = ModelBuilder(0, DEFAULT_CONFIG)
    x = net.convolution(IntegerConvolution(shift=9), net.input(16, 8, 8), 16, (1, 1))
    few = net.convolution(IntegerConvolution(shift=31), x, 3, (1, 1))
    y = net.convolution(IntegerConvolution((2, 2), shift=7), few, 16, (3, 3))
    parts = check(net.model(y, few), net.values, net.config, reasons=["its shift is 31"])
    assert [type(step) for step in parts.steps] == [CpuStep, AcceleratorStep] * 2 + [CpuStep]


@pytest.mark.parametrize(
    ("size", "strides", "reason"),
    [
        ((16, 5000), (16, 1), "rows that it reads are 80000 elements apart, up to 65535 work"),
        ((8, 8191), (8, 8), ""),
        ((2, 8192), (1, 1), "its rows are 8192 elements wide, up to 8191 work"),
    ],
)
def test_wide_rows(size: tuple[int, int], strides: tuple[int, int], reason: str) -> None:
    """The distance between two rows that are read is a 16-bit field of a transfer."""
    net = ModelBuilder(0, DEFAULT_CONFIG)
    y = net.convolution(IntegerConvolution(strides, shift=8), net.input(16, *size), 16, (1, 1))
    parts = check(net.model(y), net.values, net.config, reasons=[reason])
    assert [fallback.reason for fallback in parts.fallbacks] == [reason] * bool(reason)
