"""Dense layers and elementwise operators run on the accelerator and equal the interpreter."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.vta.config import DEFAULT_CONFIG, Config
from edgectl.operators.integer import IntegerAdd, IntegerAffine, IntegerConvolution, IntegerExtremum
from edgectl.operators.quantization import Dequantize, Requantize
from edgectl.operators.shape import Flatten
from tests.edgectl.codegen.offload.integer_models import (
    CONFIGS,
    HIGHS,
    LOWS,
    SEEDS,
    ModelBuilder,
    examples,
    largest_shift,
    pairs,
    requantizes,
)
from tests.edgectl.codegen.offload.running import check

SAMPLES = st.integers(1, 3)
NETS = st.builds(ModelBuilder, SEEDS, st.sampled_from(CONFIGS), SAMPLES)


@given(
    net=NETS,
    channels=st.integers(1, 40),
    size=pairs(1, 6),
    outputs=st.integers(1, 70),
    narrow=st.none() | requantizes(),
    flatten=st.booleans(),
    on_vta=st.booleans(),
)
@examples(30)
def test_dense(
    net: ModelBuilder,
    channels: int,
    size: tuple[int, int],
    outputs: int,
    narrow: Requantize | None,
    flatten: bool,
    on_vta: bool,
) -> None:
    """On a vector, or on a flattened image, whose pixels are then the kernel of a convolution."""
    x = net.input(channels, *size) if flatten else net.input(channels)
    if on_vta:
        x = net.add(Requantize(1), x)
    y = net.dense(net.add(Flatten(), x) if flatten else x, outputs)
    if narrow is not None and narrow.shift <= largest_shift(net.config):
        y = net.add(narrow, y)
    check(net.model(y), net.values, net.config)


@given(SEEDS, SEEDS)
@examples(3)
def test_dense_layers_under_any_interleaving(seed: int, interleaving: int) -> None:
    net = ModelBuilder(seed, DEFAULT_CONFIG)
    hidden = net.add(Requantize(9), net.dense(net.add(Flatten(), net.input(20, 2, 3)), 33))
    check(net.model(net.dense(hidden, 10)), net.values, net.config, interleavings=[interleaving])


def test_a_dense_layer_with_more_weights_than_a_transfer_can_step_over() -> None:
    net = ModelBuilder(0, DEFAULT_CONFIG)
    y = net.add(Requantize(12), net.dense(net.input(65536 * 16), 2))
    parts = check(
        net.model(y), net.values, net.config, reasons=["65536 blocks of weights, up to 65535", "from the CPU"]
    )
    assert [fallback.reason for fallback in parts.fallbacks] == [
        "an output has 65536 blocks of weights, up to 65535 work",
        "its int32 input comes from the CPU",
    ]


def test_a_result_that_is_read_twice_leaves_as_int32() -> None:
    net = ModelBuilder(3, DEFAULT_CONFIG)
    wide = net.dense(net.input(30), 20)
    parts = check(
        net.model(net.add(Requantize(7), wide), net.add(Dequantize(0.5), wide)),
        net.values,
        net.config,
        reasons=["its int32 input has other readers"],
    )
    assert [fallback.layer for fallback in parts.fallbacks] == ["requantize.n1"]


@given(
    net=NETS,
    shape=st.tuples(st.integers(1, 70), st.integers(1, 9), st.integers(1, 9)) | st.tuples(st.integers(1, 70)),
    shifts=st.tuples(st.integers(0, 21), st.booleans()),
    shift=st.integers(-2, 20),
    limits=st.tuples(LOWS, HIGHS),
    same=st.booleans(),
    function=st.sampled_from(["add", "maximum", "minimum"]),
)
@examples(40)
def test_add_maximum_and_minimum(
    net: ModelBuilder,
    shape: tuple[int, ...],
    shifts: tuple[int, bool],
    shift: int,
    limits: tuple[int, int],
    same: bool,
    function: str,
) -> None:
    """Either operand may be shifted; both may be the same."""
    amount, first = shifts
    numbers = (amount if first else 0, 0 if first else amount, shift, *limits)
    operator = IntegerAdd(*numbers) if function == "add" else IntegerExtremum(function, *numbers)
    a = net.input(*shape)
    y = net.add(operator, a, a if same else net.input(*shape))
    check(net.model(net.add(operator, y, a)), net.values, net.config)


@pytest.mark.parametrize(
    ("a_shift", "b_shift", "reason"),
    [(1, 2, "both of its operands are shifted"), (0, 22, "one of its operands is shifted by 22")],
)
def test_adds_that_fall_back(a_shift: int, b_shift: int, reason: str) -> None:
    net = ModelBuilder(1, DEFAULT_CONFIG)
    y = net.add(IntegerAdd(a_shift, b_shift, 3), net.input(16, 4, 4), net.input(16, 4, 4))
    assert len(check(net.model(y), net.values, net.config, reasons=[reason]).fallbacks) == 1


@given(
    net=NETS,
    channels=st.integers(1, 70),
    size=pairs(1, 12),
    largest=st.integers(1, 127),
    shift=st.integers(0, 15),
    limits=st.tuples(LOWS, HIGHS),
)
@examples(20)
def test_affine(
    net: ModelBuilder, channels: int, size: tuple[int, int], largest: int, shift: int, limits: tuple[int, int]
) -> None:
    multiplier = net.parameter(net.rng.integers(-largest, largest + 1, channels, dtype=np.int32))
    offset = net.parameter(net.rng.integers(-30_000, 30_000, channels, dtype=np.int32))
    y = net.add(IntegerAffine(shift, *limits), net.input(channels, *size), multiplier, offset)
    check(net.model(y), net.values, net.config)


@pytest.mark.parametrize("multiplier", [128, -128, 1000])
def test_multipliers_beyond_weights_fall_back(multiplier: int) -> None:
    net = ModelBuilder(1, DEFAULT_CONFIG)
    factors, offsets = (net.parameter(np.full(16, value, np.int32)) for value in (multiplier, 3))
    y = net.add(IntegerAffine(3), net.input(16, 4, 4), factors, offsets)
    reason = f"its multipliers reach {abs(multiplier)}, weights 127"
    assert len(check(net.model(y), net.values, net.config, reasons=[reason]).fallbacks) == 1


@given(
    net=NETS,
    shape=st.tuples(st.integers(1, 70), st.integers(1, 20), st.integers(1, 20)) | st.tuples(st.integers(1, 70)),
    operator=st.builds(Requantize, st.integers(-3, 15), LOWS, HIGHS),
)
@examples(15)
def test_requantize(net: ModelBuilder, shape: tuple[int, ...], operator: Requantize) -> None:
    check(net.model(net.add(operator, net.input(*shape))), net.values, net.config)


@given(SEEDS, st.sampled_from(CONFIGS), st.integers(-127, 127))
@examples(5)
def test_limits_that_leave_out_zero(seed: int, config: Config, low: int) -> None:
    """On whole blocks; padding channels would no longer be zero."""
    net = ModelBuilder(seed, config)
    high = min(127, low + 9)
    x = net.add(Requantize(1, low, high), net.input(16, 3, 3))
    check(net.model(net.convolution(IntegerConvolution(shift=9), x, 16, (3, 3))), net.values, config)
