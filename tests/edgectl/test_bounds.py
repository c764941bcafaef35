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
from edgectl.codegen.partition import OFFLOADS
from edgectl.graph import Model, Node
from edgectl.operators.base import Operator, TensorType
from edgectl.operators.integer import IntegerAdd, IntegerConvolution, IntegerDense, IntegerPoolSum, IntegerWindowSum
from edgectl.operators.pooling import MaxPool
from edgectl.operators.quantization import Requantize
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
    return layer_bounds(net, {"layer": ["layer"]}, config)["layer"]


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


EACH = {name: [name] for name in ("a", "b1", "c")}
"""Each node is a layer of its own."""


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
    layers = layer_bounds(net, EACH, DEFAULT_CONFIG)
    assert layers["c"].residual_bytes == layers["a"].output_bytes == 256
    total = network_bound(net, layers)
    summed = layers["a"] + layers["b1"] + layers["c"]
    assert total == replace(summed, residual_bytes=0, output_bytes=2 * 256)
    read_twice = residual_model(other_reader=True)
    assert network_bound(read_twice, layer_bounds(read_twice, EACH, DEFAULT_CONFIG)) == summed
    assert network_bound(net, {"a": layers["a"]}) == layers["a"]


def test_an_elementwise_layer_brings_its_operands_into_the_accumulators() -> None:
    net = residual_model(other_reader=True)
    bounds = layer_bounds(net, {"d": ["d"]}, DEFAULT_CONFIG)
    assert bounds == {"d": Bound(gemm=2 * 16, alu=3 * 16, input_bytes=512, output_bytes=256)}
    assert Bound.from_dict(bounds["d"].as_dict()) == bounds["d"]
    residual = layer_bounds(net, EACH, DEFAULT_CONFIG)
    assert residual["c"].gemm == residual["b1"].gemm + 16


def chain(nodes: list[Node], shape: tuple[int, ...], **parameters: np.ndarray) -> Bound:
    """The bound of all nodes as one layer."""
    net = model(nodes, shape, **parameters)
    return layer_bounds(net, {nodes[-1].name: [node.name for node in nodes]}, DEFAULT_CONFIG)[nodes[-1].name]


def test_a_pool_within_its_convolution_leaves_less_to_shift_and_store() -> None:
    """2x2 of stride 2 on 4x4: along the columns 2 maxima in each of 4 rows, along the rows 2 in each of 2 columns."""
    nodes = [Node("conv", CONVOLUTION, ("x", "w", "b")), Node("pool", MaxPool((2, 2), (2, 2)), ("conv",))]
    bound = chain(nodes, (1, 16, 4, 4), w=weights(16, 16, 3, 3), b=bias(16))
    assert bound == Bound(
        macs=16 * 16 * 10 * 10, gemm=100, alu=3 * 4 + 12, weight_bytes=2304, input_bytes=256, output_bytes=64
    )
    alone = chain([Node("pool", MaxPool((2, 2), (2, 2)), ("x",))], (1, 16, 4, 4))
    assert alone == Bound(gemm=16, alu=12, input_bytes=256, output_bytes=64)


def test_what_no_window_looks_at_is_not_needed() -> None:
    """2x2 of stride 2 on 5x5: the last row and column do not count, nor what a convolution would make there."""
    pool = MaxPool((2, 2), (2, 2))
    alone = chain([Node("pool", pool, ("x",))], (1, 16, 5, 5))
    assert (alone.gemm, alone.alu, alone.input_bytes) == (16, 12, 16 * 16)
    total = chain([Node("sum", IntegerWindowSum((1, 1), (3, 3)), ("x",))], (1, 16, 5, 5))
    assert (total.gemm, total.input_bytes) == (4, 4 * 16)
    nodes = [Node("conv", CONVOLUTION, ("x", "w", "b")), Node("pool", pool, ("conv",))]
    fused = chain(nodes, (1, 16, 5, 5), w=weights(16, 16, 3, 3), b=bias(16))
    # Of 15 pairs of output and tap along an axis, 2 of them padding, the last output has 2.
    assert (fused.macs, fused.alu, fused.input_bytes) == (16 * 16 * 11 * 11, 3 * 4 + 12, 16 * 25)
    skipped = replace(CONVOLUTION, strides=(2, 2), padding=(0, 0, 0, 0))
    nodes = [Node("conv", skipped, ("x", "w", "b")), Node("pool", MaxPool((1, 1), (2, 2)), ("conv",))]
    assert chain(nodes, (1, 16, 5, 5), w=weights(16, 16, 1, 1), b=bias(16)).input_bytes == 16 * 4


