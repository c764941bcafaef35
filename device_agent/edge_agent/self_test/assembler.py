"""Puts instructions and tensors together to a program."""

from __future__ import annotations

from typing import Any

import numpy as np

from edge_agent.vta.config import Config, Memory
from edge_agent.vta.counters import count
from edge_agent.vta.isa import Alu, AluOpcode, Finish, Instruction, Load, Store, encode_micro_ops, encode_stream
from edge_agent.vta.program import Layer, Program, ProgramTensor, Relocation, Role

BYTES = 4
"""Of an accumulator; a store takes the lowest one."""


class Assembler:
    """Collects a program's instructions, each with the tensor that it addresses."""

    def __init__(self, config: Config, features: frozenset[str] = frozenset()) -> None:
        """`features` are those that the program needs."""
        self.config = config
        self._features = features
        self._instructions: list[Instruction] = []
        self._addressed: list[str | None] = []
        self._tensors: dict[str, ProgramTensor] = {}
        self._constants: dict[str, bytes] = {}
        self._loaded_micro_ops = 0

    def tensor(self, name: str, role: Role, shape: tuple[int, ...]) -> str:
        """An int8 tensor of elements of INP's size: the last axes are (batch, block)."""
        self._tensors[name] = ProgramTensor(name, role, Memory.INP, shape, "int8")
        return name

    def constant(self, name: str, memory: Memory, array: np.ndarray) -> str:
        self._constants[name] = array.tobytes()
        self._tensors[name] = ProgramTensor(name, Role.CONSTANT, memory, array.shape, array.dtype.name)
        return name

    def add(self, instruction: Instruction, tensor: str | None = None) -> None:
        self._instructions.append(instruction)
        self._addressed.append(tensor)

    def load_micro_ops(self, dst: np.ndarray, src: np.ndarray, wgt: np.ndarray) -> int:
        """Load micro-ops behind those that are there; returns the index of the first."""
        begin = self._loaded_micro_ops
        name = self.constant(f"micro-ops {begin}", Memory.UOP, encode_micro_ops(dst, src, wgt, self.config))
        self.add(Load(Memory.UOP, begin, 0, 1, len(dst), len(dst)), name)
        self._loaded_micro_ops += len(dst)
        return begin

    def store_accumulators(self, name: str, elements: int) -> None:
        """Store all 32 bits of ACC[0:elements], of which the low 8 are in OUT: int8 (4, elements, batch, block), the
        lowest byte first. What computed them must give the token that the first store takes."""
        self.tensor(name, Role.OUTPUT, (BYTES, elements, self.config.batch, self.config.block))
        zero = np.zeros(1, np.int64)
        begin = self.load_micro_ops(zero, zero, zero)
        walk: dict[str, Any] = {"iter_in": elements, "dst_factor_in": 1, "src_factor_in": 1}
        # The last instruction that computed gives its token to the store after an addition of nothing.
        self.add(Alu(AluOpcode.ADD, True, 0, begin, begin + 1, **walk, push_next=True))
        for byte in range(BYTES):
            if byte:
                self.add(Alu(AluOpcode.SHR, True, 8, begin, begin + 1, **walk, pop_next=True, push_next=True))
            self.add(Store(0, byte * elements, 1, elements, elements, pop_prev=True, push_prev=True), name)

    def finish(self, stores: int = 1) -> None:
        """Wait for the last stores, so many tokens of theirs, and end."""
        for _ in range(stores):
            self.add(Load(Memory.UOP, 0, 0, 0, 0, 0, pop_next=True))
        self.add(Finish())

    def build(self, name: str) -> Program:
        words = encode_stream(self._instructions, self.config)
        names = list(self._tensors)
        return Program(
            name=name,
            config=self.config.name,
            features=self._features,
            instructions=words,
            tensors=tuple(self._tensors.values()),
            constants={names.index(name): data for name, data in self._constants.items()},
            relocations=tuple(
                Relocation(index, names.index(tensor))
                for index, tensor in enumerate(self._addressed)
                if tensor is not None
            ),
            layers=(Layer(name, 0, len(words)),),
            counters=count(words, self.config),
        )
