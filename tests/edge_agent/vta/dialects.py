"""The naive machine as each implementation of VTA builds it, where they differ (vta-facts 3.9), and with modules that
are as early or as late as tokens allow.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from enum import Enum
from itertools import product

import numpy as np

from edge_agent.vta.config import Memory
from edge_agent.vta.isa import Alu, AluOpcode, Finish, Gemm, Instruction, Load, MicroOp, Store
from edge_agent.vta.program import Program
from edge_agent.vta.schedule import Module, module_of

from .reference import ReferenceMachine

PIPELINE = 2
"""Updates of ACC that are under way when the next one reads its operands."""


class Dialect(Enum):
    XILINX = "Xilinx"
    CHISEL = "Chisel"
    SIMULATOR = "functional simulator"


ORDERS = ((0, 1, 2), (2, 1, 0), (1, 0, 2), (0, 2, 1))
"""Which module goes first where several can: load, compute and store are 0, 1 and 2."""
MACHINES = tuple(product(Dialect, ORDERS))


class MisbehaviourError(Exception):
    """What hangs a machine or has no defined result."""


class DialectMachine(ReferenceMachine):
    """Raises MisbehaviourError where the implementation would hang, or reach elements that it does not have."""

    def __init__(self, program: Program, dialect: Dialect, order: tuple[int, ...], seed: int = 0) -> None:
        super().__init__(program, seed)
        self.dialect, self.order = dialect, order

    def execute(self, instructions: list[Instruction]) -> None:
        queues: list[deque[Instruction]] = [deque() for _ in Module]
        for instruction in instructions:
            queues[module_of(instruction)].append(instruction)
        tokens = {(source, target): 0 for source in Module for target in Module if abs(source - target) == 1}
        while any(queues):
            module = next((m for m in self.order if queues[m] and self._ready(m, queues[m][0], tokens)), None)
            if module is None:
                raise MisbehaviourError("deadlock")
            instruction = queues[module].popleft()
            if isinstance(instruction, Finish) and any(queues):
                raise MisbehaviourError("done is raised before the last instruction has run")
            for neighbour, pop, push in self._sides(module, instruction):
                if (neighbour, module) in tokens:
                    tokens[neighbour, module] -= pop
                    tokens[module, neighbour] += push
            self.step(instruction)
        if any(tokens.values()):
            raise MisbehaviourError("leftover tokens")

    @staticmethod
    def _sides(module: int, instruction: Instruction) -> list[tuple[int, bool, bool]]:
        return [
            (module - 1, instruction.pop_prev, instruction.push_prev),
            (module + 1, instruction.pop_next, instruction.push_next),
        ]

    def _ready(self, module: int, instruction: Instruction, tokens: dict[tuple[Module, Module], int]) -> bool:
        return all(
            not pop or tokens.get((neighbour, module), 1) > 0  # type: ignore[call-overload]
            for neighbour, pop, _ in self._sides(module, instruction)
        )

    def load(self, load: Load) -> None:
        if self.dialect is Dialect.XILINX:
            if load.memory is Memory.ACC_8BIT:
                return
            if load.memory in (Memory.WGT, Memory.UOP):
                load = replace(load, y_pad_0=0, y_pad_1=0, x_pad_0=0, x_pad_1=0)
            if load.memory is Memory.UOP:
                load = replace(load, y_size=1)
        elif load.x_size == 0:
            return
        if self.dialect is Dialect.CHISEL and load.memory is Memory.ACC_8BIT:
            raise MisbehaviourError("the load is not decoded")
        if load.memory is Memory.OUT:
            raise MisbehaviourError("OUT cannot be loaded")
        memory = {Memory.INP: self.inp, Memory.WGT: self.wgt, Memory.UOP: self.uop}.get(load.memory, self.acc)
        rows, columns = (load.y_pad_0 + load.y_size + load.y_pad_1, load.x_pad_0 + load.x_size + load.x_pad_1)
        self._bounds(load.sram_base + rows * columns - 1, memory)
        super().load(load)

    def store(self, store: Store) -> None:
        if self.dialect is Dialect.SIMULATOR:
            self.out[...] = self.acc.astype(np.int8)
        if store.x_size and store.y_size:
            self._bounds(store.sram_base + store.x_size * store.y_size - 1, self.out)
        super().store(store)

    def _bounds(self, index: int, memory: np.ndarray) -> None:
        if index >= len(memory):
            raise MisbehaviourError(f"element {index} of {len(memory)}")

    def _indices(self, walk: Gemm | Alu) -> list[MicroOp]:
        """The indices of each execution, in order."""
        found = []
        for a, b in product(range(walk.iter_out), range(walk.iter_in)):
            for k in range(walk.uop_bgn, walk.uop_end):
                self._bounds(k, self.uop)
                uop = self.micro_op(k)
                dst = uop.dst + a * walk.dst_factor_out + b * walk.dst_factor_in
                src = uop.src + a * walk.src_factor_out + b * walk.src_factor_in
                wgt = uop.wgt
                if isinstance(walk, Gemm):
                    wgt += a * walk.wgt_factor_out + b * walk.wgt_factor_in
                found.append(MicroOp(dst, src, wgt))
        return found

    def gemm(self, gemm: Gemm) -> None:
        recent: deque[tuple[int, np.ndarray]] = deque(maxlen=PIPELINE)
        for at in self._indices(gemm):
            for index, memory in ((at.dst, self.acc), (at.src, self.inp), (at.wgt, self.wgt)):
                self._bounds(index, memory)
            product_ = self.inp[at.src].astype(np.int32) @ self.wgt[at.wgt].astype(np.int32).T
            total = self._operand(at.dst, recent, forwards=self.dialect is not Dialect.XILINX) + product_
            recent.append((at.dst, self.acc[at.dst].copy()))
            self.acc[at.dst] = 0 if gemm.reset else total
            if not (gemm.reset and self.dialect is Dialect.CHISEL):
                self.out[at.dst] = total.astype(np.int8)

    def _operand(self, index: int, recent: deque[tuple[int, np.ndarray]], forwards: bool) -> np.ndarray:
        """ACC[index], or what it was before updates that are still under way."""
        stale = [] if forwards else [value for element, value in recent if element == index]
        return stale[0] if stale else self.acc[index].copy()

    def alu(self, alu: Alu) -> None:
        recent: deque[tuple[int, np.ndarray]] = deque(maxlen=PIPELINE)
        chisel, forwards = self.dialect is Dialect.CHISEL, self.dialect is Dialect.SIMULATOR
        for at in self._indices(alu):
            # Chisel takes the bits of the weight index for more of the source's.
            src = at.src + (at.wgt << self.config.index_bits(Memory.INP)) if chisel else at.src
            for index in (at.dst, src):
                self._bounds(index, self.acc)
            x, y = self._operand(at.dst, recent, forwards), self._operand(src, recent, forwards)
            if alu.use_imm:
                x, y = y if chisel else x, np.full_like(y, alu.imm)
            recent.append((at.dst, self.acc[at.dst].copy()))
            if alu.alu_opcode is AluOpcode.MUL and self.dialect is not Dialect.SIMULATOR:
                if chisel:
                    raise MisbehaviourError("MUL is not decoded")
                self.out[at.dst] = self.garbage(np.int8, self.out[at.dst].shape)
                continue
            shifts = alu.alu_opcode is AluOpcode.SHR
            self.acc[at.dst] = self._shifted(x, y, alu) if shifts else self.operate(alu.alu_opcode, x, y)
            self.out[at.dst] = self.acc[at.dst].astype(np.int8)

    def _shifted(self, x: np.ndarray, y: np.ndarray, alu: Alu) -> np.ndarray:
        if self.dialect is Dialect.CHISEL:
            return x << (-y & 31) if alu.use_imm and alu.imm < 0 else x >> (y & 31)
        amount = np.clip(y, -31, 31)
        if self.dialect is Dialect.XILINX:
            amount = np.where((y & 31) > 15, (y & 31) - 32, y & 31)
        return np.where(amount >= 0, x >> np.maximum(amount, 0), x << np.maximum(-amount, 0))
