"""Which weights are in WGT, and the matrices that GEMM instructions multiply with.

Weights are normally constants, so their place in WGT at each instruction is known before the run: the matrices are
made once, equal ones shared, and loading WGT costs nothing in a run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from edge_agent.vta.config import Config, Memory
from edge_agent.vta.isa import Load
from edge_agent.vta.program import Program, Role
from edge_agent.vta.steps import Copy, Step
from edge_agent.vta.transfer import dram_rows

FLOAT32_EXACT = 1 << 24
"""Integer sums up to this magnitude are exact in float32, in any order of addition."""

_LARGEST_INPUT = 128
_UNKNOWN = -1


class Weights:
    """The contents of WGT, followed through a program's loads in the order of execution."""

    def __init__(self, program: Program, config: Config, tensors: Sequence[np.ndarray]) -> None:
        """`tensors`: the DRAM tensors as arrays of elements, by index."""
        self._tensors = tensors
        constant = [
            index
            for index, tensor in enumerate(program.tensors)
            if tensor.memory is Memory.WGT and tensor.role is Role.CONSTANT
        ]
        shape = (0, config.block, config.block)
        self._constants = np.concatenate([np.zeros(shape, np.int8), *(tensors[index] for index in constant)])
        offsets = np.cumsum([0, *(len(tensors[index]) for index in constant)])
        self._offsets = dict(zip(constant, offsets.tolist(), strict=False))
        self._static = all(tensor.role is Role.CONSTANT for tensor in program.tensors if tensor.memory is Memory.WGT)
        self._content = np.full(config.depth(Memory.WGT), _UNKNOWN, np.int64)
        self._wgt = np.zeros((config.depth(Memory.WGT), config.block, config.block), np.int8)
        self._matrices: dict[tuple[bytes, int], np.ndarray] = {}

    def load(self, load: Load, tensor: int) -> list[Step]:
        """Follow a LOAD of WGT; returns the steps it needs at run time."""
        written = slice(load.sram_base, load.sram_base + load.y_size * load.x_size)
        if tensor in self._offsets:
            elements = np.arange(len(self._tensors[tensor])) + self._offsets[tensor]
            self._content[written] = dram_rows(elements, load).ravel()
        else:
            self._content[written] = _UNKNOWN
        if self._static:
            return []
        source = dram_rows(self._tensors[tensor], load)
        return [Copy(self._wgt[written].reshape(source.shape), source)]

    def matrix(self, wgt: np.ndarray) -> np.ndarray | Callable[[], np.ndarray]:
        """The matrix (reduction * block, blocks * block) of WGT elements int64 (blocks, reduction), in the narrowest
        float type that makes products with int8 exact; or, where it depends on data, a function that returns it.
        """
        content = self._content[wgt]
        if (content == _UNKNOWN).any():
            return lambda: _stack(self._wgt[wgt])
        key = content.tobytes(), content.shape[0]
        if key not in self._matrices:
            self._matrices[key] = _stack(self._constants[content])
        return self._matrices[key]


def _stack(elements: np.ndarray) -> np.ndarray:
    """Weights int8 (blocks, reduction, out lanes, in lanes) as a float matrix."""
    blocks, reduction, out_lanes, in_lanes = elements.shape
    matrix = elements.transpose(1, 3, 0, 2).reshape(reduction * in_lanes, blocks * out_lanes).astype(np.float32)
    largest = float(np.abs(matrix).sum(axis=0, dtype=np.float64).max()) * _LARGEST_INPUT
    return matrix if largest <= FLOAT32_EXACT else matrix.astype(np.float64)
