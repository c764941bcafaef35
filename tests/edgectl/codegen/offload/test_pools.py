"""Pools and sums run on the accelerator, alone or within the layer before them, and equal the interpreter."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.vta.config import DEFAULT_CONFIG
from edgectl.operators.integer import IntegerConvolution, IntegerPoolSum, IntegerWindowSum
from edgectl.operators.pooling import MaxPool
from edgectl.operators.quantization import Requantize
from edgectl.operators.shape import Flatten
from tests.edgectl.codegen.offload.integer_models import (
    CONFIGS,
    HIGHS,
    LOWS,
    SEEDS,
    ModelBuilder,
    examples,
    image_sizes,
    largest_shift,
    pairs,
    requantizes,
    windows,
)
from tests.edgectl.codegen.offload.running import check

Pool = tuple[MaxPool, tuple[int, int]]
NETS = st.builds(ModelBuilder, SEEDS, st.sampled_from(CONFIGS), st.integers(1, 2))
NOTHING_COMMON = "its windows have no place in common that is inside the image"


@st.composite
def max_pools(draw: st.DrawFn, largest: int = 20) -> Pool:
    """A pool with padding narrower than its kernel, and the size of its image."""
    kernel = draw(pairs(1, 5))
    top, left, bottom, right = (draw(st.integers(0, extent - 1)) for extent in (*kernel, *kernel))
    size = draw(image_sizes(kernel, (1, 1), (top, left, bottom, right), largest))
    return MaxPool(kernel, draw(pairs(1, 4)), (top, left, bottom, right)), size


def reasons(pool: MaxPool, size: tuple[int, ...]) -> list[str]:
    """Why the accelerator cannot pool an image of `size`: windows at opposite borders may see no tap in common."""
    for axis in (0, 1):
        kernel, stride, before, after = (
            pool.kernel[axis],
            pool.strides[axis],
            pool.padding[axis],
            pool.padding[axis + 2],
        )
        begins = range(-before, size[axis] + after - kernel + 1, stride)
        if not any(all(0 <= begin + tap < size[axis] for begin in begins) for tap in range(kernel)):
            return [NOTHING_COMMON]
    return []


def check_pools(net: ModelBuilder, pool: MaxPool, size: tuple[int, ...], *outputs: str) -> None:
    """All nodes of the model run on the accelerator, but for pools that it cannot do."""
    expected = reasons(pool, size)
    parts = check(net.model(*outputs), net.values, net.config, reasons=expected)
    assert bool(parts.fallbacks) == bool(expected)


@given(NETS, st.integers(1, 40), max_pools())
@examples(30)
def test_max_pools_alone(net: ModelBuilder, channels: int, pool: Pool) -> None:
    operator, size = pool
    check_pools(net, operator, size, net.add(operator, net.input(channels, *size)))


@st.composite
def pooled_convolutions(draw: st.DrawFn, largest: int) -> tuple[ModelBuilder, MaxPool, str, str]:
    """(network, pool, convolution, what pools it): few or many channels, any shift, clips that leave zero inside."""
    net = draw(NETS)
    pool, size = draw(max_pools(largest))
    kernel = draw(pairs(1, 4))
    operator = IntegerConvolution(
        padding=(kernel[0] - 1, kernel[1] - 1, 0, 0),
        shift=draw(st.integers(-2, 15)),
        low=draw(LOWS),
        high=draw(HIGHS),
    )
    x = net.input(draw(st.integers(1, 40)), *size)
    y = net.convolution(operator, x, draw(st.integers(1, 40)), kernel)
    return net, pool, y, net.add(pool, y)


@given(pooled_convolutions(20), st.booleans())
@examples(30)
def test_max_pools_after_convolutions(case: tuple[ModelBuilder, MaxPool, str, str], read_elsewhere: bool) -> None:
    """Inside the convolution's layer, unless something else reads the convolution too."""
    net, pool, convolution, pooled = case
    check_pools(net, pool, net.shape(convolution)[2:], pooled, *[convolution] * read_elsewhere)


@given(pooled_convolutions(6), SEEDS)
@examples(4)
def test_max_pools_under_any_interleaving(case: tuple[ModelBuilder, MaxPool, str, str], seed: int) -> None:
    net, _, _, pooled = case
    check(net.model(pooled), net.values, net.config, reasons=[NOTHING_COMMON], interleavings=[seed])


def test_a_pool_is_part_of_the_convolution_before_it() -> None:
    net = ModelBuilder(2, DEFAULT_CONFIG)
    x = net.convolution(IntegerConvolution(padding=(1, 1, 1, 1), shift=9), net.input(16, 8, 8), 20, (3, 3))
    parts = check(net.model(net.add(MaxPool((3, 3), (2, 2), (1, 1, 1, 1)), x)), net.values, net.config)
    (layer,) = parts.steps[1].layers  # type: ignore[union-attr]
    assert (layer.name, layer.covers) == ("n1", ("n0", "n1"))


def test_a_pool_after_a_residual_is_a_layer_of_its_own() -> None:
    net = ModelBuilder(2, DEFAULT_CONFIG)
    x = net.input(16, 8, 8)
    y = net.convolution(IntegerConvolution(padding=(1, 1, 1, 1), shift=9), x, 16, (3, 3), residual=x)
    parts = check(net.model(net.add(MaxPool((2, 2), (2, 2)), y)), net.values, net.config)
    assert [layer.covers for layer in parts.steps[1].layers] == [("n0",), ("n1",)]  # type: ignore[union-attr]


@given(NETS, st.integers(1, 50), pairs(1, 9), st.none() | requantizes(), st.booleans())
@examples(20)
def test_global_sums(
    net: ModelBuilder, channels: int, size: tuple[int, int], narrow: Requantize | None, flatten: bool
) -> None:
    """As int32 or narrowed at once, and a dense layer on them."""
    y = net.add(IntegerPoolSum(), net.input(channels, *size))
    if narrow is not None and narrow.shift <= largest_shift(net.config):
        y = net.add(narrow, y)
        if flatten:
            y = net.dense(net.add(Flatten(), y), 12)
    check(net.model(y), net.values, net.config)


@given(NETS, st.integers(1, 40), windows(5, 4, 5, 1, 20), st.none() | requantizes())
@examples(25)
def test_window_sums(
    net: ModelBuilder, channels: int, window: tuple[tuple[int, int], ...], narrow: Requantize | None
) -> None:
    """Average pools whose divisor is in the scale: any window, perhaps in the padding alone."""
    kernel, strides, padding, _, size = window
    y = net.add(IntegerWindowSum(kernel, strides, padding), net.input(channels, *size))  # type: ignore[arg-type]
    if narrow is not None and narrow.shift <= largest_shift(net.config):
        y = net.add(narrow, y)
    check(net.model(y), net.values, net.config)


@given(NETS, st.integers(17, 40), max_pools(12), st.integers(1, 3))
@examples(15)
def test_shift_and_clip_between_convolution_and_pool(net: ModelBuilder, channels: int, pool: Pool, shift: int) -> None:
    operator, size = pool
    x = net.convolution(IntegerConvolution(shift=8), net.input(16, *size), channels, (1, 1))
    between = net.add(Requantize(shift, -20, 30), x)
    check_pools(net, operator, size, net.add(operator, between))
