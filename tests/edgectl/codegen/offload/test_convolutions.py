"""Convolutions of any shape run on the accelerator and equal the interpreter."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.vta.config import Config
from edgectl.operators.integer import IntegerConvolution
from edgectl.operators.quantization import Requantize
from tests.edgectl.codegen.offload.integer_models import (
    BATCHED,
    CONFIGS,
    HIGHS,
    LOWS,
    SEEDS,
    ModelBuilder,
    examples,
    largest_shift,
    pairs,
    windows,
)
from tests.edgectl.codegen.offload.running import check

Case = tuple[ModelBuilder, tuple[str, ...]]
"""A network and the values that are its outputs."""
ALONE = "^it sees nothing but padding$"
"""Of an image with few channels, whose patches would all be padding."""
FILLS = r"its clip \[.*\] would fill the padding"


@st.composite
def convolutions(
    draw: st.DrawFn, inputs: st.SearchStrategy[int], outputs: st.SearchStrategy[int], largest: int = 16
) -> Case:
    """A convolution, on the accelerator's own data or on the CPU's, perhaps with a residual and with a reader."""
    kernel, strides, padding, dilation, size = draw(windows(7, 4, 7, 3, largest))
    net = ModelBuilder(draw(SEEDS), draw(st.sampled_from(CONFIGS)), draw(st.integers(1, 2)))
    operator = IntegerConvolution(
        strides,
        padding,
        dilation,
        shift=draw(st.integers(-2, largest_shift(net.config))),
        low=draw(LOWS),
        high=draw(HIGHS),
        residual_shift=draw(st.integers(-9, 21)),
    )
    x = net.input(draw(inputs), *size)
    if draw(st.booleans()):
        x = net.add(Requantize(0), x)
    channels = draw(outputs)
    plain = net.convolution(operator, x, channels, kernel)
    if draw(st.booleans()):
        residual = net.input(*net.shape(plain)[1:])
        return net, (net.convolution(operator, x, channels, kernel, residual), plain)
    return net, (plain,)


@given(convolutions(st.integers(1, 70), st.integers(1, 70)))
@examples(30)
def test_any_convolution(case: Case) -> None:
    net, outputs = case
    check(net.model(*outputs), net.values, net.config, reasons=[ALONE])


@given(convolutions(st.integers(1, 20), st.integers(1, 20), largest=5), SEEDS)
@examples(6)
def test_any_convolution_under_any_interleaving(case: Case, seed: int) -> None:
    net, outputs = case
    check(net.model(*outputs), net.values, net.config, reasons=[ALONE], interleavings=[seed])


@given(convolutions(st.integers(1, 7), st.integers(1, 40), largest=24))
@examples(25)
def test_few_channels_from_the_cpu_come_in_patches(case: Case) -> None:
    net, outputs = case
    check(net.model(*outputs), net.values, net.config, reasons=[ALONE])


@given(
    seed=SEEDS,
    config=st.sampled_from(CONFIGS),
    window=windows(5, 3, 3, 2, 12),
    groups=st.integers(2, 5),
    per_group=st.tuples(st.sampled_from([1, 3, 8, 16, 24, 32]), st.sampled_from([1, 3, 8, 16, 24, 32])),
    shift=st.integers(0, 15),
)
@examples(25)
def test_groups(
    seed: int,
    config: Config,
    window: tuple[tuple[int, int], ...],
    groups: int,
    per_group: tuple[int, int],
    shift: int,
) -> None:
    kernel, strides, padding, dilation, size = window
    net = ModelBuilder(seed, config)
    operator = IntegerConvolution(strides, padding, dilation, groups, shift)  # type: ignore[arg-type]
    y = net.convolution(operator, net.input(groups * per_group[0], *size), groups * per_group[1], kernel)
    check(net.model(y), net.values, config)


@given(
    seed=SEEDS,
    config=st.sampled_from(CONFIGS),
    window=windows(5, 3, 3, 2, 12),
    channels=st.integers(1, 70),
    multiplier=st.integers(1, 4),
    low=LOWS,
)
@examples(20)
def test_depthwise(
    seed: int, config: Config, window: tuple[tuple[int, int], ...], channels: int, multiplier: int, low: int
) -> None:
    kernel, strides, padding, dilation, size = window
    net = ModelBuilder(seed, config)
    operator = IntegerConvolution(strides, padding, dilation, channels, 7, low)  # type: ignore[arg-type]
    y = net.convolution(operator, net.input(channels, *size), channels * multiplier, kernel)
    check(net.model(y), net.values, config)


@given(SEEDS, st.sampled_from(CONFIGS), pairs(1, 40), st.integers(1, 20))
@examples(5)
def test_a_clip_that_would_fill_the_padding_channels_falls_back(
    seed: int, config: Config, channels: tuple[int, int], low: int
) -> None:
    net = ModelBuilder(seed, config)
    y = net.convolution(IntegerConvolution(shift=9, low=low), net.input(channels[0], 5, 4), channels[1], (2, 3))
    fills = channels[1] % config.block != 0
    parts = check(net.model(y), net.values, config, reasons=[FILLS] if fills else [])
    assert len(parts.fallbacks) == fills


@pytest.mark.parametrize(
    ("config", "shift", "bias", "reason"),
    [
        (CONFIGS[0], 22, 0, ""),
        (BATCHED, 22, 0, "its largest bias needs 19 bias blocks, at most 16 are used"),
        (CONFIGS[0], 0, 2**27, "its largest bias needs 555 bias blocks, at most 16 are used"),
        (CONFIGS[0], 31, 0, "its shift is 31, the hardware does -15 to 30"),
        (CONFIGS[0], -16, 0, "its shift is -16, the hardware does -15 to 30"),
    ],
)
def test_rounding_and_biases_up_to_what_bias_blocks_hold(config: Config, shift: int, bias: int, reason: str) -> None:
    net = ModelBuilder(5, config)
    weight = net.parameter(net.integers(16, 16, 3, 3))
    y = net.add(
        IntegerConvolution(shift=shift), net.input(16, 4, 4), weight, net.parameter(np.full(16, bias, np.int32))
    )
    parts = check(net.model(y), net.values, config, reasons=[re.escape(reason)] if reason else [])
    assert [fallback.reason for fallback in parts.fallbacks] == [reason] * bool(reason)
