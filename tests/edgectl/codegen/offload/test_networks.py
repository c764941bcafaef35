"""Random networks of every integer operator: what each makes the next one reads, on either processor."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.boards import profile
from edge_agent.bundle import read_bundle
from edge_agent.devices import open_accelerator
from edge_agent.runtime.executor import Runtime
from edge_agent.vta.config import DEFAULT_CONFIG, Config
from edgectl.building import build_integer
from edgectl.interpreter import interpret
from edgectl.operators.integer import (
    IntegerAdd,
    IntegerAffine,
    IntegerConvolution,
    IntegerPoolSum,
    IntegerWindowSum,
)
from edgectl.operators.pooling import MaxPool
from edgectl.operators.quantization import Dequantize, Requantize
from edgectl.operators.shape import Concatenate, Flatten, Reshape
from tests.edgectl.codegen.offload.integer_models import CONFIGS, LOWS, SEEDS, ModelBuilder, examples
from tests.edgectl.codegen.offload.running import check

REASONS = [
    "^its int32 input has other readers$",
    "^its int32 input comes from the CPU$",
    "^its parts come from the CPU$",
    "^its shift is 31, the hardware does -15 to 30$",
    "^on this board a program is one layer, a concatenation several$",
]


@st.composite
def networks(
    draw: st.DrawFn, largest: int, layers: int, configs: tuple[Config, ...] = CONFIGS
) -> tuple[ModelBuilder, tuple[str, ...]]:
    """Layers on any earlier values of one size, then a head of sums and dense layers."""
    net = ModelBuilder(draw(SEEDS), draw(st.sampled_from(configs)), draw(st.integers(1, 2)))
    size = draw(st.tuples(st.integers(2, largest), st.integers(2, largest)))
    values = [net.input(draw(st.sampled_from([1, 3, 16, 20])), *size)]
    for _ in range(draw(st.integers(1, layers))):
        values.append(draw(spatial_layers(net, values)))
    pooled = net.add(Requantize(draw(st.integers(0, 9))), net.add(IntegerPoolSum(), values[-1]))
    head = net.dense(net.add(Flatten(), pooled), draw(st.integers(1, 40)))
    if draw(st.booleans()):
        narrow = net.add(Requantize(7), head)
        vector = net.add(Reshape((net.shape(narrow)[1], 1, 1)), narrow)
        again = net.convolution(IntegerConvolution(shift=6), vector, 10, (1, 1))
        head = net.dense(net.add(Flatten(), again), 5)
    result = net.add(Dequantize(0.25), head) if draw(st.booleans()) else head
    return net, (result, *draw(st.lists(st.sampled_from(values[1:]), max_size=1)))


@st.composite
def spatial_layers(draw: st.DrawFn, net: ModelBuilder, values: list[str]) -> str:
    """One layer that keeps the size of the image."""
    x = draw(st.sampled_from(values))
    channels = net.shape(x)[1]
    kinds = ["convolution", "residual", "depthwise", "max", "mean", "affine", "add", "requantize", "concatenate", "cpu"]
    kind = draw(st.sampled_from(kinds))
    shift, low = draw(st.integers(4, 12)), draw(LOWS)
    same = IntegerConvolution(padding=(1, 1, 1, 1), shift=shift, low=low, residual_shift=draw(st.integers(-1, 7)))
    if kind == "convolution":
        return net.convolution(same, x, draw(st.sampled_from([5, 16, 32, 33])), (3, 3))
    if kind == "residual":
        return net.convolution(same, x, channels, (3, 3), residual=draw(st.sampled_from(net.alike(x, values))))
    if kind == "depthwise":
        operator = IntegerConvolution(padding=(2, 2, 2, 2), dilation=(2, 2), groups=channels, shift=shift)
        return net.convolution(operator, x, channels * draw(st.integers(1, 2)), (3, 3))
    if kind == "max":
        return net.add(MaxPool((2, 3), (1, 1), (1, 1, 0, 1)), x)
    if kind == "mean":
        return net.add(
            Requantize(draw(st.integers(0, 4)), low), net.add(IntegerWindowSum((3, 1), padding=(1, 0, 1, 0)), x)
        )
    if kind == "affine":
        parameters = [net.rng.integers(-99, 100, channels, dtype=np.int32) for _ in range(2)]
        return net.add(IntegerAffine(6, low), x, *map(net.parameter, parameters))
    if kind == "add":
        return net.add(IntegerAdd(0, draw(st.integers(0, 3)), 2, low), x, draw(st.sampled_from(net.alike(x, values))))
    if kind == "requantize":
        return net.add(Requantize(1, low), x)
    if kind == "concatenate":
        return net.add(Concatenate(), x, *draw(st.lists(st.sampled_from(values), min_size=1, max_size=2)))
    return net.convolution(IntegerConvolution(shift=31), x, channels, (1, 1))


Case = tuple[ModelBuilder, tuple[str, ...]]


@given(networks(largest=12, layers=8))
@examples(40)
def test_any_network(case: Case) -> None:
    net, outputs = case
    check(net.model(*outputs), net.values, net.config, reasons=REASONS)


@given(networks(largest=8, layers=6))
@examples(15)
def test_any_network_in_programs_of_one_layer(case: Case) -> None:
    net, outputs = case
    check(net.model(*outputs), net.values, net.config, across_layers=False, reasons=REASONS)


@given(networks(largest=4, layers=4), SEEDS)
@examples(4)
def test_any_network_under_any_interleaving(case: Case, seed: int) -> None:
    net, outputs = case
    check(net.model(*outputs), net.values, net.config, reasons=REASONS, interleavings=[seed])


@given(networks(largest=9, layers=6, configs=(DEFAULT_CONFIG,)), st.booleans())
@examples(6)
def test_any_network_as_a_bundle(case: Case, across_layers: bool) -> None:
    """With the CPU's part compiled, in the agent's runtime: its self-test, and other inputs than the golden ones."""
    net, outputs = case
    model = net.model(*outputs)
    board = profile("sim") if across_layers else replace(profile("sim"), features=frozenset())
    loaded = Runtime(open_accelerator(board.accelerator, board)).load(read_bundle(build_integer(model, board).data))
    loaded.self_test()
    made = loaded.infer(net.values).outputs
    for name, expected in interpret(model, net.values).items():
        np.testing.assert_array_equal(made[name], expected, name)
    loaded.close()
