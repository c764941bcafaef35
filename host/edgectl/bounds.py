"""Lower bounds of what layers move and compute on VTA, whatever the schedule: docs/vta-compiler.md, "Lower bounds"."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import prod
from typing import Any

import numpy as np

from edge_agent.vta.config import Config
from edge_agent.vta.timing import ALU_CYCLES, GEMM_CYCLES
from edgectl.graph import Model, Node
from edgectl.operators.base import TensorType, window_output
from edgectl.operators.integer import IntegerConvolution, IntegerDense
from edgectl.operators.pooling import MaxPool

RESIDUAL = 3
"""The operand of an IntegerConvolution that is its residual."""


@dataclass(frozen=True)
class Bound:
    """The least that a layer, or a network, needs for one inference.

    `macs` multiply-accumulates that are no padding; `gemm` and `alu` operations of VTA; bytes from and to DRAM, each
    tensor once: `weight_bytes`, `input_bytes`, `residual_bytes`, `output_bytes`.
    """

    macs: int = 0
    gemm: int = 0
    alu: int = 0
    weight_bytes: int = 0
    input_bytes: int = 0
    residual_bytes: int = 0
    output_bytes: int = 0

    def __add__(self, other: Bound) -> Bound:
        return Bound(**{name: value + getattr(other, name) for name, value in asdict(self).items()})

    @property
    def nbytes(self) -> int:
        return self.weight_bytes + self.input_bytes + self.residual_bytes + self.output_bytes

    @property
    def compute_cycles(self) -> int:
        """GEMM and ALU share one module: their operations add up."""
        return GEMM_CYCLES * self.gemm + ALU_CYCLES * self.alu

    def bus_cycles(self, bus_bytes: int) -> int:
        return -(-self.nbytes // bus_bytes)

    def cycles(self, bus_bytes: int) -> int:
        """Compute and transfers overlapped completely. Of a sum of layers: overlapped across layers, too."""
        return max(self.compute_cycles, self.bus_cycles(bus_bytes))

    def as_dict(self) -> dict[str, int]:
        return asdict(self)

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Bound:
        return cls(**{name: int(document[name]) for name in asdict(cls())})


def layer_bounds(model: Model, layers: Mapping[str, Sequence[str]], config: Config) -> dict[str, Bound]:
    """The bound of each of `layers`: names of the nodes of an integer `model` that one layer computes, in order."""
    types, producers = model.types(), model.producers()
    return {name: _chain([producers[node] for node in nodes], types, config) for name, nodes in layers.items()}


def network_bound(model: Model, layers: Mapping[str, Bound]) -> Bound:
    """The bound of all `layers` of an integer `model` together: their sum, but for residuals that need no DRAM.

    A layer's output that is one other layer's residual and nothing else can stay in ACC, where that layer continues.
    `layers` are named for the last of their nodes.
    """
    total = sum(layers.values(), Bound())
    consumers = model.consumers()
    for name in layers:
        readers = consumers[name]
        inside = len(readers) == 1 and name not in model.outputs and readers[0].name in layers
        if not inside or not _residual_reader(readers[0], name):
            continue
        kept = layers[name].output_bytes
        total += Bound(output_bytes=-kept, residual_bytes=-kept)
    return total


def _residual_reader(node: Node, value: str) -> bool:
    return isinstance(node.operator, IntegerConvolution) and value not in node.inputs[:RESIDUAL]


def _chain(nodes: Sequence[Node], types: Mapping[str, TensorType], config: Config) -> Bound:
    """The bound of nodes that are computed together: only what enters the first and leaves the last is moved."""
    first, out = nodes[0], types[nodes[-1].name]
    operands = [types[name] for name in first.inputs]
    bound = _KINDS.get(type(first.operator), _elementwise)(first, operands)
    lanes = config.batch * config.block
    alu = -(-prod(out.shape) // lanes) * sum(_tail_operations(node) for node in nodes)
    for node in nodes:
        if isinstance(node.operator, MaxPool):
            alu += -(-_comparisons(node.operator, types[node.inputs[0]]) // lanes)
    return Bound(
        **{
            **bound.as_dict(),
            "gemm": -(-bound.macs // (lanes * config.block)) + _entering(first, operands, lanes),
            "alu": alu,
            "output_bytes": _nbytes(out),
        }
    )


def _entering(node: Node, operands: Sequence[TensorType], lanes: int) -> int:
    """Products that bring int8 vectors into accumulators: of residuals, and of all that other operators read."""
    if isinstance(node.operator, IntegerDense):
        return 0
    brought = operands[RESIDUAL:] if isinstance(node.operator, IntegerConvolution) else operands
    return sum(-(-prod(kind.shape) // lanes) for kind in brought if kind.dtype == "int8")


def _comparisons(pool: MaxPool, x: TensorType) -> int:
    """Maxima of two values that a pool takes, along the rows first and then along the columns."""
    samples, channels, *extents = x.shape
    (rows, touched), (columns, _) = (
        _axis(extents[axis], pool.kernel[axis], pool.strides[axis], (pool.padding[axis], pool.padding[axis + 2]), 1)
        for axis in range(2)
    )
    out_rows, out_columns = (
        window_output(extents[axis], pool.kernel[axis], pool.strides[axis], pool.padding[axis], pool.padding[axis + 2])
        for axis in range(2)
    )
    return samples * channels * ((columns - out_columns) * touched + (rows - out_rows) * out_columns)


def _tail_operations(node: Node) -> int:
    """ALU operations on each vector of output: a shift unless it is by nothing, and two limits."""
    operator = node.operator
    return (1 if getattr(operator, "shift", 0) else 0) + sum(hasattr(operator, limit) for limit in ("low", "high"))


def _nbytes(kind: TensorType) -> int:
    return prod(kind.shape) * np.dtype(kind.dtype).itemsize


def _convolution(node: Node, operands: Sequence[TensorType]) -> Bound:
    operator = node.operator
    assert isinstance(operator, IntegerConvolution)
    x, weight, _, *residual = operands
    samples, channels, *extents = x.shape
    out_channels, group_channels, *kernel = weight.shape
    top, left, bottom, right = operator.padding
    meetings, touched = zip(
        *(
            _axis(extents[axis], kernel[axis], operator.strides[axis], pads, operator.dilation[axis])
            for axis, pads in enumerate(((top, bottom), (left, right)))
        ),
        strict=True,
    )
    return Bound(
        macs=samples * out_channels * group_channels * prod(meetings),
        weight_bytes=_nbytes(weight),
        input_bytes=samples * channels * prod(touched),
        residual_bytes=sum(map(_nbytes, residual)),
    )


def _axis(extent: int, kernel: int, stride: int, padding: tuple[int, int], dilation: int) -> tuple[int, int]:
    """Along one axis: pairs of an output and a tap that meet a pixel of the input, and how many pixels are met."""
    outputs = (extent + sum(padding) - dilation * (kernel - 1) - 1) // stride + 1
    pixels = np.arange(outputs)[:, None] * stride + np.arange(kernel) * dilation - padding[0]
    inside = pixels[(pixels >= 0) & (pixels < extent)]
    return len(inside), len(np.unique(inside))


def _dense(node: Node, operands: Sequence[TensorType]) -> Bound:
    x, weight, _ = operands
    return Bound(macs=x.shape[0] * prod(weight.shape), weight_bytes=_nbytes(weight), input_bytes=_nbytes(x))


def _elementwise(node: Node, operands: Sequence[TensorType]) -> Bound:
    """Any other operator: the activations it reads, once."""
    activations = [kind for kind in operands if kind.dtype == "int8"]
    return Bound(input_bytes=sum(map(_nbytes, activations)))


_KINDS: dict[type, Callable[[Node, Sequence[TensorType]], Bound]] = {
    IntegerConvolution: _convolution,
    IntegerDense: _dense,
}
