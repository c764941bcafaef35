"""Elementwise operators of two tensors, with NumPy's broadcasting, and of a tensor and a constant."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgectl.operators.base import Operator, TensorType, broadcast_shape, require

BINARY_FUNCTIONS = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "divide": np.divide,
    "maximum": np.maximum,
    "minimum": np.minimum,
}


@dataclass(frozen=True)
class Binary(Operator):
    """`function` of two tensors: add, subtract, multiply, divide, maximum, minimum."""

    kind = "binary"
    function: str

    def infer(self, a: TensorType, b: TensorType) -> TensorType:  # type: ignore[override]
        require(self.function in BINARY_FUNCTIONS, f"unknown elementwise function '{self.function}'")
        require(a.dtype == b.dtype, f"{self.function} needs one dtype, got {a} and {b}")
        return TensorType(broadcast_shape(self.function, a, b), a.dtype)

    def evaluate(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:  # type: ignore[override]
        return BINARY_FUNCTIONS[self.function](a, b)


@dataclass(frozen=True)
class Scalar(Operator):
    """`function` of a tensor and `value`; `reverse` computes function(value, x)."""

    kind = "scalar"
    function: str
    value: float
    reverse: bool = False

    def infer(self, x: TensorType) -> TensorType:  # type: ignore[override]
        require(self.function in BINARY_FUNCTIONS, f"unknown elementwise function '{self.function}'")
        return x

    def evaluate(self, x: np.ndarray) -> np.ndarray:  # type: ignore[override]
        value = x.dtype.type(self.value)
        function = BINARY_FUNCTIONS[self.function]
        return function(value, x) if self.reverse else function(x, value)
