"""Concatenations along the channels: parts are stored side by side; what lies elsewhere is copied."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.vta.config import DEFAULT_CONFIG
from edgectl.codegen.partition import AcceleratorStep, Partition
from edgectl.operators.integer import IntegerAdd, IntegerConvolution, IntegerWindowSum
from edgectl.operators.pooling import MaxPool
from edgectl.operators.quantization import Requantize
from edgectl.operators.shape import Concatenate
from tests.edgectl.codegen.offload.integer_models import CONFIGS, SEEDS, ModelBuilder, examples
from tests.edgectl.codegen.offload.running import check

Case = tuple[ModelBuilder, tuple[str, ...]]
"""A network and the values that are its outputs."""
SAME = IntegerConvolution(padding=(1, 1, 1, 1), shift=9)


@st.composite
def concatenated(draw: st.DrawFn) -> Case:
    """A graph of convolutions, pools and concatenations, nested, of values of either processor, any an output."""
    net = ModelBuilder(draw(SEEDS), draw(st.sampled_from(CONFIGS)), draw(st.integers(1, 2)))
    size = (draw(st.integers(2, 6)), draw(st.integers(2, 6)))
    block = net.config.block
    values = [net.input(block * draw(st.integers(1, 2)), *size)]
    values.append(net.convolution(SAME, values[0], block, (3, 3)))
    for _ in range(draw(st.integers(2, 6))):
        kinds = ["convolution", "pool", "concatenate", "concatenate", "input", "depthwise", "add"]
        kind = draw(st.sampled_from(kinds))
        x = draw(st.sampled_from(values))
        if kind == "convolution":
            channels = draw(st.sampled_from([block, 2 * block, 3 * block, 5, block + 1, 2 * block + 7]))
            values.append(net.convolution(SAME, x, channels, (3, 3)))
        elif kind == "pool":
            values.append(net.add(MaxPool((3, 3), (1, 1), (1, 1, 1, 1)), x))
        elif kind == "input":
            values.append(net.input(draw(st.sampled_from([block, 3, block + 2])), *size))
        elif kind == "depthwise":
            operator = replace(SAME, groups=net.shape(x)[1], shift=6)
            values.append(net.convolution(operator, x, net.shape(x)[1], (3, 3)))
        elif kind == "add":
            y = draw(st.sampled_from(net.alike(x, values)))
            values.append(net.convolution(SAME, x, net.shape(x)[1], (3, 3), residual=y))
        else:
            parts = draw(st.lists(st.sampled_from(values), min_size=1, max_size=4))
            if draw(st.booleans()):
                parts.append(net.convolution(SAME, x, draw(st.integers(1, block)), (3, 3)))
                net.add(Concatenate(), *parts)
                values.append(net.convolution(SAME, net.last, block, (3, 3)))
            else:
                values.append(net.add(Concatenate(), *parts))
    outputs = [net.last, *draw(st.lists(st.sampled_from(net.computed), max_size=2))]
    return net, tuple(dict.fromkeys(outputs))


ON_CPU = "its parts come from the CPU"


@given(concatenated())
@examples(60)
def test_any_graph_of_concatenations(case: Case) -> None:
    net, outputs = case
    check(net.model(*outputs), net.values, net.config, reasons=[ON_CPU])


@given(concatenated())
@examples(15)
def test_boards_whose_programs_are_one_layer(case: Case) -> None:
    net, outputs = case
    check(
        net.model(*outputs),
        net.values,
        net.config,
        across_layers=False,
        reasons=["on this board a program is one layer"],
    )


@given(concatenated(), SEEDS)
@examples(3)
def test_concatenations_under_any_interleaving(case: Case, seed: int) -> None:
    net, outputs = case
    check(net.model(*outputs), net.values, net.config, reasons=[ON_CPU], interleavings=[seed])


def layers(parts: Partition) -> list[tuple[str, str, int]]:
    """(name, tensor it is stored to, first channel) of every layer."""
    return [
        (layer.name, layer.out.name, layer.out.first_channel)
        for step in parts.steps
        if isinstance(step, AcceleratorStep)
        for layer in step.layers
    ]


def test_parts_are_stored_where_they_belong_and_nothing_is_copied() -> None:
    net = ModelBuilder(0, DEFAULT_CONFIG)
    x = net.input(16, 5, 5)
    a, b, c = (net.convolution(SAME, x, channels, (3, 3)) for channels in (32, 16, 20))
    inner = net.add(Concatenate(), a, b)
    parts = check(net.model(net.add(Concatenate(), inner, c)), net.values, net.config)
    assert layers(parts) == [("n0", "n4.packed", 0), ("n1", "n4.packed", 32), ("n2", "n4.packed", 48)]


def test_a_part_that_is_read_elsewhere_is_read_in_its_place() -> None:
    net = ModelBuilder(0, DEFAULT_CONFIG)
    x = net.input(16, 5, 5)
    a, b = (net.convolution(SAME, x, 16, (3, 3)) for _ in range(2))
    whole = net.add(Concatenate(), a, b)
    y = net.convolution(SAME, b, 16, (3, 3), residual=a)
    parts = check(net.model(net.convolution(SAME, whole, 16, (3, 3), residual=y)), net.values, net.config)
    assert layers(parts)[:2] == [("n0", "n2.packed", 0), ("n1", "n2.packed", 16)]
    assert len(layers(parts)) == 4


def test_what_is_in_two_places_is_copied_to_the_second() -> None:
    """The same part twice, and a part that is the model's output."""
    net = ModelBuilder(0, DEFAULT_CONFIG)
    x = net.input(16, 5, 5)
    a, b = (net.convolution(SAME, x, 16, (3, 3)) for _ in range(2))
    parts = check(net.model(net.add(Concatenate(), a, b, a), b), net.values, net.config)
    assert layers(parts) == [
        ("n0", "n2.packed", 0),
        ("n1", "n1.packed", 0),
        ("n2", "n2.packed", 16),
        ("n2", "n2.packed", 32),
    ]


