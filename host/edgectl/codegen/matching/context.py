"""What the matching rules share: the model, and how its values look to the accelerator."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from edge_agent.vta.config import Config
from edgectl.codegen.vta.layers import Activation, Layer
from edgectl.codegen.vta.problem import problem_of
from edgectl.codegen.vta.search import fits
from edgectl.graph import Model, Node
from edgectl.operators.base import Operator, TensorType
from edgectl.operators.layout import Pack
from edgectl.operators.planes import SplitPlanes
from edgectl.operators.quantization import Requantize
from edgectl.operators.shape import Flatten, Reshape

MAXIMUM_SHIFT = 30
"""Two right shifts of 15."""
MAXIMUM_LEFT_SHIFT = 15
MAXIMUM_BIAS_BLOCKS = 16
"""Biases beyond about 3.8 million, which no network has, are left to the CPU."""
MAXIMUM_STRIDE = (1 << 16) - 1
"""Strides and sizes are 16-bit fields of LOAD and STORE."""
PACKED = ".packed"


def packed(value: str) -> str:
    """The name of `value` in the packed layout."""
    return value + PACKED


class Refusal(Exception):
    """Why a node stays on the CPU. A rule raises it, `match` catches it."""


def refuse_unless(condition: bool, reason: str) -> None:
    if not condition:
        raise Refusal(reason)


@dataclass(frozen=True)
class Candidate:
    """A layer that the accelerator can compute. `reads` are the model's values behind its x and its residual.

    `packing` makes the layer's x of the value it reads. Without a layer it is a concatenation of `reads`.
    """

    name: str
    covers: tuple[str, ...]
    reads: tuple[str, ...]
    packing: Operator
    layer: Layer | None


@dataclass(frozen=True)
class Context:
    """A model whose integer layers are to be divided. `on_accelerator` grows as rules match."""

    model: Model
    config: Config
    on_accelerator: set[str] = field(default_factory=set)

    @cached_property
    def types(self) -> dict[str, TensorType]:
        return self.model.types()

    @cached_property
    def producers(self) -> dict[str, Node]:
        return self.model.producers()

    @cached_property
    def _consumers(self) -> dict[str, list[Node]]:
        return self.model.consumers()

    @property
    def pack(self) -> Pack:
        return Pack(self.config.batch, self.config.block)

    def constant(self, name: str, what: str = "weights") -> np.ndarray:
        """A parameter's array. Raises Refusal on any other value."""
        refuse_unless(name in self.model.parameters, f"its {what} are not constant")
        return np.asarray(self.model.parameters[name])

    def reader(self, value: str, kind: type[Operator]) -> Node | None:
        """The node of `kind` that alone reads `value`, None if there is another reader or `value` is an output."""
        readers = self._consumers[value]
        alone = len(readers) == 1 and value not in self.model.outputs
        return readers[0] if alone and isinstance(readers[0].operator, kind) else None

    def source(self, value: str) -> str:
        """The value that `value` is, seen through reshapes of single pixels, which the packed layout does not have."""
        while value in self.producers:
            node = self.producers[value]
            shapes = self.types[node.inputs[0]].shape, self.types[value].shape
            flat = [(*shape, 1, 1)[:4] for shape in shapes if len(shape) in (2, 4)]
            same = len(flat) == 2 and flat[0] == flat[1] and flat[0][2:] == (1, 1)
            if not (same and isinstance(node.operator, Flatten | Reshape)):
                break
            value = node.inputs[0]
        return value

    def extents(self, value: str) -> tuple[int, int, int, int]:
        """(N, C, H, W) of a value of two or four dimensions. Raises Refusal where the accelerator cannot hold it."""
        shape, config = self.types[value].shape, self.config
        refuse_unless(len(shape) in (2, 4), f"it has {len(shape)} dimensions")
        n, c, h, w = shape if len(shape) == 4 else (*shape, 1, 1)
        refuse_unless(n % config.batch == 0, f"its batch of {n} does not divide by {config.batch}")
        refuse_unless(w <= MAXIMUM_STRIDE // 8, f"its rows are {w} elements wide, up to {MAXIMUM_STRIDE // 8} work")
        return n, c, h, w

    def activation(self, value: str) -> Activation:
        """`value` as a packed tensor."""
        n, c, h, w = self.extents(value)
        return Activation(packed(value), n // self.config.batch, c, h, w)

    def packing(self, value: str) -> Operator:
        """What makes the packed form of `value`: int32 lies in planes."""
        wide = self.types[value].dtype == "int32"
        return SplitPlanes(self.config.batch, self.config.block) if wide else self.pack

    def narrowed(self, node: Node) -> tuple[str, tuple[str, ...], dict[str, object]]:
        """An int32 result's (name, nodes, tail): narrowed at once where a Requantize alone reads it, else wide."""
        after = self.reader(node.name, Requantize)
        if after is None:
            return node.name, (node.name,), {"wide": True}
        operator = after.operator
        assert isinstance(operator, Requantize)
        tail: dict[str, object] = {"shift": operator.shift, "low": operator.low, "high": operator.high}
        return after.name, (node.name, after.name), tail

    def accepted(self, layer: Layer, reads: tuple[str, ...], packing: Operator | None = None) -> Candidate:
        """`layer` as a candidate. Raises Refusal where its numbers or sizes are beyond the accelerator's."""
        block = self.config.block
        refuse_unless(
            -MAXIMUM_LEFT_SHIFT <= layer.shift <= MAXIMUM_SHIFT,
            f"its shift is {layer.shift}, the hardware does {-MAXIMUM_LEFT_SHIFT} to {MAXIMUM_SHIFT}",
        )
        if layer.low is not None and layer.high is not None:
            refuse_unless(
                layer.low <= 0 <= layer.high or layer.out.channels % block == 0,
                f"its clip [{layer.low}, {layer.high}] would fill the padding of {layer.out.channels} channels",
            )
        problem = problem_of(layer, self.config)
        refuse_unless(
            problem.bias_blocks <= MAXIMUM_BIAS_BLOCKS,
            f"its largest bias needs {problem.bias_blocks} bias blocks, at most {MAXIMUM_BIAS_BLOCKS} are used",
        )
        apart = problem.row_spacing * layer.x.width
        refuse_unless(
            apart <= MAXIMUM_STRIDE, f"rows that it reads are {apart} elements apart, up to {MAXIMUM_STRIDE} work"
        )
        weights = problem.ins * problem.taps
        refuse_unless(
            problem.shared or weights <= MAXIMUM_STRIDE,
            f"an output has {weights} blocks of weights, up to {MAXIMUM_STRIDE} work",
        )
        refuse_unless(fits(problem, self.config), "no tile of it fits the buffers")
        return Candidate(layer.name, layer.covers, reads, packing or self.pack, layer)
