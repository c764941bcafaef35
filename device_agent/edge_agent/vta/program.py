"""A compiled VTA program: what the host emits, the bundle carries and an accelerator loads.

Its binary format: docs/program-format.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from math import prod

import numpy as np

from edge_agent.errors import IncompatibleError, InputError, ProgramError
from edge_agent.vta.config import Config, Memory
from edge_agent.vta.counters import Counters

ELEMENT_DTYPES = {"int8": 1, "int32": 4, "uint32": 4}
"""Bytes of the scalars that DRAM tensors are made of."""


MAXIMUM_TENSOR_BYTES = 1 << 30
"""All tensors of a program together: what the masters of a Zynq-7000 build can address (vta-facts 7.2)."""


def element_type(memory: Memory, config: Config) -> tuple[str, tuple[int, ...]]:
    """Scalar dtype and axes of one DRAM element of a memory. Raises ProgramError on widths without a dtype."""
    if memory is Memory.UOP:
        return "uint32", ()
    width = {Memory.WGT: config.wgt_width, Memory.ACC: config.acc_width}.get(memory, config.inp_width)
    if width not in (8, 32):
        raise ProgramError(f"{memory.name} scalars of {width} bits, as in '{config.name}', have no dtype")
    axes = (config.block, config.block) if memory is Memory.WGT else (config.batch, config.block)
    return f"int{width}", axes


class Role(str, Enum):
    """What a program's DRAM tensor is for."""

    INPUT = "input"
    OUTPUT = "output"
    SCRATCH = "scratch"
    """Written and read inside the program only."""
    CONSTANT = "constant"
    """Weights, biases and micro-ops: its bytes are in the program."""


@dataclass(frozen=True)
class ProgramTensor:
    """A DRAM region of a program: `elements` of the size that `memory` has in the configuration.

    `memory` says how instructions address it: INP for activations (which STORE writes as OUT elements of the same
    size), WGT, ACC (int32 biases) or UOP. `shape` and `dtype` describe activations and constants as arrays, row-major,
    the last two axes being the element's (batch, block): activations are (N/batch, C/block, H, W, batch, block) int8.
    """

    name: str
    role: Role
    memory: Memory
    shape: tuple[int, ...]
    dtype: str

    @property
    def nbytes(self) -> int:
        """Raises ProgramError on a dtype that DRAM tensors do not have."""
        if self.dtype not in ELEMENT_DTYPES:
            raise ProgramError(f"tensor '{self.name}' has dtype '{self.dtype}'; {', '.join(ELEMENT_DTYPES)} exist")
        return prod(self.shape) * ELEMENT_DTYPES[self.dtype]


@dataclass(frozen=True)
class Relocation:
    """Instruction `instruction` (a LOAD or STORE) addresses `tensor` (index in the tensor table).

    Its dram_base field holds an element offset into the tensor; loading adds the tensor's physical base address
    divided by the element bytes of the instruction's memory type.
    """

    instruction: int
    tensor: int


@dataclass(frozen=True)
class Layer:
    """A range of instructions [begin, end) that computes one layer of the user's network; for reports and errors."""

    name: str
    begin: int
    end: int


@dataclass(frozen=True)
class Program:
    """One run of the accelerator, from the first LOAD to FINISH.

    `instructions` is uint64 (n, 2), `constants` maps the index of each CONSTANT tensor to its bytes. `features` are
    what the program needs beyond the portable rules (vta-facts 13), a subset of the board profile's.
    """

    name: str
    config: str
    features: frozenset[str]
    instructions: np.ndarray
    tensors: tuple[ProgramTensor, ...]
    constants: dict[int, bytes]
    relocations: tuple[Relocation, ...]
    layers: tuple[Layer, ...]
    counters: Counters

    def tensors_of(self, role: Role) -> list[ProgramTensor]:
        return [tensor for tensor in self.tensors if tensor.role is role]

    def check_arrays(self, role: Role, arrays: Mapping[str, np.ndarray]) -> None:
        """Raise InputError unless `arrays` are the tensors of a role, by name, with their shapes and dtypes."""
        wanted = {tensor.name: (tensor.shape, tensor.dtype) for tensor in self.tensors_of(role)}
        given = {name: (tuple(array.shape), array.dtype.name) for name, array in arrays.items()}
        if given != wanted:
            raise InputError(f"program '{self.name}' has {role.value} tensors {wanted}, it was given {given}")

    def check(self) -> None:
        """Raise ProgramError unless the tables fit together; what the instructions do is `verify`'s matter."""
        try:
            config = Config.parse(self.config)
        except IncompatibleError as error:
            raise ProgramError(f"program '{self.name}': {error}") from error
        words = self.instructions
        if words.dtype != np.uint64 or words.ndim != 2 or words.shape[1] != 2:
            raise ProgramError(
                f"program '{self.name}': instructions are {words.dtype} {words.shape}, not uint64 (n, 2)"
            )
        names = [tensor.name for tensor in self.tensors]
        if len(set(names)) != len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ProgramError(f"program '{self.name}' has two tensors named '{twice}'")
        for index, tensor in enumerate(self.tensors):
            dtype, axes = element_type(tensor.memory, config)
            inner = tensor.shape[len(tensor.shape) - len(axes) :]
            if tensor.dtype != dtype or inner != axes or tensor.nbytes == 0:
                raise ProgramError(
                    f"tensor '{tensor.name}' of program '{self.name}' is {tensor.dtype} {tensor.shape}; "
                    f"{tensor.memory.name} elements are {dtype}, the last axes being {axes}"
                )
            given = len(self.constants[index]) if index in self.constants else None
            wanted = tensor.nbytes if tensor.role is Role.CONSTANT else None
            if given != wanted:
                raise ProgramError(
                    f"tensor '{tensor.name}' ({tensor.role.value}) of program '{self.name}' needs "
                    f"{wanted} bytes of data, the program has {given}"
                )
        if not set(self.constants) <= set(range(len(self.tensors))):
            raise ProgramError(f"program '{self.name}' has data for tensors that it does not have")
        total = sum(tensor.nbytes for tensor in self.tensors)
        if total > MAXIMUM_TENSOR_BYTES:
            raise ProgramError(
                f"the tensors of program '{self.name}' have {total} bytes, at most {MAXIMUM_TENSOR_BYTES} are accepted"
            )
        previous = -1
        for relocation in self.relocations:
            if not previous < relocation.instruction < len(words):
                raise ProgramError(
                    f"program '{self.name}': relocation of instruction {relocation.instruction} after "
                    f"{previous}, of {len(words)}; they must ascend"
                )
            if not 0 <= relocation.tensor < len(self.tensors):
                raise ProgramError(
                    f"program '{self.name}': the relocation of instruction {relocation.instruction} "
                    f"names tensor {relocation.tensor} of {len(self.tensors)}"
                )
            previous = relocation.instruction
        for layer in self.layers:
            if not 0 <= layer.begin <= layer.end <= len(words):
                raise ProgramError(
                    f"program '{self.name}': layer '{layer.name}' is instructions {layer.begin} to "
                    f"{layer.end}, there are {len(words)}"
                )
