"""VTA programs of convolutions compute exactly what IntegerConvolution.evaluate does, whatever the shape."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.vta.config import DEFAULT_CONFIG, Config
from edge_agent.vta.program import Program
from edge_agent.vta.simulator import Simulation
from edge_agent.vta.verify import verify
from edgectl.codegen.vta.compiler import compile_program
from edgectl.codegen.vta.layers import Activation, Layer
from edgectl.codegen.vta.packing import pack_weight
from edgectl.operators.base import window_output
from edgectl.operators.integer import IntegerConvolution
from edgectl.operators.layout import Pack, Unpack
from tests.edge_agent.vta.reference import ReferenceMachine

FEATURES = frozenset({"program_across_layers"})
SMALL = Config.parse("4x8_i8w8a32_15_16_16_18")


class Case:
    """A random layer, its inputs, and what it must compute."""

    def __init__(
        self,
        seed: int,
        operator: IntegerConvolution,
        channels: tuple[int, int],
        size: tuple[int, int],
        kernel: tuple[int, int],
        residual: bool,
        samples: int,
        config: Config,
    ) -> None:
        rng = np.random.default_rng(seed)
        self.config, self.operator = config, operator
        top, left, bottom, right = operator.padding
        height = window_output(size[0], kernel[0], operator.strides[0], top, bottom, operator.dilation[0])
        width = window_output(size[1], kernel[1], operator.strides[1], left, right, operator.dilation[1])
        batch = samples * config.batch

        def tensor(*shape: int) -> np.ndarray:
            return rng.integers(-128, 128, shape, dtype=np.int8)

        self.x = tensor(batch, channels[0], *size)
        self.weight = tensor(channels[1], channels[0], *kernel)
        self.bias = rng.integers(-100_000, 100_000, channels[1], dtype=np.int32)
        self.residual = tensor(batch, channels[1], height, width) if residual else None
        self.layer = Layer(
            name="layer",
            kernel=kernel,
            x=Activation("x", samples, channels[0], *size),
            out=Activation("out", samples, channels[1], height, width),
            residual=Activation("residual", samples, channels[1], height, width) if residual else None,
            weight=pack_weight(self.weight, 1, 1, config.block),
            bias=self.bias,
            strides=operator.strides,
            padding=operator.padding,
            dilation=operator.dilation,
            shift=operator.shift,
            low=operator.low,
            high=operator.high,
            residual_shift=operator.residual_shift,
        )

    def expected(self) -> np.ndarray:
        return self.operator.evaluate(
            self.x, self.weight, self.bias, *([] if self.residual is None else [self.residual])
        )

    def program(self) -> Program:
        return compile_program("test", [self.layer], ["out"], self.config)

    def inputs(self) -> dict[str, np.ndarray]:
        pack = Pack(self.config.batch, self.config.block)
        inputs = {"x": pack.evaluate(self.x)}
        if self.residual is not None:
            inputs["residual"] = pack.evaluate(self.residual)
        return inputs

    def unpacked(self, out: np.ndarray) -> np.ndarray:
        return Unpack(len(self.bias)).evaluate(out)


def simulate(program: Program, inputs: dict[str, np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    outputs = {"out": np.zeros(shape, np.int8)}
    Simulation(verify(program, FEATURES)).run(inputs, outputs)
    return outputs["out"]


def packed_shape(program: Program) -> tuple[int, ...]:
    (shape,) = (tensor.shape for tensor in program.tensors if tensor.name == "out")
    return shape


@st.composite
def cases(draw: st.DrawFn, largest: int = 20, config: Config | None = None) -> Case:
    kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    padding = draw(st.tuples(*(st.integers(0, max(0, k - 1)) for k in (kernel[0], kernel[1]) * 2)))
    dilation = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    smallest = [
        max(1, (k - 1) * d + 1 - min(p, q))
        for k, d, p, q in zip(kernel, dilation, padding[:2], padding[2:], strict=True)
    ]
    size = draw(st.tuples(*(st.integers(low, max(low, largest)) for low in smallest)))
    low = draw(st.sampled_from([0, -127]))
    operator = IntegerConvolution(
        strides=draw(st.tuples(st.integers(1, 3), st.integers(1, 3))),
        padding=padding,
        dilation=dilation,
        shift=draw(st.integers(-2, 15)),
        low=low,
        high=draw(st.sampled_from([127, 60])),
        residual_shift=draw(st.integers(-3, 10)),
    )
    channels = draw(st.tuples(st.integers(1, 70), st.integers(1, 70)))
    return Case(
        draw(st.integers(0, 2**32)),
        operator,
        channels,
        size,
        kernel,
        draw(st.booleans()),
        draw(st.integers(1, 2)),
        config or draw(st.sampled_from([DEFAULT_CONFIG, SMALL])),
    )


@given(cases())
@settings(max_examples=40)
def test_any_convolution_equals_the_integer_operator(case: Case) -> None:
    program = case.program()
    out = simulate(program, case.inputs(), packed_shape(program))
    np.testing.assert_array_equal(case.unpacked(out), case.expected())


@given(cases(largest=5, config=DEFAULT_CONFIG), st.integers(0, 100))
@settings(max_examples=5)
def test_the_order_in_which_modules_run_does_not_matter(case: Case, seed: int) -> None:
    program = case.program()
    outputs = ReferenceMachine(program, seed).run(case.inputs())
    np.testing.assert_array_equal(case.unpacked(outputs["out"]), case.expected())


LARGE = [
    ((64, 64), (56, 56), (3, 3), (1, 1), 1, True),
    ((64, 128), (56, 56), (3, 3), (2, 2), 1, False),
    ((64, 128), (56, 56), (1, 1), (2, 2), 0, False),
    ((512, 512), (7, 7), (3, 3), (1, 1), 1, True),
    ((1024, 256), (14, 14), (1, 1), (1, 1), 0, False),
    ((16, 16), (112, 112), (3, 3), (1, 1), 1, False),
    ((32, 16), (9, 300), (7, 7), (1, 1), 3, False),
]


@pytest.mark.parametrize(("channels", "size", "kernel", "strides", "pad", "residual"), LARGE)
def test_layers_larger_than_the_buffers(
    channels: tuple[int, int],
    size: tuple[int, int],
    kernel: tuple[int, int],
    strides: tuple[int, int],
    pad: int,
    residual: bool,
) -> None:
    operator = IntegerConvolution(strides=strides, padding=(pad,) * 4, shift=12, low=0, residual_shift=9)
    case = Case(1, operator, channels, size, kernel, residual, 1, DEFAULT_CONFIG)
    program = case.program()
    out = simulate(program, case.inputs(), packed_shape(program))
    np.testing.assert_array_equal(case.unpacked(out), case.expected())


def test_padding_rows_are_not_multiplied() -> None:
    operator = IntegerConvolution(padding=(1, 1, 1, 1), shift=8)
    case = Case(0, operator, (16, 16), (8, 8), (3, 3), False, 1, DEFAULT_CONFIG)
    # Along each axis 3 * 8 pairs of a tap and a pixel, less the two that meet padding; and one for the bias.
    assert case.program().counters.gemm_counter == 22 * 22 + 64


def test_weights_are_loaded_once_where_they_fit() -> None:
    operator = IntegerConvolution(padding=(1, 1, 1, 1), shift=8)
    counters = Case(0, operator, (32, 32), (8, 8), (3, 3), False, 1, DEFAULT_CONFIG).program().counters
    assert counters.wgt_load_nbytes == 32 * 32 * 9 + 2 * 16 * 16
    assert counters.out_store_nbytes == 32 * 64
