"""Integer operators: int8 tensors, int32 accumulators, shifts with one rounding. They define what VTA must compute."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgectl.operators.base import Operator, Padding, TensorType, broadcast_shape, require, window_type
from edgectl.operators.convolution import convolution_type
from edgectl.operators.quantization import requantize, rounding_shift
from edgectl.operators.windows import convolve, pad, windows


def exact_float(weight: np.ndarray) -> type:
    """The narrowest float type in which int8 dot products with the rows of `weight` are exact in any order.

    All partial sums are bounded by 128 * sum(|row|); float32 holds integers up to 2**24, float64 up to 2**53.
    """
    rows = np.abs(weight.reshape(weight.shape[0], -1).astype(np.int64)).sum(axis=1)
    return np.float32 if 128 * int(rows.max(initial=0)) <= 1 << 24 else np.float64


EXTREMA = {"maximum": np.maximum, "minimum": np.minimum}


@dataclass(frozen=True)
class IntegerConvolution(Operator):
    """clip(round_shift(conv(x, weight) + bias + (residual << residual_shift), shift), low, high) as int8.

    inputs: x int8 (N, C, H, W), weight int8 (O, C/groups, KH, KW), bias int32 (O), optional residual int8 (the
    output's shape). The accumulator is int32. `shift` rounds half up and may be negative (a left shift).
    """

    kind = "integer_convolution"
    strides: tuple[int, int] = (1, 1)
    padding: Padding = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    shift: int = 0
    low: int = -127
    high: int = 127
    residual_shift: int = 0

    def infer(self, x: TensorType, weight: TensorType, bias: TensorType, *residual: TensorType) -> TensorType:  # type: ignore[override]
        out = convolution_type(x, weight, self.strides, self.padding, self.dilation, self.groups, "int8")
        require(
            x.dtype == weight.dtype == "int8" and bias.dtype == "int32",
            f"integer_convolution needs int8, int8, int32, got {x}, {weight}, {bias}",
        )
        for other in residual:
            require(other == out, f"residual is {other}, the convolution's output {out}")
        return out

    def accumulate(self, x: np.ndarray, weight: np.ndarray, bias: np.ndarray, *residual: np.ndarray) -> np.ndarray:
        """The int32 accumulator before the shift."""
        exact = exact_float(weight)
        product = convolve(
            x.astype(exact), weight.astype(exact), self.strides, self.padding, self.dilation, self.groups
        )
        total = product.astype(np.int32) + bias.reshape(1, -1, 1, 1)
        if residual:
            total += rounding_shift(residual[0].astype(np.int32), -self.residual_shift)
        return total

    def evaluate(self, *inputs: np.ndarray) -> np.ndarray:
        return requantize(self.accumulate(*inputs), self.shift, self.low, self.high)


@dataclass(frozen=True)
class IntegerDense(Operator):
    """int8 x (N, K), int8 weight (O, K), int32 bias (O) -> int32 (N, O)."""

    kind = "integer_dense"

    def infer(self, x: TensorType, weight: TensorType, bias: TensorType) -> TensorType:  # type: ignore[override]
        require(len(x.shape) == 2 and x.shape[1] == weight.shape[1], f"integer_dense of {x} with {weight}")
        require(
            x.dtype == weight.dtype == "int8" and bias.dtype == "int32",
            f"integer_dense needs int8, int8, int32, got {x}, {weight}, {bias}",
        )
        return TensorType((x.shape[0], weight.shape[0]), "int32")

    def evaluate(self, x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:  # type: ignore[override]
        exact = exact_float(weight)
        return (x.astype(exact) @ weight.T.astype(exact)).astype(np.int32) + bias


@dataclass(frozen=True)
class IntegerAdd(Operator):
    """int8 a, int8 b -> int8: clip(round_shift((a << a_shift) + (b << b_shift), shift), low, high)."""

    kind = "integer_add"
    a_shift: int
    b_shift: int
    shift: int
    low: int = -127
    high: int = 127

    def infer(self, a: TensorType, b: TensorType) -> TensorType:  # type: ignore[override]
        require(a == b and a.dtype == "int8", f"integer_add needs two int8 tensors of one shape, got {a} and {b}")
        return a

    def evaluate(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:  # type: ignore[override]
        total = (a.astype(np.int32) << np.int32(self.a_shift)) + (b.astype(np.int32) << np.int32(self.b_shift))
        return requantize(total, self.shift, self.low, self.high)


@dataclass(frozen=True)
class IntegerExtremum(Operator):
    """int8 a, int8 b -> int8: clip(round_shift(f(a << a_shift, b << b_shift), shift), low, high), f the maximum or the
    minimum.
    """

    kind = "integer_extremum"
    function: str
    a_shift: int
    b_shift: int
    shift: int
    low: int = -127
    high: int = 127

    def infer(self, a: TensorType, b: TensorType) -> TensorType:  # type: ignore[override]
        require(self.function in EXTREMA, f"integer_extremum knows {' and '.join(EXTREMA)}, not '{self.function}'")
        require(a == b and a.dtype == "int8", f"integer_extremum needs two int8 tensors of one shape, got {a} and {b}")
        return a

    def evaluate(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:  # type: ignore[override]
        shifted = (a.astype(np.int32) << np.int32(self.a_shift), b.astype(np.int32) << np.int32(self.b_shift))
        return requantize(EXTREMA[self.function](*shifted), self.shift, self.low, self.high)


@dataclass(frozen=True)
class IntegerMultiply(Operator):
    """int8 a, int8 b -> int8: clip(round_shift(a * b, shift), low, high), with NumPy's broadcasting."""

    kind = "integer_multiply"
    shift: int
    low: int = -127
    high: int = 127

    def infer(self, a: TensorType, b: TensorType) -> TensorType:  # type: ignore[override]
        require(a.dtype == b.dtype == "int8", f"integer_multiply needs int8 tensors, got {a} and {b}")
        return TensorType(broadcast_shape(self.kind, a, b), "int8")

    def evaluate(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:  # type: ignore[override]
        return requantize(a.astype(np.int32) * b.astype(np.int32), self.shift, self.low, self.high)


@dataclass(frozen=True)
class IntegerAffine(Operator):
    """Per-channel int8 -> int8: clip(round_shift(x * multiplier + offset, shift), low, high).

    inputs: x int8 (N, C, H, W), multiplier int32 (C), offset int32 (C).
    """

    kind = "integer_affine"
    shift: int
    low: int = -127
    high: int = 127

    def infer(self, x: TensorType, multiplier: TensorType, offset: TensorType) -> TensorType:  # type: ignore[override]
        require(
            x.dtype == "int8" and multiplier.dtype == offset.dtype == "int32" and len(x.shape) == 4,
            f"integer_affine needs int8 NCHW, int32, int32, got {x}, {multiplier}, {offset}",
        )
        require(multiplier.shape == offset.shape == (x.shape[1],), f"integer_affine of {x} with {multiplier}, {offset}")
        return x

    def evaluate(self, x: np.ndarray, multiplier: np.ndarray, offset: np.ndarray) -> np.ndarray:  # type: ignore[override]
        total = x.astype(np.int32) * multiplier.reshape(1, -1, 1, 1) + offset.reshape(1, -1, 1, 1)
        return requantize(total, self.shift, self.low, self.high)


@dataclass(frozen=True)
class IntegerPoolSum(Operator):
    """Sum of all pixels, int8 (N, C, H, W) -> int32 (N, C, 1, 1): a global average whose divisor lives in the scale."""

    kind = "integer_pool_sum"

    def infer(self, x: TensorType) -> TensorType:  # type: ignore[override]
        require(x.dtype == "int8" and len(x.shape) == 4, f"integer_pool_sum needs int8 NCHW, got {x}")
        return TensorType((*x.shape[:2], 1, 1), "int32")

    def evaluate(self, x: np.ndarray) -> np.ndarray:  # type: ignore[override]
        return x.sum(axis=(2, 3), keepdims=True, dtype=np.int32)


@dataclass(frozen=True)
class IntegerWindowSum(Operator):
    """Sums over windows, int8 (N, C, H, W) -> int32: an average pool whose divisor lives in the scale."""

    kind = "integer_window_sum"
    kernel: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    padding: Padding = (0, 0, 0, 0)

    def infer(self, x: TensorType) -> TensorType:  # type: ignore[override]
        require(x.dtype == "int8", f"integer_window_sum needs int8 NCHW, got {x}")
        return window_type(x, x.shape[1], self.kernel, self.strides, self.padding, (1, 1), "int32", self.kind)

    def evaluate(self, x: np.ndarray) -> np.ndarray:  # type: ignore[override]
        return windows(pad(x, self.padding), self.kernel, self.strides).sum(axis=(4, 5), dtype=np.int32)
