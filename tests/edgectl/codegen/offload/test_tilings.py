"""However a layer is cut into tiles, it computes the same: not the cheapest tiling, any that fits."""

from __future__ import annotations

from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.vta.config import DEFAULT_CONFIG, Config
from edgectl.codegen.vta import search
from edgectl.codegen.vta.problem import Problem
from edgectl.codegen.vta.tiling import Tiling
from edgectl.operators.base import Padding
from edgectl.operators.integer import IntegerAdd, IntegerConvolution, IntegerWindowSum
from edgectl.operators.pooling import MaxPool
from edgectl.operators.quantization import Requantize
from tests.edgectl.codegen.offload.integer_models import CONFIGS, SEEDS, TIGHT, ModelBuilder, examples, pairs, windows
from tests.edgectl.codegen.offload.running import check

SAME = IntegerConvolution(padding=(1, 1, 1, 1), shift=9)


def check_tiling(net: ModelBuilder, value: str, seed: int, across_layers: bool = True) -> list[Tiling]:
    """`check`, each layer under the tiling that `seed` picks from all that fit; those tilings."""
    picked: dict[Problem, Tiling] = {}

    def pick(problem: Problem, config: Config) -> Tiling:
        if problem not in picked:
            fitting = list(search.candidates(problem, config))
            picked[problem] = fitting[seed % len(fitting)]
        return picked[problem]

    with (
        patch("edgectl.codegen.vta.compiler.choose_tiling", pick),
        patch("edgectl.codegen.vta.emitter.choose_tiling", pick),
    ):
        check(
            net.model(value),
            net.values,
            net.config,
            across_layers,
            reasons=["no place in common", "nothing but padding"],
        )
    return list(picked.values())


@given(
    seed=SEEDS,
    config=st.sampled_from(CONFIGS),
    window=windows(5, 3, 4, 2, 16),
    channels=pairs(1, 90),
    residual=st.sampled_from([None, -2, 0, 5, 9, 18]),
    shift=st.integers(0, 15),
)
@examples(60)
def test_convolutions(
    seed: int,
    config: Config,
    window: tuple[tuple[int, int], tuple[int, int], Padding, tuple[int, int], tuple[int, int]],
    channels: tuple[int, int],
    residual: int | None,
    shift: int,
) -> None:
    kernel, strides, padding, dilation, size = window
    net = ModelBuilder(seed, config)
    operator = IntegerConvolution(strides, padding, dilation, shift=shift, residual_shift=residual or 0)
    x = net.input(channels[0], *size)
    value = net.convolution(operator, x, channels[1], kernel)
    if residual is not None:
        value = net.convolution(operator, x, channels[1], kernel, residual=value)
    check_tiling(net, value, seed)


@given(
    seed=SEEDS,
    config=st.sampled_from(CONFIGS),
    window=windows(5, 4, 4, 1, 14),
    channels=st.integers(1, 50),
    kind=st.sampled_from(["pool", "sum", "narrow sum", "depthwise", "groups", "pooled", "add"]),
)
@examples(40)
def test_other_layers(
    seed: int,
    config: Config,
    window: tuple[tuple[int, int], tuple[int, int], Padding, tuple[int, int], tuple[int, int]],
    channels: int,
    kind: str,
) -> None:
    kernel, strides, padding, _, size = window
    net = ModelBuilder(seed, config)
    x = net.input(channels * (3 if kind == "groups" else 1), *size)
    if kind == "pool":
        value = net.add(MaxPool(kernel, strides, padding), x)
    elif kind in ("sum", "narrow sum"):
        value = net.add(IntegerWindowSum(kernel, strides, padding), x)
        value = net.add(Requantize(3), value) if kind == "narrow sum" else value
    elif kind in ("depthwise", "groups"):
        groups = channels if kind == "depthwise" else 3
        value = net.convolution(IntegerConvolution(strides, padding, groups=groups, shift=8), x, groups * 20, kernel)
    elif kind == "pooled":
        value = net.add(MaxPool(kernel, strides, padding), net.convolution(SAME, x, channels, (3, 3)))
    else:
        value = net.add(IntegerAdd(0, 2, 3), x, net.input(channels, *size))
    check_tiling(net, value, seed)


@pytest.mark.parametrize("config", [DEFAULT_CONFIG, TIGHT], ids=lambda config: config.name)
@pytest.mark.parametrize("seed", range(0, 4000, 571))
def test_a_layer_larger_than_the_buffers(config: Config, seed: int) -> None:
    """More weights, inputs and results than fit at once: the tilings differ, the result does not."""
    net = ModelBuilder(1, config)
    x = net.input(96, 20, 19)
    value = net.convolution(SAME, net.convolution(SAME, x, 160, (3, 3)), 96, (3, 3), residual=x)
    assert all(found.rows * found.columns * found.units < 20 * 19 * 10 for found in check_tiling(net, value, seed))


@pytest.mark.parametrize(
    "name",
    [
        "1x16_i8w8a32_12_15_18_17",
        "1x16_i8w8a32_11_15_18_17",
        "1x16_i8w8a32_9_12_14_13",
        "1x32_i8w8a32_15_16_18_17",
        "2x16_i8w8a32_15_15_18_17",
    ],
)
def test_other_configurations(name: str) -> None:
    """With fewer micro-ops than accumulators, with small memories, with other blocks and batches."""
    config = Config.parse(name)
    net = ModelBuilder(0, config)
    pooled = net.add(MaxPool((3, 3), (2, 2), (1, 1, 1, 1)), net.convolution(SAME, net.input(32, 20, 20), 64, (3, 3)))
    check(net.model(net.convolution(SAME, pooled, 64, (3, 3), residual=pooled)), net.values, config)


@given(SEEDS, SEEDS)
@examples(4)
def test_any_tiling_under_any_interleaving(seed: int, interleaving: int) -> None:
    net = ModelBuilder(seed, TIGHT)
    x = net.input(33, 6, 5)
    value = net.convolution(SAME, x, 33, (3, 3), residual=x)
    check_tiling(net, value, seed)
    check(net.model(value), net.values, net.config, interleavings=[interleaving])
