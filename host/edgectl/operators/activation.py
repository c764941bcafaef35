"""Elementwise functions of one tensor."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edgectl.operators.base import Operator, TensorType, require

_ERF_ARGUMENTS = np.linspace(-6, 6, 1 << 16)
_ERF_VALUES = np.array([math.erf(value) for value in _ERF_ARGUMENTS.tolist()])
"""Dense enough that straight lines between them differ from erf by 5e-9, a tenth of float32's steps near 1."""


class Activation(Operator):
    """An elementwise function: the output has the input's type."""

    def infer(self, x: TensorType) -> TensorType:  # type: ignore[override]
        return x


@dataclass(frozen=True)
class Relu(Activation):
    """max(x, 0)."""

    kind = "relu"

    def evaluate(self, x: np.ndarray) -> np.ndarray:  # type: ignore[override]
        return np.maximum(x, 0)


@dataclass(frozen=True)
class Clip(Activation):
    """min(max(x, low), high)."""

    kind = "clip"
    low: float
    high: float

    def evaluate(self, x: np.ndarray) -> np.ndarray:  # type: ignore[override]
        return np.clip(x, x.dtype.type(self.low), x.dtype.type(self.high))


@dataclass(frozen=True)
class LeakyRelu(Activation):
    """x where positive, slope * x elsewhere."""

    kind = "leaky_relu"
    slope: float = 0.25

    def evaluate(self, x: np.ndarray) -> np.ndarray:  # type: ignore[override]
        return np.where(x > 0, x, x * x.dtype.type(self.slope))


@dataclass(frozen=True)
class Sigmoid(Activation):
    """1 / (1 + exp(-x))."""

    kind = "sigmoid"

    def evaluate(self, x: np.ndarray) -> np.ndarray:  # type: ignore[override]
        return (0.5 * (np.tanh(0.5 * x) + 1)).astype(x.dtype)


@dataclass(frozen=True)
class Tanh(Activation):
    """tanh(x)."""

    kind = "tanh"

    def evaluate(self, x: np.ndarray) -> np.ndarray:  # type: ignore[override]
        return np.tanh(x)


@dataclass(frozen=True)
class Erf(Activation):
    """The error function, 2 / sqrt(pi) times the integral of exp(-t * t) from 0 to x. NumPy has none."""

    kind = "erf"

    def evaluate(self, x: np.ndarray) -> np.ndarray:  # type: ignore[override]
        return np.interp(x, _ERF_ARGUMENTS, _ERF_VALUES).astype(x.dtype)


@dataclass(frozen=True)
class Softmax(Activation):
    """exp(x) normalised to sum 1 along `axis`."""

    kind = "softmax"
    axis: int = -1

    def infer(self, x: TensorType) -> TensorType:  # type: ignore[override]
        rank = len(x.shape)
        require(-rank <= self.axis < rank and self.axis % rank != 0, f"softmax over axis {self.axis} of {x}")
        return x

    def evaluate(self, x: np.ndarray) -> np.ndarray:  # type: ignore[override]
        exponentials = np.exp(x - x.max(axis=self.axis, keepdims=True))
        return exponentials / exponentials.sum(axis=self.axis, keepdims=True)
