"""A second, naive implementation of the machine, for comparison: the HLS core's semantics, one micro-op at a time.

Memories start with garbage, DRAM is one address space with tensors at aligned bases, and the three modules take turns
at random, so that anything a program leaves to chance shows.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from edge_agent.vta.config import Config, Memory
from edge_agent.vta.isa import Alu, AluOpcode, Finish, Gemm, Instruction, Load, MicroOp, Store, decode, decode_micro_op
from edge_agent.vta.program import Program, Role

ALIGNMENT = 256


class ReferenceMachine:
    def __init__(self, program: Program, seed: int = 0) -> None:
        self.program = program
        self.config = config = Config.parse(program.config)
        self.rng = np.random.default_rng(seed)
        self.bases: list[int] = []
        end = ALIGNMENT
        for tensor in program.tensors:
            self.bases.append(end)
            end += tensor.nbytes + -tensor.nbytes % ALIGNMENT
        self.dram = self.rng.integers(0, 256, end, np.uint8)
        for index, data in program.constants.items():
            self.dram[self.bases[index] : self.bases[index] + len(data)] = np.frombuffer(data, np.uint8)
        lanes = (config.batch, config.block)
        self.inp = self.garbage(np.int8, (config.depth(Memory.INP), *lanes))
        self.wgt = self.garbage(np.int8, (config.depth(Memory.WGT), config.block, config.block))
        self.acc = self.garbage(np.int32, (config.depth(Memory.ACC), *lanes))
        self.out = self.garbage(np.int8, (config.depth(Memory.OUT), *lanes))
        self.uop = self.garbage(np.uint32, (config.depth(Memory.UOP),))
        self.decoded: dict[int, MicroOp] = {}

    def garbage(self, dtype: type, shape: tuple[int, ...]) -> np.ndarray:
        limits = np.iinfo(dtype)
        return self.rng.integers(limits.min, int(limits.max) + 1, shape, dtype)

    def instructions(self) -> list[Instruction]:
        words = self.program.instructions.copy()
        for relocation in self.program.relocations:
            instruction = decode(*words[relocation.instruction].tolist(), self.config)
            assert isinstance(instruction, Load | Store)
            base = self.bases[relocation.tensor] // self.config.element_bytes(instruction.memory)
            words[relocation.instruction, 0] += np.uint64(base << 26)  # dram_base is bits 26 to 57
        return [decode(*pair, self.config) for pair in words.tolist()]

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        for tensor, base in zip(self.program.tensors, self.bases, strict=True):
            if tensor.role is Role.INPUT:
                self.dram[base : base + tensor.nbytes] = inputs[tensor.name].ravel().view(np.uint8)
        self.execute(self.instructions())
        return {
            tensor.name: self.dram[base : base + tensor.nbytes].view(tensor.dtype).reshape(tensor.shape).copy()
            for tensor, base in zip(self.program.tensors, self.bases, strict=True)
            if tensor.role is Role.OUTPUT
        }

    def execute(self, instructions: list[Instruction]) -> None:
        load: deque[Instruction] = deque()
        compute: deque[Instruction] = deque()
        store: deque[Instruction] = deque()
        for instruction in instructions:
            if isinstance(instruction, Store):
                store.append(instruction)
            elif isinstance(instruction, Load) and instruction.memory in (Memory.INP, Memory.WGT):
                load.append(instruction)
            else:
                compute.append(instruction)
        load_to_compute = compute_to_load = compute_to_store = store_to_compute = 0
        while load or compute or store:
            ready = []
            if load and compute_to_load >= load[0].pop_next:
                ready.append("load")
            if compute and load_to_compute >= compute[0].pop_prev and store_to_compute >= compute[0].pop_next:
                ready.append("compute")
            if store and compute_to_store >= store[0].pop_prev:
                ready.append("store")
            assert ready, "the program deadlocks"
            module = ready[self.rng.integers(len(ready))]
            if module == "load":
                instruction = load.popleft()
                compute_to_load -= instruction.pop_next
                load_to_compute += instruction.push_next
            elif module == "compute":
                instruction = compute.popleft()
                load_to_compute -= instruction.pop_prev
                store_to_compute -= instruction.pop_next
                compute_to_load += instruction.push_prev
                compute_to_store += instruction.push_next
            else:
                instruction = store.popleft()
                compute_to_store -= instruction.pop_prev
                store_to_compute += instruction.push_prev
            self.step(instruction)
        assert load_to_compute == compute_to_load == compute_to_store == store_to_compute == 0

    def step(self, instruction: Instruction) -> None:
        if isinstance(instruction, Load):
            self.load(instruction)
        elif isinstance(instruction, Store):
            self.store(instruction)
        elif isinstance(instruction, Gemm):
            self.gemm(instruction)
        elif isinstance(instruction, Alu):
            self.alu(instruction)
        else:
            assert isinstance(instruction, Finish)

    def load(self, load: Load) -> None:
        memory = {
            Memory.INP: self.inp,
            Memory.WGT: self.wgt,
            Memory.ACC: self.acc,
            Memory.UOP: self.uop,
            Memory.ACC_8BIT: self.acc,
        }[load.memory]
        dtype = np.int8 if load.memory is Memory.ACC_8BIT else memory.dtype
        nbytes = self.config.element_bytes(load.memory)
        sram = load.sram_base
        for y in range(-load.y_pad_0, load.y_size + load.y_pad_1):
            for x in range(-load.x_pad_0, load.x_size + load.x_pad_1):
                if 0 <= y < load.y_size and 0 <= x < load.x_size:
                    address = (load.dram_base + y * load.x_stride + x) * nbytes
                    memory[sram] = self.dram[address : address + nbytes].view(dtype).reshape(memory.shape[1:])
                else:
                    memory[sram] = 0
                sram += 1

    def store(self, store: Store) -> None:
        nbytes = self.config.element_bytes(Memory.OUT)
        for y in range(store.y_size):
            for x in range(store.x_size):
                address = (store.dram_base + y * store.x_stride + x) * nbytes
                self.dram[address : address + nbytes] = (
                    self.out[store.sram_base + y * store.x_size + x].ravel().view(np.uint8)
                )

    def micro_op(self, index: int) -> MicroOp:
        word = int(self.uop[index])
        if word not in self.decoded:
            self.decoded[word] = decode_micro_op(word, self.config)
        return self.decoded[word]

    def gemm(self, gemm: Gemm) -> None:
        for a in range(gemm.iter_out):
            for b in range(gemm.iter_in):
                for k in range(gemm.uop_bgn, gemm.uop_end):
                    uop = self.micro_op(k)
                    dst = uop.dst + a * gemm.dst_factor_out + b * gemm.dst_factor_in
                    src = uop.src + a * gemm.src_factor_out + b * gemm.src_factor_in
                    wgt = uop.wgt + a * gemm.wgt_factor_out + b * gemm.wgt_factor_in
                    total = self.acc[dst] + self.inp[src].astype(np.int32) @ self.wgt[wgt].astype(np.int32).T
                    self.acc[dst] = 0 if gemm.reset else total
                    self.out[dst] = total.astype(np.int8)

    def alu(self, alu: Alu) -> None:
        for a in range(alu.iter_out):
            for b in range(alu.iter_in):
                for k in range(alu.uop_bgn, alu.uop_end):
                    uop = self.micro_op(k)
                    dst = uop.dst + a * alu.dst_factor_out + b * alu.dst_factor_in
                    src = uop.src + a * alu.src_factor_out + b * alu.src_factor_in
                    x, y = self.acc[dst], np.int32(alu.imm) if alu.use_imm else self.acc[src]
                    self.acc[dst] = self.operate(alu.alu_opcode, x, y)
                    self.out[dst] = self.acc[dst].astype(np.int8)

    def operate(self, opcode: AluOpcode, x: np.ndarray, y: np.ndarray | np.int32) -> np.ndarray:
        if opcode is AluOpcode.MIN:
            return np.where(x < y, x, y)
        if opcode is AluOpcode.MAX:
            return np.where(x > y, x, y)
        if opcode is AluOpcode.ADD:
            return x + y
        if opcode is AluOpcode.MUL:
            return x * y
        amount = int(y) & 31
        amount = amount - 32 if amount > 15 else amount
        return x >> amount if amount >= 0 else x << -amount