def test_weights_that_meet_padding_alone_are_not_needed() -> None:
    """3x3 on a single row: the taps above and below see nothing."""
    bound = single(CONVOLUTION, (1, 16, 1, 4), weights(32, 16, 3, 3))
    assert (bound.macs, bound.weight_bytes) == (32 * 16 * 1 * 10, 32 * 16 * 3)


def test_what_is_narrowed_at_once_is_never_stored_as_int32() -> None:
    dense = [Node("fc", IntegerDense(), ("x", "w", "b")), Node("narrow", Requantize(4), ("fc",))]
    bound = chain(dense, (3, 40), w=weights(10, 40), b=bias(10))
    assert bound == Bound(macs=1200, gemm=5, alu=2 * 3, weight_bytes=400, input_bytes=120, output_bytes=30)
    total = [Node("sum", IntegerPoolSum(), ("x",)), Node("narrow", Requantize(0), ("sum",))]
    assert chain(total, (1, 16, 4, 4)) == Bound(gemm=16, alu=2, input_bytes=256, output_bytes=16)
    assert chain(total[:1], (1, 16, 4, 4)) == Bound(gemm=16, input_bytes=256, output_bytes=64)


@given(st.data())
def test_maxima_of_a_pool(data: st.DataObject) -> None:
    """Counted one by one: of two pixels in a row, wherever the pool looks; then of two such maxima in a column."""
    kernel, strides = (data.draw(st.tuples(st.integers(1, 4), st.integers(1, 4))) for _ in range(2))
    top, left, bottom, right = (data.draw(st.integers(0, extent - 1)) for extent in (*kernel, *kernel))
    size = [
        data.draw(st.integers(max(1, k - before - after), 12))
        for k, before, after in zip(kernel, (top, left), (bottom, right), strict=True)
    ]

    def seen(axis: int, before: int, after: int) -> list[set[int]]:
        begins = range(-before, size[axis] + after - kernel[axis] + 1, strides[axis])
        return [{begin + tap for tap in range(kernel[axis])} & {*range(size[axis])} for begin in begins]

    rows, columns = seen(0, top, bottom), seen(1, left, right)
    maxima = len(set().union(*rows)) * sum(len(window) - 1 for window in columns)
    maxima += len(columns) * sum(len(window) - 1 for window in rows)
    pool = MaxPool(kernel, strides, (top, left, bottom, right))
    assert chain([Node("pool", pool, ("x",))], (1, 16, *size)).alu == maxima


def check_bounds_hold(built: Build) -> None:
    """No compiled layer, and no network, does less than its bound says it must."""
    bounds = built.manifest["bounds"]
    # Copies into a concatenation are layers that no bound asks for.
    assert list(bounds["layers"]) == [name for name in built.manifest["layers"]["vta"] if name in bounds["layers"]]
    network = Bound.from_dict(bounds["network"])
    counters = built.counters
    assert network.gemm <= counters.gemm_counter and network.alu <= counters.alu_counter
    assert network.weight_bytes <= counters.wgt_load_nbytes and network.output_bytes <= counters.out_store_nbytes
    assert network.input_bytes + network.residual_bytes <= counters.inp_load_nbytes
    assert network.cycles(8) <= built.manifest["predicted"]["vta_cycles"]


@pytest.mark.parametrize("offload", OFFLOADS)
@pytest.mark.parametrize("name", list(NETWORKS))
def test_bounds_hold(name: str, offload: str) -> None:
    check_bounds_hold(build(NETWORKS[name](), offload=offload))
