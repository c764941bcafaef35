"""The part of a plan that computes one segment: its buffers, their places in memory, and its kernel calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edge_agent.runtime.plan import Buffer, KernelStep
from edgectl.codegen.cpu.constants import ConstantPool
from edgectl.codegen.cpu.kernel import Kernel
from edgectl.codegen.cpu.memory import Lifetime, assign_storages
from edgectl.graph import Model

CONSTANTS_MEMBER = "constants.bin"
"""Name by which constant buffers refer to the blob."""


@dataclass(frozen=True)
class Fragment:
    """Buffer and storage indices count from 0 within the fragment; constants lie in the blob all fragments share.

    `inputs` and `outputs` map the segment's value names to buffers. Each input and output has a storage of its own.
    """

    buffers: tuple[Buffer, ...]
    storages: tuple[int, ...]
    steps: tuple[KernelStep, ...]
    inputs: Mapping[str, int]
    outputs: Mapping[str, int]


class _Buffers:
    """The fragment's buffers as they are collected."""

    def __init__(self, pool: ConstantPool) -> None:
        self.pool = pool
        self.buffers: list[Buffer] = []
        self.storages: list[int] = []
        self.values: dict[str, int] = {}
        self._constants: dict[tuple[int, str, tuple[int, ...]], int] = {}

    def add(self, buffer: Buffer) -> int:
        self.buffers.append(buffer)
        self.values[buffer.name] = len(self.buffers) - 1
        return self.values[buffer.name]

    def own(self, name: str, shape: tuple[int, ...], dtype: str) -> int:
        """A value's buffer in a storage of its own."""
        index = self.add(Buffer(name, shape, dtype, len(self.storages)))
        self.storages.append(self.buffers[index].nbytes)
        return index

    def constant(self, name: str, array: np.ndarray) -> int:
        """A constant's buffer, shared by equal constants."""
        offset, dtype, shape = self.pool.add(array), str(array.dtype), tuple(array.shape)
        key = (offset, dtype, shape)
        if key not in self._constants:
            self.buffers.append(Buffer(name, shape, dtype, -1, offset, CONSTANTS_MEMBER))
            self._constants[key] = len(self.buffers) - 1
        return self._constants[key]


def plan_fragment(segment: Model, kernels: Sequence[Kernel], names: Sequence[str], pool: ConstantPool) -> Fragment:
    """`kernels` in order, called by `names`; their constants go to `pool`."""
    table = _Buffers(pool)
    for name, declared in segment.inputs.items():
        table.own(name, declared.shape, declared.dtype)
    _place_results(segment, kernels, table)
    steps = []
    for kernel, name in zip(kernels, names, strict=True):
        arguments = [
            table.values[operand.name] if operand.array is None else table.constant(operand.name, operand.array)
            for operand in kernel.operands
        ]
        steps.append(KernelStep(name, (*arguments, table.values[kernel.result]), kernel.layers))
    outputs = {
        name: table.constant(name, segment.parameters[name]) if name in segment.parameters else table.values[name]
        for name in segment.outputs
    }
    inputs = {name: table.values[name] for name in segment.inputs}
    return Fragment(tuple(table.buffers), tuple(table.storages), tuple(steps), inputs, outputs)


def _place_results(segment: Model, kernels: Sequence[Kernel], table: _Buffers) -> None:
    """Outputs get storages of their own, intermediate results share by lifetime."""
    last_read = {operand.name: step for step, kernel in enumerate(kernels) for operand in kernel.operands}
    inner = []
    for step, kernel in enumerate(kernels):
        if kernel.result in segment.outputs:
            table.own(kernel.result, kernel.type.shape, kernel.type.dtype)
        else:
            inner.append((kernel, Lifetime(kernel.type.nbytes, step, last_read.get(kernel.result, step))))
    assigned, sizes = assign_storages([lifetime for _, lifetime in inner])
    base = len(table.storages)
    table.storages += sizes
    for (kernel, _), storage in zip(inner, assigned, strict=True):
        table.add(Buffer(kernel.result, kernel.type.shape, kernel.type.dtype, base + storage))
