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
from edgectl.operators.integer import IntegerConvolution, IntegerDense, IntegerWindowSum
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
    lanes = config.batch * config.block
    needed: _Needed = (None, None)
    for node in reversed(nodes[1:]):
        if windows := _windows(node.operator, types[node.inputs[0]], ()):
            needed = _pixels(windows, needed)
    bound = _KINDS.get(type(first.operator), _elementwise)(first, operands, needed, lanes)
    alu = _vectors(prod(out.shape), lanes) * sum(_tail_operations(node) for node in nodes)
    for node in nodes:
        if isinstance(node.operator, MaxPool):
            alu += _vectors(_comparisons(node.operator, types[node.inputs[0]]), lanes)
    return bound + Bound(gemm=_vectors(bound.macs, lanes * config.block), alu=alu, output_bytes=_nbytes(out))


@dataclass(frozen=True)
class _Window:
    """What an operator does along one axis of `extent` pixels. `padding` is before and after."""

    extent: int
    kernel: int
    stride: int
    padding: tuple[int, int]
    dilation: int = 1

    @property
    def outputs(self) -> int:
        return window_output(self.extent, self.kernel, self.stride, *self.padding, self.dilation)

    def met(self, outputs: np.ndarray | None) -> np.ma.MaskedArray:
        """The pixel that each pair of one of `outputs` (None: all) and a tap meets, (outputs, taps); padding masked."""
        chosen = np.arange(self.outputs) if outputs is None else outputs
        pixels = chosen[:, None] * self.stride + np.arange(self.kernel) * self.dilation - self.padding[0]
        return np.ma.masked_outside(pixels, 0, self.extent - 1)


_Windows = tuple[_Window, _Window]
_Needed = tuple[np.ndarray | None, np.ndarray | None]
"""The rows and columns of a value that are looked at; None: all."""


def _windows(operator: Any, x: TensorType, kernel: Sequence[int]) -> _Windows | None:
    """Along rows and columns; None for an operator without windows. `kernel` is a convolution's."""
    if not isinstance(operator, IntegerConvolution | IntegerWindowSum | MaxPool):
        return None
    top, left, bottom, right = operator.padding
    sizes = kernel or operator.kernel  # type: ignore[union-attr]
    dilation = getattr(operator, "dilation", (1, 1))
    rows, columns = (
        _Window(x.shape[2 + axis], sizes[axis], operator.strides[axis], padding, dilation[axis])
        for axis, padding in enumerate(((top, bottom), (left, right)))
    )
    return rows, columns


def _pixels(windows: _Windows, needed: _Needed) -> tuple[np.ndarray, np.ndarray]:
    """The rows and columns of its input that an operator looks at, for the `needed` ones of its output."""
    rows, columns = (
        np.unique(window.met(outputs).compressed()) for window, outputs in zip(windows, needed, strict=True)
    )
    return rows, columns


def _vectors(values: int, lanes: int) -> int:
    return -(-values // lanes)


def _comparisons(pool: MaxPool, x: TensorType) -> int:
    """Maxima of two values that a pool takes, along the rows first and then along the columns."""
    windows = _windows(pool, x, ())
    assert windows is not None
    (rows, columns), (touched, _) = windows, _pixels(windows, (None, None))
    in_rows, in_columns = (int(window.met(None).count()) - window.outputs for window in (rows, columns))
    return x.shape[0] * x.shape[1] * (in_columns * len(touched) + in_rows * columns.outputs)


def _tail_operations(node: Node) -> int:
    """ALU operations on each vector of output: a shift unless it is by nothing, and two limits."""
    operator = node.operator
    return (1 if getattr(operator, "shift", 0) else 0) + sum(hasattr(operator, limit) for limit in ("low", "high"))


def _nbytes(kind: TensorType) -> int:
    return prod(kind.shape) * np.dtype(kind.dtype).itemsize


def _convolution(node: Node, operands: Sequence[TensorType], needed: _Needed, lanes: int) -> Bound:
    """Weights count whose tap meets a pixel. A residual is brought into the accumulators by products."""
    x, weight, _, *residual = operands
    out_channels, group_channels, *kernel = weight.shape
    windows = _windows(node.operator, x, kernel)
    assert windows is not None
    met = [window.met(outputs) for window, outputs in zip(windows, needed, strict=True)]
    filters = out_channels * group_channels
    touched = [len(pixels) for pixels in _pixels(windows, needed)]
    return Bound(
        macs=x.shape[0] * filters * prod(int(pixels.count()) for pixels in met),
        gemm=sum(_vectors(prod(kind.shape), lanes) for kind in residual),
        weight_bytes=filters * prod(int(pixels.count(axis=0).astype(bool).sum()) for pixels in met),
        input_bytes=x.shape[0] * x.shape[1] * prod(touched),
        residual_bytes=sum(map(_nbytes, residual)),
    )


def _dense(node: Node, operands: Sequence[TensorType], needed: _Needed, lanes: int) -> Bound:
    x, weight, _ = operands
    return Bound(macs=x.shape[0] * prod(weight.shape), weight_bytes=_nbytes(weight), input_bytes=_nbytes(x))


def _elementwise(node: Node, operands: Sequence[TensorType], needed: _Needed, lanes: int) -> Bound:
    """Any other operator: the activations it reads, once, brought into the accumulators by products."""
    sizes = [_nbytes(kind) for kind in operands if kind.dtype == "int8"]
    if windows := _windows(node.operator, operands[0], ()):
        touched = [len(pixels) for pixels in _pixels(windows, needed)]
        sizes = [operands[0].shape[0] * operands[0].shape[1] * prod(touched)]
    return Bound(gemm=sum(_vectors(size, lanes) for size in sizes), input_bytes=sum(sizes))


_KINDS: dict[type, Callable[[Node, Sequence[TensorType], _Needed, int], Bound]] = {
    IntegerConvolution: _convolution,
    IntegerDense: _dense,
}
