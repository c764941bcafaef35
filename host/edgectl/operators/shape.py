"""Operators that move values without changing them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgectl.operators.base import Operator, Padding, TensorType, require
from edgectl.operators.windows import pad


@dataclass(frozen=True)
class Flatten(Operator):
    """(N, ...) -> (N, product)."""

    kind = "flatten"

    def infer(self, x: TensorType) -> TensorType:  # type: ignore[override]
        return TensorType((x.shape[0], int(np.prod(x.shape[1:], dtype=np.int64))), x.dtype)

    def evaluate(self, x: np.ndarray) -> np.ndarray:  # type: ignore[override]
        return x.reshape(x.shape[0], -1)


@dataclass(frozen=True)
class Reshape(Operator):
    """(N, ...) -> (N, *shape): the batch stays."""

    kind = "reshape"
    shape: tuple[int, ...]

    def infer(self, x: TensorType) -> TensorType:  # type: ignore[override]
        require(np.prod(x.shape[1:]) == np.prod(self.shape), f"{x} does not reshape to {self.shape} per sample")
        return TensorType((x.shape[0], *self.shape), x.dtype)

    def evaluate(self, x: np.ndarray) -> np.ndarray:  # type: ignore[override]
        return x.reshape(x.shape[0], *self.shape)


@dataclass(frozen=True)
class Transpose(Operator):
    """Axes in a new order; axis 0, the batch, stays first."""

    kind = "transpose"
    axes: tuple[int, ...]

    def infer(self, x: TensorType) -> TensorType:  # type: ignore[override]
        require(sorted(self.axes) == list(range(len(x.shape))), f"{self.axes} is not an order of the axes of {x}")
        require(self.axes[0] == 0, f"transpose {self.axes} moves the batch axis")
        return TensorType(tuple(x.shape[axis] for axis in self.axes), x.dtype)

    def evaluate(self, x: np.ndarray) -> np.ndarray:  # type: ignore[override]
        return np.ascontiguousarray(x.transpose(self.axes))


@dataclass(frozen=True)
class Concatenate(Operator):
    """Tensors joined along `axis` (not the batch)."""

    kind = "concatenate"
    axis: int = 1

    def infer(self, *inputs: TensorType) -> TensorType:
        first = inputs[0]
        require(self.axis != 0, "concatenate along the batch axis")
        for other in inputs[1:]:
            same = len(other.shape) == len(first.shape) and other.dtype == first.dtype
            same = same and all(other.shape[i] == first.shape[i] for i in range(len(first.shape)) if i != self.axis)
            require(same, f"cannot concatenate {first} and {other} along axis {self.axis}")
        shape = list(first.shape)
        shape[self.axis] = sum(x.shape[self.axis] for x in inputs)
        return TensorType(tuple(shape), first.dtype)

    def evaluate(self, *inputs: np.ndarray) -> np.ndarray:
        return np.concatenate(inputs, axis=self.axis)


@dataclass(frozen=True)
class Slice(Operator):
    """Elements start, start + step, ... before `stop` along `axis` (not the batch)."""

    kind = "slice"
    axis: int
    start: int
    stop: int
    step: int = 1

    def infer(self, x: TensorType) -> TensorType:  # type: ignore[override]
        require(0 < self.axis < len(x.shape), f"slice along axis {self.axis} of {x}")
        extent = x.shape[self.axis]
        inside = 0 <= self.start < self.stop <= extent and self.step > 0
        require(inside, f"slice {self.start}:{self.stop}:{self.step} of {extent} elements")
        count = len(range(self.start, self.stop, self.step))
        return TensorType((*x.shape[: self.axis], count, *x.shape[self.axis + 1 :]), x.dtype)

    def evaluate(self, x: np.ndarray) -> np.ndarray:  # type: ignore[override]
        index = (slice(None),) * self.axis + (slice(self.start, self.stop, self.step),)
        return np.ascontiguousarray(x[index])


@dataclass(frozen=True)
class Upsample(Operator):
    """Each pixel of (N, C, H, W) `scale` times: (rows, columns)."""

    kind = "upsample"
    scale: tuple[int, int]

    def infer(self, x: TensorType) -> TensorType:  # type: ignore[override]
        require(len(x.shape) == 4, f"upsample needs an NCHW input, got {x}")
        require(min(self.scale) > 0, f"upsample by {self.scale}: give at least 1")
        return TensorType((*x.shape[:2], x.shape[2] * self.scale[0], x.shape[3] * self.scale[1]), x.dtype)

    def evaluate(self, x: np.ndarray) -> np.ndarray:  # type: ignore[override]
        return x.repeat(self.scale[0], axis=2).repeat(self.scale[1], axis=3)


@dataclass(frozen=True)
class Pad(Operator):
    """Constant padding of the two spatial axes of (N, C, H, W)."""

    kind = "pad"
    padding: Padding
    value: float = 0.0

    def infer(self, x: TensorType) -> TensorType:  # type: ignore[override]
        require(len(x.shape) == 4, f"pad needs an NCHW input, got {x}")
        top, left, bottom, right = self.padding
        return TensorType((*x.shape[:2], x.shape[2] + top + bottom, x.shape[3] + left + right), x.dtype)

    def evaluate(self, x: np.ndarray) -> np.ndarray:  # type: ignore[override]
        return pad(x, self.padding, self.value)
