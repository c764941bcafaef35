"""What runs where: by pattern, with a reason for everything that stays on the CPU."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from edge_agent.vta.config import DEFAULT_CONFIG
from edgectl.codegen.partition import AcceleratorStep, CpuStep, Partition, partition
from edgectl.graph import Model, Node
from edgectl.operators.base import TensorType
from edgectl.operators.integer import IntegerConvolution
from edgectl.quantization.quantizer import quantize
from tests.edgectl.quantization.networks import NETWORKS


def convolution(operator: IntegerConvolution, channels: int = 16, kernel: int = 3, residual: bool = False) -> Model:
    """One IntegerConvolution on an int8 input of 12x12."""
    weight = np.ones((channels, channels // operator.groups, kernel, kernel), np.int8)
    parameters = {"w": weight, "b": np.zeros(channels, np.int32)}
    inputs = ("x", "w", "b", "x") if residual else ("x", "w", "b")
    return Model(
        "net",
        {"x": TensorType((1, channels, 12, 12), "int8")},
        (Node("y", operator, inputs, "conv"),),
        parameters,
        ("y",),
    )


def sides(result: Partition) -> list[str]:
    return ["vta" if isinstance(step, AcceleratorStep) else "cpu" for step in result.steps]


SAME = (1, 1, 1, 1)
REASONS = {
    "groups": (convolution(IntegerConvolution(padding=SAME, groups=4)), "4 groups"),
    "few channels": (
        convolution(IntegerConvolution(padding=SAME), channels=8),
        "8 input channels, fewer than a block of 16",
    ),
    "shift": (convolution(IntegerConvolution(padding=SAME, shift=16)), "shift is 16"),
    "residual shift": (
        convolution(IntegerConvolution(padding=SAME, residual_shift=22), residual=True),
        "residual's shift is 22",
    ),
    "wide padding": (
        convolution(IntegerConvolution(padding=(3, 1, 1, 1))),
        r"padding \(3, 1, 1, 1\) is as wide as its kernel",
    ),
    "large padding": (convolution(IntegerConvolution(padding=(16, 16, 16, 16)), kernel=17), "exceeds 15"),
}


@pytest.mark.parametrize("name", REASONS)
def test_what_the_accelerator_cannot_do_stays_on_the_cpu_with_its_reason(name: str) -> None:
    model, reason = REASONS[name]
    result = partition(model, DEFAULT_CONFIG)
    assert sides(result) == ["cpu"]
    (fallback,) = result.fallbacks
    assert fallback.layer == "conv"
    assert re.search(reason, fallback.reason)


def test_weights_that_are_computed_stay_on_the_cpu() -> None:
    model = convolution(IntegerConvolution(padding=SAME))
    inputs = {**model.inputs, "b": TensorType((16,), "int32")}
    result = partition(replace(model, inputs=inputs, parameters={"w": model.parameters["w"]}), DEFAULT_CONFIG)
    assert result.fallbacks[0].reason == "its weights are not constant"


def test_a_convolution_on_a_model_input_is_packed_and_unpacked() -> None:
    result = partition(convolution(IntegerConvolution(padding=SAME)), DEFAULT_CONFIG)
    assert sides(result) == ["cpu", "vta", "cpu"]
    first, middle, last = result.steps
    assert isinstance(first, CpuStep) and isinstance(middle, AcceleratorStep) and isinstance(last, CpuStep)
    assert [node.operator.kind for node in first.segment.nodes] == ["pack_activation"]
    assert (middle.inputs, middle.outputs) == (("x.packed",), ("y.packed",))
    assert [node.operator.kind for node in last.segment.nodes] == ["unpack_activation"]
    assert last.segment.outputs == ("y",)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_step_reads_only_what_earlier_ones_make(name: str) -> None:
    model = quantize(NETWORKS[name]())
    result = partition(model, DEFAULT_CONFIG)
    available = set(model.inputs)
    for step in result.steps:
        reads = step.inputs if isinstance(step, AcceleratorStep) else step.segment.inputs
        assert available.issuperset(reads)
        available.update(step.outputs if isinstance(step, AcceleratorStep) else step.segment.outputs)
        if isinstance(step, CpuStep):
            step.segment.types()
    assert available.issuperset(model.outputs)
    assert available.issuperset(result.observed)
    layers = [layer.name for step in result.steps if isinstance(step, AcceleratorStep) for layer in step.layers]
    layers += [node.name for step in result.steps if isinstance(step, CpuStep) for node in step.segment.nodes]
    assert {node.name for node in model.nodes} <= set(layers)


def test_residual_networks_are_one_program_between_two_cpu_segments() -> None:
    assert sides(partition(quantize(NETWORKS["residual"]()), DEFAULT_CONFIG)) == ["cpu", "vta", "cpu"]


def test_without_programs_across_layers_each_layer_is_one() -> None:
    model = quantize(NETWORKS["residual"]())
    together, apart = partition(model, DEFAULT_CONFIG), partition(model, DEFAULT_CONFIG, across_layers=False)
    assert sides(apart) == ["cpu", *["vta"] * 5, "cpu"]

    def layers(result: Partition) -> list[str]:
        return [layer.name for step in result.steps if isinstance(step, AcceleratorStep) for layer in step.layers]

    assert layers(apart) == layers(together)


def test_rows_wider_than_a_stride_stay_on_the_cpu() -> None:
    model = convolution(IntegerConvolution())
    wide = replace(model, inputs={"x": TensorType((1, 16, 3, 65536), "int8")})
    assert "65536 elements wide" in partition(wide, DEFAULT_CONFIG).fallbacks[0].reason


def test_a_clip_that_would_fill_padding_channels_stays_on_the_cpu() -> None:
    model = convolution(IntegerConvolution(padding=SAME, low=5), channels=20)
    assert "clip [5, 127]" in partition(model, DEFAULT_CONFIG).fallbacks[0].reason
    assert not partition(convolution(IntegerConvolution(padding=SAME, low=5)), DEFAULT_CONFIG).fallbacks


def test_a_bias_beyond_all_networks_stays_on_the_cpu() -> None:
    model = convolution(IntegerConvolution(padding=SAME))
    large = {**model.parameters, "b": np.full(16, 2**27, np.int32)}
    assert "bias blocks" in partition(replace(model, parameters=large), DEFAULT_CONFIG).fallbacks[0].reason


def test_a_dilated_kernel_reaches_as_far_as_its_padding() -> None:
    operator = IntegerConvolution(padding=(3, 3, 3, 3), dilation=(3, 3))
    assert not partition(convolution(operator), DEFAULT_CONFIG).fallbacks
