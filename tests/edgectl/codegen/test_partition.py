"""What runs where: by pattern, with a reason for everything that stays on the CPU."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edge_agent.vta.config import DEFAULT_CONFIG
from edgectl.codegen.partition import AcceleratorStep, CpuStep, Fallback, Partition, partition
from edgectl.errors import CompileError
from edgectl.graph import Model, Node
from edgectl.operators.base import TensorType
from edgectl.operators.integer import IntegerConvolution
from edgectl.operators.layout import Pack
from edgectl.quantization.quantizer import quantize
from tests.edgectl.codegen.offload.running import check_reasons
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
NOT_ON_VTA = {
    "shift": (convolution(IntegerConvolution(padding=SAME, shift=31)), "its shift is 31, the hardware does -15 to 30"),
    "residual shift": (
        convolution(IntegerConvolution(padding=SAME, residual_shift=22), residual=True),
        "its residual's shift is 22",
    ),
    "buffers": (convolution(IntegerConvolution(padding=(20,) * 4), kernel=33), "no tile of it fits the buffers"),
}


@pytest.mark.parametrize("name", NOT_ON_VTA)
def test_what_the_accelerator_cannot_do_stays_on_the_cpu_with_its_reason(name: str) -> None:
    model, reason = NOT_ON_VTA[name]
    for offload in ("all", "reference") if name != "buffers" else ("all",):
        result = partition(with_a_first_convolution(model), DEFAULT_CONFIG, offload=offload)
        assert Fallback("conv", reason) in result.fallbacks


NOT_OF_THE_REFERENCE = {
    "groups": (convolution(IntegerConvolution(padding=SAME, groups=4)), "it has 4 groups"),
    "few channels": (
        convolution(IntegerConvolution(padding=SAME), channels=8),
        "it has 8 input channels, fewer than a block of 16",
    ),
}


@pytest.mark.parametrize("name", NOT_OF_THE_REFERENCE)
def test_what_the_reference_left_to_the_cpu(name: str) -> None:
    model, reason = NOT_OF_THE_REFERENCE[name]
    assert partition(model, DEFAULT_CONFIG).fallbacks == ()
    behind = with_a_first_convolution(model)
    first, second = partition(behind, DEFAULT_CONFIG, offload="reference").fallbacks
    assert first == Fallback("first", "the reference partition leaves the first convolution to the CPU")
    assert second == Fallback("conv", reason)


def with_a_first_convolution(model: Model) -> Model:
    """`model` on what a convolution 1x1 makes of its input."""
    (node,) = model.nodes
    channels = model.inputs["x"].shape[1]
    parameters = {
        **model.parameters,
        "w0": np.ones((channels, channels, 1, 1), np.int8),
        "b0": np.zeros(channels, np.int32),
    }
    first = Node("x0", IntegerConvolution(shift=1), ("x", "w0", "b0"), "first")
    inputs = tuple("x0" if name == "x" else name for name in node.inputs)
    return replace(model, nodes=(first, replace(node, inputs=inputs)), parameters=parameters)


def test_the_reference_gives_the_accelerator_convolutions_only() -> None:
    model = quantize(NETWORKS["residual"]())
    result = partition(model, DEFAULT_CONFIG, offload="reference")
    reasons = {fallback.layer: fallback.reason for fallback in result.fallbacks}
    only = "the reference partition gives the accelerator convolutions only"
    first = "the reference partition leaves the first convolution to the CPU"
    assert reasons == {"conv0": first, "pool": only, "mean": only, "fc": only}
    assert layers(result) == ["relu1", "relu2", "bn3", "relu3", "relu4"]
    assert sides(result) == ["cpu", "vta", "cpu"]


def test_another_offload_is_refused() -> None:
    with pytest.raises(CompileError, match="offload is 'some'; all, reference, none exist"):
        partition(convolution(IntegerConvolution()), DEFAULT_CONFIG, offload="some")


def layers(result: Partition) -> list[str]:
    return [layer.name for step in result.steps if isinstance(step, AcceleratorStep) for layer in step.layers]


def test_weights_that_are_computed_stay_on_the_cpu() -> None:
    model = convolution(IntegerConvolution(padding=SAME))
    for name, array, what in (("w", np.int8, "weights"), ("b", np.int32, "biases")):
        inputs = {**model.inputs, name: TensorType(model.parameters[name].shape, np.dtype(array).name)}
        kept = {other: value for other, value in model.parameters.items() if other != name}
        result = partition(replace(model, inputs=inputs, parameters=kept), DEFAULT_CONFIG)
        assert [fallback.reason for fallback in result.fallbacks] == [f"its {what} are not constant"]


def test_a_convolution_on_a_model_input_is_packed_and_unpacked() -> None:
    result = partition(convolution(IntegerConvolution(padding=SAME)), DEFAULT_CONFIG)
    assert sides(result) == ["cpu", "vta", "cpu"]
    first, middle, last = result.steps
    assert isinstance(first, CpuStep) and isinstance(middle, AcceleratorStep) and isinstance(last, CpuStep)
    assert [node.operator.kind for node in first.segment.nodes] == ["pack_activation"]
    assert (middle.inputs, middle.outputs) == (("x.packed",), ("y.packed",))
    assert [node.operator.kind for node in last.segment.nodes] == ["unpack_activation"]
    assert last.segment.outputs == ("y",)
    assert result.packings == {"x.packed": ("x", Pack(1, 16)), "y.packed": ("y", Pack(1, 16))}


def test_packings_tell_what_packed_tensors_hold() -> None:
    """Patches of an image, activations, and the planes of an int32."""
    model = quantize(NETWORKS["residual"]())
    result = partition(model, DEFAULT_CONFIG)
    packings = {name: (value, operator.kind) for name, (value, operator) in result.packings.items()}
    (program,) = (step for step in result.steps if isinstance(step, AcceleratorStep))
    (image,) = program.inputs
    assert packings[image] == ("data.int8", "pack_patches")
    assert program.outputs == ("fc.int32.packed",)
    assert packings["fc.int32.packed"] == ("fc.int32", "split_planes")
    types = model.types()
    for value, operator in result.packings.values():
        operator.infer(types[value])


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
    check_reasons(model, result, [".+"])


@pytest.mark.parametrize(("name", "floats"), [("residual", []), ("pre_activation", ["probability"]), ("dense", [])])
def test_networks_are_one_program_between_two_cpu_segments(name: str, floats: list[str]) -> None:
    """The CPU quantizes and packs the image, and turns the result into floating point."""
    result = partition(quantize(NETWORKS[name]()), DEFAULT_CONFIG)
    assert sides(result) == ["cpu", "vta", "cpu"]
    assert result.fallbacks == tuple(Fallback(layer, "it works on floating point") for layer in floats)


def test_without_programs_across_layers_each_layer_is_one() -> None:
    model = quantize(NETWORKS["residual"]())
    together, apart = partition(model, DEFAULT_CONFIG), partition(model, DEFAULT_CONFIG, across_layers=False)
    assert sides(apart) == ["cpu", *["vta"] * len(layers(together)), "cpu"]
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


def test_nothing_is_offloaded_where_the_cpu_is_to_compute() -> None:
    model = convolution(IntegerConvolution((1, 1), (1, 1, 1, 1), shift=8))
    parts = partition(model, DEFAULT_CONFIG, offload="none")
    (step,) = parts.steps
    assert isinstance(step, CpuStep) and parts.packings == {}
    assert [node.name for node in step.segment.nodes] == [node.name for node in model.nodes]