def test_a_part_of_the_cpu_is_copied_too() -> None:
    net = ModelBuilder(0, DEFAULT_CONFIG)
    x = net.input(16, 5, 5)
    parts = check(net.model(net.add(Concatenate(), x, net.convolution(SAME, x, 8, (3, 3)))), net.values, net.config)
    assert layers(parts) == [("n0", "n1.packed", 16), ("n1", "n1.packed", 0)]


SPREAD = [("n0", "n3.packed.parts", 0), ("n1", "n3.packed.parts", 32), ("n2", "n3.packed.parts", 48)]
"""Parts of 20, 7 and 33 channels, each from a block of its own on."""


def spread(net: ModelBuilder) -> str:
    x = net.input(16, 5, 5)
    return net.add(Concatenate(), *(net.convolution(SAME, x, channels, (3, 3)) for channels in (20, 7, 33)))


def test_parts_that_do_not_fill_their_blocks_are_read_as_they_lie() -> None:
    """By convolutions, whose weights skip the gaps: nothing is copied."""
    net = ModelBuilder(0, DEFAULT_CONFIG)
    whole = spread(net)
    y, z = net.convolution(SAME, whole, 24, (3, 3)), net.convolution(SAME, whole, 5, (3, 3))
    parts = check(net.model(net.add(Concatenate(), y, z)), net.values, net.config, interleavings=[0])
    assert layers(parts)[:5] == [*SPREAD, ("n4", "n6.packed.parts", 0), ("n5", "n6.packed.parts", 32)]
    assert layers(parts)[5:] == [("n6", "n6.packed", 0)]


def test_what_cannot_skip_gaps_reads_a_copy_without_them() -> None:
    """A pool has no weights; a convolution of the same value still reads it as it lies."""
    net = ModelBuilder(0, DEFAULT_CONFIG)
    whole = spread(net)
    pooled = net.add(MaxPool((3, 3), (1, 1), (1, 1, 1, 1)), whole)
    parts = check(net.model(net.convolution(SAME, whole, 60, (3, 3), residual=pooled)), net.values, net.config)
    assert layers(parts)[:4] == [*SPREAD, ("n3", "n3.packed", 0)]
    (step,) = (step for step in parts.steps if isinstance(step, AcceleratorStep))
    assert [layer.x.name for layer in step.layers[4:]] == ["n3.packed", "n3.packed.parts"]


def test_a_part_may_be_such_a_concatenation() -> None:
    net = ModelBuilder(0, DEFAULT_CONFIG)
    whole = spread(net)
    outer = net.add(Concatenate(), whole, net.convolution(SAME, net.add(Requantize(1), "x0"), 9, (3, 3)))
    parts = check(net.model(net.convolution(SAME, outer, 8, (3, 3))), net.values, net.config)
    assert set(layers(parts)) >= {*SPREAD, ("n3", "n6.packed.parts", 0), ("n5", "n6.packed.parts", 64)}


def rows(net: ModelBuilder) -> str:
    x = net.input(16, 5, 5)
    return net.add(Concatenate(2), x, net.convolution(SAME, x, 16, (3, 3)))


def all_on_cpu(net: ModelBuilder) -> str:
    return net.add(Concatenate(), net.input(16, 5, 5), net.input(16, 5, 5))


def wide(net: ModelBuilder) -> str:
    sums = net.add(IntegerWindowSum((2, 2)), net.input(16, 5, 5))
    return net.add(Concatenate(), sums, sums)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (rows, "it is not along the channels"),
        (all_on_cpu, ON_CPU),
        (wide, "it works on int32"),
    ],
)
def test_concatenations_that_fall_back(make, reason: str) -> None:  # type: ignore[no-untyped-def]
    net = ModelBuilder(4, DEFAULT_CONFIG)
    parts = check(net.model(make(net)), net.values, net.config, reasons=[reason])
    assert [fallback.reason for fallback in parts.fallbacks] == [reason]


def test_readers_of_a_concatenation() -> None:
    """A pool, an add and a requantization on a whole whose parts lie in it."""
    net = ModelBuilder(8, DEFAULT_CONFIG)
    x = net.input(16, 6, 6)
    whole = net.add(Concatenate(), *(net.convolution(SAME, x, channels, (3, 3)) for channels in (16, 24)))
    pooled = net.add(MaxPool((2, 2), (1, 1), (0, 0, 1, 1)), whole)
    y = net.add(IntegerAdd(0, 1, 1), pooled, net.add(Requantize(1), whole))
    check(net.model(y), net.values, net.config)
