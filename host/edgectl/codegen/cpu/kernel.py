"""One fused group of operators as a scheduled TVM function."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from tvm import s_tir, te

from edgectl.codegen.cpu.fusion import Group, leader_of, lowering_of
from edgectl.codegen.cpu.layouts import PLANES, View, stored
from edgectl.codegen.cpu.lowering import OUTPUT, Call, Lowering, Pattern, Reader
from edgectl.codegen.cpu.target import CpuTarget
from edgectl.errors import CompileError, EdgectlError
from edgectl.graph import Node
from edgectl.operators.base import TensorType


@dataclass(frozen=True)
class Operand:
    """What a kernel reads: the value `name`, or where it has an `array`, a constant. `type` is the graph's."""

    name: str
    type: TensorType
    array: np.ndarray | None = None
    block: int = PLANES


@dataclass(frozen=True)
class Member:
    """A node of a kernel. `sources` index the kernel's operands, or, where negative, its members (-1 is the first)."""

    node: Node
    call: Call
    lowering: Lowering
    sources: tuple[int, ...]


@dataclass(frozen=True)
class Kernel:
    """A group whose operands are known. Kernels of equal `key` are the same code."""

    members: tuple[Member, ...]
    operands: tuple[Operand, ...]

    @property
    def result(self) -> str:
        return self.members[-1].node.name

    @property
    def type(self) -> TensorType:
        """The result's type in memory."""
        return stored(self.members[-1].call.output, self.block)

    @property
    def block(self) -> int:
        return self.members[-1].call.block

    @property
    def layers(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(member.node.label for member in self.members))

    @property
    def kind(self) -> str:
        return "_".join(dict.fromkeys(member.node.operator.kind for member in self.members))[:48]

    @property
    def key(self) -> tuple[Any, ...]:
        calls = tuple((type(m.call.operator), m.call, m.sources) for m in self.members)
        return calls, tuple((operand.type, operand.block) for operand in self.operands)


def bind_group(
    group: Group,
    types: Mapping[str, TensorType],
    parameters: Mapping[str, np.ndarray],
    target: CpuTarget,
    blocks: Mapping[str, int],
) -> Kernel:
    """Resolve a group's operands and prepare its parameters. Raises CompileError, naming the layer."""
    block = blocks.get(group[-1].name, PLANES)
    operands: list[Operand] = []
    members: list[Member] = []
    for node in group:
        call = Call(node.operator, tuple(types[name] for name in node.inputs), types[node.name], target, block)
        lowering = lowering_of(node)
        try:
            arrays = lowering.prepare(call, tuple(parameters.get(name) for name in node.inputs))
        except EdgectlError as error:
            raise CompileError(f"layer '{node.label}': {error}") from error
        names = [*node.inputs, *("" for _ in arrays[len(node.inputs) :])]
        sources = []
        for name, array in zip(names, arrays, strict=False):
            inside = next((index for index, member in enumerate(members) if member.node.name == name), None)
            if inside is not None:
                sources.append(-1 - inside)
                continue
            if array is None:
                operand = Operand(name, types[name], block=blocks.get(name, PLANES))
            else:
                operand = Operand(name, TensorType(tuple(array.shape), str(array.dtype)), array)
            known = next((i for i, other in enumerate(operands) if other.name == name and array is None), None)
            if known is None:
                operands.append(operand)
                known = len(operands) - 1
            sources.append(known)
        members.append(Member(node, call, lowering, tuple(sources)))
    return Kernel(tuple(members), tuple(operands))


def build_function(kernel: Kernel, name: str) -> tvm.tirx.PrimFunc:
    """The kernel as a scheduled function `name` of its operands, then its result. Raises CompileError."""
    schedule = s_tir.Schedule(tvm.IRModule({"main": unscheduled(kernel, name)}))
    leader = _leader(kernel)
    try:
        leader.lowering.schedule(leader.call, schedule)
    except (RuntimeError, ValueError) as error:
        raise CompileError(f"layer '{leader.node.label}': TVM cannot schedule {kernel.kind}: {error}") from error
    return schedule.mod["main"]


def unscheduled(kernel: Kernel, name: str) -> tvm.tirx.PrimFunc:
    """The kernel's expressions as a function `name` of its operands, then its result. Raises CompileError."""
    operands = [(operand, stored(operand.type, operand.block)) for operand in kernel.operands]
    tensors = [te.placeholder(t.shape, t.dtype, f"operand{i}") for i, (_, t) in enumerate(operands)]
    views = [View(tensor, o.type.shape, o.block) for tensor, (o, _) in zip(tensors, operands, strict=True)]
    values: list[Reader] = []
    for member in kernel.members:
        values.append(_lower(member, kernel, views, values))
    try:
        result = te.compute(kernel.type.shape, _stored(values[-1], kernel.block), name=OUTPUT)
    except EdgectlError as error:
        raise CompileError(f"layer '{', '.join(kernel.layers)}': {error}") from error
    return te.create_prim_func([*tensors, result]).with_attr("global_symbol", name).with_attr("tirx.noalias", True)


def _stored(value: Reader, block: int) -> Reader:
    """The element at a stored tensor's indices."""
    if block == PLANES:
        return value
    return lambda n, blocks, row, column, lane: value(n, blocks * block + lane, row, column)


def _leader(kernel: Kernel) -> Member:
    node = leader_of(tuple(member.node for member in kernel.members))
    return next(member for member in kernel.members if member.node is node)


def _lower(member: Member, kernel: Kernel, tensors: list[View], values: list[Reader]) -> Reader:
    lowering, call = member.lowering, member.call
    if lowering.pattern is Pattern.REDUCTION:
        return lowering.compute(call, *(tensors[source] for source in member.sources))
    readers: list[tuple[Reader, tuple[int, ...]]] = []
    for source in member.sources:
        if source < 0:
            readers.append((values[-1 - source], kernel.members[-1 - source].call.output.shape))
        else:
            readers.append((_element(tensors[source]), kernel.operands[source].type.shape))
    if lowering.pattern is Pattern.INJECTIVE:
        return lowering.compute(call, *(reader for reader, _ in readers))
    return lambda *indices: lowering.compute(call.operator, *(_broadcast(r, s, indices) for r, s in readers))


def _element(tensor: View) -> Reader:
    return lambda *indices: tensor[indices]


def _broadcast(reader: Reader, shape: tuple[int, ...], indices: tuple[Any, ...]) -> Any:
    """The element that NumPy's broadcasting pairs with the output's `indices`."""
    own = indices[len(indices) - len(shape) :] if shape else ()
    return reader(*(0 if extent == 1 else index for extent, index in zip(shape, own, strict=True)))
