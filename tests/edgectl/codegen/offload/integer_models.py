"""Random integer Models: a builder whose parameters are seeded, and strategies for what they are made of."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from edge_agent.vta.config import DEFAULT_CONFIG, Config
from edgectl.graph import Model, Node
from edgectl.operators.base import Operator, Padding, TensorType, window_output
from edgectl.operators.integer import IntegerConvolution, IntegerDense
from edgectl.operators.quantization import Requantize

BATCHED = Config.parse("4x8_i8w8a32_15_16_16_18")
TIGHT = Config.parse("1x16_i8w8a32_12_13_16_15")
"""An eighth of the default's accumulators, a quarter of its inputs and weights: more tiles."""
CONFIGS = (DEFAULT_CONFIG, BATCHED, TIGHT)

SEEDS = st.integers(0, 2**32)
LOWS, HIGHS = st.sampled_from([-127, 0, -128, -5]), st.sampled_from([127, 60, 0])


def examples(count: int) -> settings:
    """Settings for `count` examples, times EDGECTL_TEST_EXAMPLES where a longer search is wanted."""
    return settings(max_examples=count * int(os.environ.get("EDGECTL_TEST_EXAMPLES", "1")))


def largest_shift(config: Config) -> int:
    """Half a unit of the result is part of the bias, and small blocks hold smaller ones."""
    return 22 if config.block >= 16 else 20


class ModelBuilder:
    """Adds nodes one by one. Parameters and input values are seeded; `config` decides the batch."""

    def __init__(self, seed: int, config: Config, samples: int = 1) -> None:
        self.rng = np.random.default_rng(seed)
        self.config = config
        self.batch = samples * config.batch
        self.values: dict[str, np.ndarray] = {}
        self._types: dict[str, TensorType] = {}
        self._inputs: dict[str, TensorType] = {}
        self._nodes: list[Node] = []
        self._parameters: dict[str, np.ndarray] = {}

    def integers(self, *shape: int) -> np.ndarray:
        return self.rng.integers(-128, 128, shape, dtype=np.int8)

    def input(self, *shape: int) -> str:
        """An int8 input (batch, *shape)."""
        name = f"x{len(self._inputs)}"
        self.values[name] = self.integers(self.batch, *shape)
        self._inputs[name] = self._types[name] = TensorType((self.batch, *shape), "int8")
        return name

    def parameter(self, array: np.ndarray) -> str:
        name = f"p{len(self._parameters)}"
        self._parameters[name] = array
        self._types[name] = TensorType(array.shape, str(array.dtype))
        return name

    def add(self, operator: Operator, *inputs: str) -> str:
        name = f"n{len(self._nodes)}"
        self._types[name] = operator.infer(*(self._types[value] for value in inputs))
        self._nodes.append(Node(name, operator, inputs, f"{operator.kind}.{name}"))
        return name

    @property
    def computed(self) -> list[str]:
        """The values of all nodes."""
        return [node.name for node in self._nodes]

    @property
    def last(self) -> str:
        return self.computed[-1]

    def shape(self, value: str) -> tuple[int, ...]:
        return self._types[value].shape

    def alike(self, value: str, values: Sequence[str]) -> list[str]:
        """Those of `values` that have the type of `value`."""
        return [other for other in values if self._types[other] == self._types[value]]

    def convolution(
        self, operator: IntegerConvolution, x: str, channels: int, kernel: tuple[int, int], residual: str | None = None
    ) -> str:
        weight = self.parameter(self.integers(channels, self.shape(x)[1] // operator.groups, *kernel))
        bias = self.parameter(self.rng.integers(-50_000, 50_000, channels, dtype=np.int32))
        return self.add(operator, x, weight, bias, *([] if residual is None else [residual]))

    def dense(self, x: str, channels: int) -> str:
        weight = self.parameter(self.integers(channels, self.shape(x)[1]))
        return self.add(IntegerDense(), x, weight, self.parameter(self.rng.integers(-9999, 9999, channels, np.int32)))

    def model(self, *outputs: str) -> Model:
        """The nodes that `outputs` need."""
        return Model("net", self._inputs, (), {}, ()).rebuilt(self._nodes, self._parameters, outputs)


def requantizes() -> st.SearchStrategy[Requantize]:
    return st.builds(Requantize, shift=st.integers(0, 22), low=LOWS, high=HIGHS)


def pairs(low: int, high: int) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.integers(low, high), st.integers(low, high))


def image_sizes(
    kernel: Sequence[int], dilation: Sequence[int], padding: Padding, largest: int
) -> st.SearchStrategy[tuple[int, int]]:
    """(H, W) up to `largest` that the padded window fits into, perhaps smaller than the window itself."""
    smallest = [
        max(1, (k - 1) * d + 1 - before - after)
        for k, d, before, after in zip(kernel, dilation, padding[:2], padding[2:], strict=True)
    ]
    return st.tuples(*(st.integers(low, max(low, largest)) for low in smallest))


def paddings(largest: int) -> st.SearchStrategy[Padding]:
    return st.tuples(*[st.integers(0, largest)] * 4)


@st.composite
def windows(
    draw: st.DrawFn, kernels: int, strides: int, padding: int, dilation: int = 1, largest: int = 16
) -> tuple[tuple[int, int], tuple[int, int], Padding, tuple[int, int], tuple[int, int]]:
    """(kernel, strides, padding, dilation, image size), each up to its limit; the window fits."""
    kernel = draw(pairs(1, kernels))
    dilations = draw(pairs(1, dilation))
    pads = draw(paddings(padding))
    return kernel, draw(pairs(1, strides)), pads, dilations, draw(image_sizes(kernel, dilations, pads, largest))


def sees_an_image(size: tuple[int, int], kernel: tuple[int, int], strides: tuple[int, int], padding: Padding) -> bool:
    """Whether every window of an undilated pool has a pixel of the image."""
    for axis in (0, 1):
        before, after = padding[axis], padding[axis + 2]
        last = (window_output(size[axis], kernel[axis], strides[axis], before, after) - 1) * strides[axis] - before
        if kernel[axis] <= before or last >= size[axis]:
            return False
    return True
