"""What a lowering is: how one operator becomes tensor expressions. `lowerings.LOWERINGS` has them all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from math import prod
from typing import Any, Protocol

import numpy as np
from tvm import s_tir, te, tirx

from edgectl.codegen.cpu.layouts import PLANES
from edgectl.codegen.cpu.target import CpuTarget
from edgectl.codegen.cpu.tasks import PARALLEL_ELEMENTS
from edgectl.errors import CompileError
from edgectl.operators.base import Operator, TensorType

Expression = Any
"""A scalar TVM expression."""

Reader = Callable[..., Expression]
"""The element of a tensor at the given indices."""

OUTPUT = "output"
"""Name of every kernel's last block, which writes the result."""


class Pattern(Enum):
    """How an operator's output elements depend on its inputs; decides what may be fused."""

    ELEMENTWISE = "elementwise"
    """Output element i needs element i of each input (NumPy broadcasting). Fuses behind anything of its shape."""
    INJECTIVE = "injective"
    """Each output element is made of few input elements from elsewhere. Fuses behind anything but a reduction."""
    REDUCTION = "reduction"
    """Output elements combine many input elements; begins a kernel."""


@dataclass(frozen=True)
class Call:
    """One operator to lower: its input types (as the graph has them), its output type and the processor.

    `block`: how many channels its kernel's result is stored in blocks of (see `layouts`).
    """

    operator: Operator
    inputs: tuple[TensorType, ...]
    output: TensorType
    target: CpuTarget
    block: int = PLANES


Arrays = tuple["np.ndarray | None", ...]
"""Operands in order: an array for each parameter, None for each computed value."""


class Prepare(Protocol):
    """Rewrites parameters at compile time into what the kernel reads (packed weights, folded statistics)."""

    def __call__(self, call: Call, arrays: Arrays) -> Arrays: ...


class Schedule(Protocol):
    """Orders the loops of a kernel that begins with this operator, or whose last injective operator it is."""

    def __call__(self, call: Call, schedule: s_tir.Schedule) -> None: ...


class Blocks(Protocol):
    """Which block of channels suits the result: from its type, its operands' types, and the blocks that those of four
    dimensions which the kernel reads are stored in. PLANES for none."""

    def __call__(
        self, output: TensorType, inputs: Sequence[TensorType], blocks: Sequence[int], operator: Operator
    ) -> int: ...


@dataclass(frozen=True)
class Lowering:
    """How an operator is computed.

    `compute` depends on the pattern: ELEMENTWISE (operator, *values) -> expression; INJECTIVE (call, *readers) ->
    reader; REDUCTION (call, *tensors) -> reader. Its operands are those that `prepare` returns.

    `repeats`: an elementwise expression that uses its operand several times. TVM's passes take exponential time over
    nested bindings of such operands, so a kernel holds at most one.
    """

    pattern: Pattern
    compute: Callable[..., Any]
    prepare: Prepare
    schedule: Schedule
    repeats: bool = False
    block: Blocks | None = None


def as_operands(output: TensorType, inputs: Sequence[TensorType], blocks: Sequence[int], operator: Operator) -> int:
    """The block that all operands have; PLANES where they differ."""
    return blocks[0] if blocks and len(set(blocks)) == 1 else PLANES


def keep(call: Call, arrays: Arrays) -> Arrays:
    """Parameters as they are."""
    return arrays


def in_order(call: Call, schedule: s_tir.Schedule) -> None:
    """Loops as they are: LLVM vectorises the innermost ones."""


def along_channels(call: Call, schedule: s_tir.Schedule) -> None:
    """Elements in order of storage: blocks of channels are vectors, and large tensors are divided among threads."""
    loops = schedule.get_loops(schedule.get_sblock(OUTPUT))
    if call.block != PLANES:
        schedule.vectorize(loops[-1])
    if len(call.output.shape) == 4 and prod(call.output.shape) >= PARALLEL_ELEMENTS:
        schedule.parallel(schedule.fuse(loops[0], loops[1]))


def constant(value: float, dtype: str) -> Expression:
    return tirx.const(value, dtype)


def dtype_of(value: Expression) -> str:
    """An expression's or tensor element's dtype."""
    return str(value.dtype if isinstance(value, te.TensorSlice) else value.ty.dtype)


def wide(value: Expression, dtype: str = "int32") -> Expression:
    return value.astype(dtype)


def clip(value: Expression, low: float, high: float) -> Expression:
    return tirx.min(tirx.max(value, constant(low, dtype_of(value))), constant(high, dtype_of(value)))


def bind(value: Expression, body: Callable[[Expression], Expression]) -> Expression:
    """`body(value)` with `value` computed once, however often `body` uses it."""
    if isinstance(value, tirx.Var | tirx.IntImm | tirx.FloatImm):
        return body(value)
    name = tirx.Var("value", dtype_of(value))
    return tirx.Let(name, value, body(name))


def padded(reader: Reader, bounds: Sequence[tuple[Expression, int]], fill: Expression) -> Expression:
    """reader() where every (index, extent) is inside, `fill` elsewhere."""
    inside = [condition for index, extent in bounds for condition in (index >= 0, index < extent)]
    return te.if_then_else(te.all(*inside), reader(), fill)


def require_parameters(call: Call, arrays: Arrays, positions: Sequence[int]) -> None:
    """Raise CompileError unless the operands at `positions` are parameters of the model."""
    for position in positions:
        if position < len(arrays) and arrays[position] is None:
            raise CompileError(f"{call.operator.kind}: operand {position} must be a parameter, but it is computed")
