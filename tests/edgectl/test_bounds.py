"""Lower bounds, reckoned by hand, by brute force, and against what the compiler reaches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.vta.config import DEFAULT_CONFIG, Config
from edgectl.bounds import Bound, layer_bounds, network_bound
from edgectl.building import Build, build
from edgectl.graph import Model, Node
from edgectl.operators.base import Operator, TensorType
from edgectl.operators.integer import IntegerAdd, IntegerConvolution, IntegerDense
from tests.edgectl.quantization.networks import NETWORKS

CONVOLUTION = IntegerConvolution(padding=(1, 1, 1, 1), shift=5)


def model(nodes: list[Node], shape: tuple[int, ...], **parameters: np.ndarray) -> Model:
    return Model("net", {"x": TensorType(shape, "int8")}, tuple(nodes), parameters, (nodes[-1].name,))


def weights(*shape: int) -> np.ndarray:
    return np.ones(shape, np.int8)


def bias(channels: int) -> np.ndarray:
    return np.zeros(channels, np.int32)


def single(operator: Operator, shape: tuple[int, ...], weight: np.ndarray, config: Config = DEFAULT_CONFIG) -> Bound:
    net = model([Node("layer", operator, ("x", "w", "b"))], shape, w=weight, b=bias(len(weight)))
    return layer_bounds(net, ["layer"], config)["layer"]


def test_a_convolution() -> None:
    """3x3 on 4x4 pixels: along an axis, 12 pairs of output and tap, 2 of them padding."""
    bound = single(CONVOLUTION, (1, 16, 4, 4), weights(32, 16, 3, 3))
    assert bound == Bound(
        macs=32 * 16 * 10 * 10, gemm=200, alu=3 * 32, weight_bytes=4608, input_bytes=256, output_bytes=512
    )
    assert bound.nbytes == 5376
    assert bound.compute_cycles == 200 + 2 * 96
    assert (bound.bus_cycles(8), bound.bus_cycles(16)) == (672, 336)
    assert (bound.cycles(8), bound.cycles(16)) == (672, 392)


def test_batch_and_other_blocks() -> None:
    once = single(CONVOLUTION, (1, 16, 4, 4), weights(32, 16, 3, 3))
    twice = single(CONVOLUTION, (2, 16, 4, 4), weights(32, 16, 3, 3))
    assert (twice.macs, twice.alu, twice.input_bytes) == (2 * once.macs, 2 * once.alu, 2 * once.input_bytes)
    assert twice.weight_bytes == once.weight_bytes
    rows = single(CONVOLUTION, (4, 16, 4, 4), weights(32, 16, 3, 3), Config.parse("4x8_i8w8a32_15_16_16_18"))
    assert (rows.gemm, rows.alu) == (4 * once.macs // (4 * 8 * 8), 3 * 4 * 512 // (4 * 8))


def test_a_stride_skips_pixels() -> None:
    bound = single(IntegerConvolution(strides=(2, 2), shift=1), (1, 16, 8, 7), weights(16, 16, 1, 1))
    assert bound.input_bytes == 16 * 4 * 4
    assert bound.macs == 16 * 16 * 4 * 4


def test_a_shift_by_nothing_is_no_operation() -> None:
    assert single(replace(CONVOLUTION, shift=0), (1, 16, 4, 4), weights(16, 16, 3, 3)).alu == 2 * 16


def test_groups() -> None:
    bound = single(replace(CONVOLUTION, groups=16), (1, 16, 4, 4), weights(16, 1, 3, 3))
    assert (bound.macs, bound.gemm, bound.weight_bytes) == (16 * 100, 7, 144)


def test_a_dense_layer() -> None:
    bound = single(IntegerDense(), (3, 40), weights(10, 40))
    assert bound == Bound(macs=1200, gemm=5, weight_bytes=400, input_bytes=120, output_bytes=120)


@given(
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    padding=st.tuples(*[st.integers(0, 2)] * 4),
)
def test_taps_and_pixels_that_count(
    size: tuple[int, int],
    kernel: tuple[int, int],
    strides: tuple[int, int],
    dilation: tuple[int, int],
    padding: tuple[int, int, int, int],
) -> None:
    """As an image of ones and a kernel of ones tell: sums count taps; pixels that matter change some output."""
    operator = IntegerConvolution(strides, padding, dilation, shift=1)
    extents = [
        (size[axis] + padding[axis] + padding[axis + 2] - dilation[axis] * (kernel[axis] - 1) - 1) // strides[axis] + 1
        for axis in (0, 1)
    ]
    if min(extents) < 1:
        return
    weight = weights(1, 1, *kernel)
    bound = single(operator, (1, 1, *size), weight)
    assert bound.macs == operator.accumulate(np.ones((1, 1, *size), np.int8), weight, bias(1)).sum()
    pixels = np.eye(size[0] * size[1], dtype=np.int8).reshape(-1, 1, *size)
    assert bound.input_bytes == np.count_nonzero(operator.accumulate(pixels, weight, bias(1)).any(axis=(1, 2, 3)))


def residual_model(other_reader: bool) -> Model:
    parameters = {"w": weights(16, 16, 3, 3), "b": bias(16)}
    nodes = [
        Node("a", CONVOLUTION, ("x", "w", "b")),
        Node("b1", CONVOLUTION, ("x", "w", "b")),
        Node("c", CONVOLUTION, ("b1", "w", "b", "a")),
    ]
    if other_reader:
        nodes.append(Node("d", IntegerAdd(0, 0, 1), ("a", "c")))
    return model(nodes, (1, 16, 4, 4), **parameters)


def test_a_residual_that_nothing_else_reads_needs_no_dram() -> None:
    net = residual_model(other_reader=False)
    layers = layer_bounds(net, ["a", "b1", "c"], DEFAULT_CONFIG)
    assert layers["c"].residual_bytes == layers["a"].output_bytes == 256
    total = network_bound(net, layers)
    summed = layers["a"] + layers["b1"] + layers["c"]
    assert total == replace(summed, residual_bytes=0, output_bytes=2 * 256)
    read_twice = residual_model(other_reader=True)
    assert network_bound(read_twice, layer_bounds(read_twice, ["a", "b1", "c"], DEFAULT_CONFIG)) == summed
    assert network_bound(net, {"a": layers["a"]}) == layers["a"]


def test_other_layers_and_unknown_names() -> None:
    net = residual_model(other_reader=True)
    bounds = layer_bounds(net, ["d", "nothing"], DEFAULT_CONFIG)
    assert bounds == {"d": Bound(alu=3 * 16, input_bytes=512, output_bytes=256)}
    assert Bound.from_dict(bounds["d"].as_dict()) == bounds["d"]


def check_bounds_hold(built: Build) -> None:
    """No compiled layer, and no network, does less than its bound says it must."""
    bounds = built.manifest["bounds"]
    assert list(bounds["layers"]) == built.manifest["layers"]["vta"]
    network = Bound.from_dict(bounds["network"])
    counters = built.counters
    assert network.gemm <= counters.gemm_counter and network.alu <= counters.alu_counter
    assert network.weight_bytes <= counters.wgt_load_nbytes and network.output_bytes <= counters.out_store_nbytes
    assert network.input_bytes + network.residual_bytes <= counters.inp_load_nbytes
    assert network.cycles(8) <= built.manifest["predicted"]["vta_cycles"]


@pytest.mark.parametrize("name", list(NETWORKS))
def test_bounds_hold(name: str) -> None:
    check_bounds_hold(build(NETWORKS[name]()))
