"""The steps of a compiled run: one instruction each, or a part of one, with its operands as views of the memories."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edge_agent.vta.isa import AluOpcode

Step = Callable[[], None]


@dataclass(frozen=True, eq=False)
class Fill:
    """Set elements to zero."""

    target: np.ndarray

    def __call__(self) -> None:
        self.target.fill(0)


@dataclass(frozen=True, eq=False)
class Copy:
    """Copy elements, converting: int8 widens, int32 is truncated to its low 8 bits."""

    target: np.ndarray
    source: np.ndarray

    def __call__(self) -> None:
        np.copyto(self.target, self.source, casting="unsafe")


@dataclass(frozen=True, eq=False)
class Reset:
    """Zero gathered elements."""

    acc: np.ndarray
    indices: np.ndarray

    def __call__(self) -> None:
        self.acc[self.indices] = 0


class Scratch:
    """Memory that steps use while they run, one after the other."""

    def __init__(self) -> None:
        self._bytes = np.empty(0, np.uint8)

    def reserve(self, nbytes: int) -> None:
        if nbytes > self._bytes.size:
            self._bytes = np.empty(nbytes, np.uint8)

    def array(self, shape: tuple[int, ...], dtype: type[np.generic]) -> np.ndarray:
        """An array of at most the reserved bytes; its contents last until the next one is taken."""
        return np.ndarray(shape, dtype, self._bytes)


@dataclass(frozen=True, eq=False)
class Multiply:
    """acc[dst] += INP[src] . weights, modulo 2^32.

    `inp` float32 (depth, batch, block), `src` intp (positions, reduction: `take` takes no wider
    index on a 32-bit processor), `weights` a float matrix
    (reduction * block, blocks * block) or a function that reads one from WGT, in which all sums are exact; `dst`
    int64 (positions * blocks,), `target` the same elements as a view of `acc`, where there is one.
    """

    inp: np.ndarray
    src: np.ndarray
    weights: np.ndarray | Callable[[], np.ndarray]
    acc: np.ndarray
    dst: np.ndarray
    target: np.ndarray | None
    scratch: Scratch

    def __call__(self) -> None:
        positions, reduction = self.src.shape
        batch, block = self.inp.shape[1:]
        gathered = self.scratch.array((positions, reduction, batch, block), np.float32)
        self.inp.take(self.src, axis=0, out=gathered, mode="clip")  # other modes buffer `out`
        weights = self.weights() if callable(self.weights) else self.weights
        rows = gathered.swapaxes(1, 2).reshape(positions * batch, reduction * block)
        sums = rows.astype(weights.dtype, copy=False) @ weights
        if weights.dtype == np.float64:
            sums = sums.astype(np.int64)  # wraps on its way to int32, as the accumulator does
        added = sums.astype(np.int32).reshape(positions, batch, -1, block).swapaxes(1, 2)
        if self.target is None:
            self.acc[self.dst] += added.reshape(len(self.dst), batch, block)
        else:
            np.add(self.target, added.reshape(self.target.shape), out=self.target)


_OPERATIONS: dict[AluOpcode, np.ufunc] = {
    AluOpcode.MIN: np.minimum,
    AluOpcode.MAX: np.maximum,
    AluOpcode.ADD: np.add,
    AluOpcode.MUL: np.multiply,
}


def operation(opcode: AluOpcode, imm: int | None) -> tuple[np.ufunc, np.int32 | None]:
    """The ufunc and right operand of an ALU instruction; None as `imm` is its register form."""
    if opcode is AluOpcode.SHR:
        if imm is None:
            raise ValueError("SHR has no portable register form")
        return (np.right_shift, np.int32(imm)) if imm >= 0 else (np.left_shift, np.int32(-imm))
    return _OPERATIONS[opcode], None if imm is None else np.int32(imm)


@dataclass(frozen=True, eq=False)
class Apply:
    """target = operation(target, operand) in place; operand an int32 or a view of ACC of target's size."""

    operation: np.ufunc
    target: np.ndarray
    operand: np.ndarray | np.int32

    def __call__(self) -> None:
        self.operation(self.target, self.operand, out=self.target)


@dataclass(frozen=True, eq=False)
class ApplyGathered:
    """acc[dst] = operation(acc[dst], operand), operand acc[src] unless it is an immediate."""

    operation: np.ufunc
    acc: np.ndarray
    dst: np.ndarray
    src: np.ndarray
    imm: np.int32 | None

    def __call__(self) -> None:
        operand = self.acc[self.src] if self.imm is None else self.imm
        self.acc[self.dst] = self.operation(self.acc[self.dst], operand)
