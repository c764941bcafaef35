"""What an operator is: attributes, a type rule and a NumPy evaluation that defines its result."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np

from edgectl.errors import ModelError


@dataclass(frozen=True)
class TensorType:
    """Shape and NumPy dtype name of a tensor. Images are NCHW."""

    shape: tuple[int, ...]
    dtype: str = "float32"

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize

    def __str__(self) -> str:
        return f"{self.dtype}{list(self.shape)}"


class Operator(ABC):
    """Base of all operators: frozen dataclasses whose fields are their attributes.

    `infer` checks the inputs and gives the output's type (raises ModelError); `evaluate` computes it. Operators
    treat the first dimension as the batch, so a graph evaluates on any batch size whatever its declared one.
    """

    kind: ClassVar[str]

    @abstractmethod
    def infer(self, *inputs: TensorType) -> TensorType: ...

    @abstractmethod
    def evaluate(self, *inputs: np.ndarray) -> np.ndarray: ...

    def attributes(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]


def require(condition: bool, message: str) -> None:
    """Raise ModelError with `message` unless `condition` holds."""
    if not condition:
        raise ModelError(message)


def broadcast_shape(what: str, a: TensorType, b: TensorType) -> tuple[int, ...]:
    """The shape that NumPy's broadcasting gives. Raises ModelError where there is none."""
    try:
        return tuple(np.broadcast_shapes(a.shape, b.shape))
    except ValueError:
        raise ModelError(f"{what} of {a} and {b}: the shapes do not fit") from None


Padding = tuple[int, int, int, int]
"""Zero padding in pixels: top, left, bottom, right."""


def window_output(size: int, kernel: int, stride: int, before: int, after: int, dilation: int = 1) -> int:
    """Output extent of a sliding window along one axis (floor convention)."""
    return (size + before + after - dilation * (kernel - 1) - 1) // stride + 1


def window_type(
    x: TensorType,
    channels: int,
    kernel: tuple[int, int],
    strides: tuple[int, int],
    padding: Padding,
    dilation: tuple[int, int],
    dtype: str,
    what: str,
) -> TensorType:
    """Type of a convolution's or pooling's output; raises ModelError where the window does not fit."""
    require(len(x.shape) == 4, f"{what} needs an NCHW input, got {x}")
    require(
        min(kernel) > 0 and min(strides) > 0 and min(dilation) > 0 and min(padding) >= 0,
        f"{what} with kernel {kernel}, strides {strides}, padding {padding}, dilation {dilation} is no window",
    )
    top, left, bottom, right = padding
    height = window_output(x.shape[2], kernel[0], strides[0], top, bottom, dilation[0])
    width = window_output(x.shape[3], kernel[1], strides[1], left, right, dilation[1])
    require(height > 0 and width > 0, f"{what} with kernel {kernel} does not fit into {x} padded by {padding}")
    return TensorType((x.shape[0], channels, height, width), dtype)
