"""The functional simulator: a verified program compiled to NumPy steps, and its execution.

OUT is not simulated apart from ACC: in a verified program every stored element was last changed by the GEMM or ALU
operation that also wrote OUT (rule "out buffer"), so OUT holds the low 8 bits of ACC wherever a STORE reads it.
For the same reason SRAM contents need not outlive a run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edge_agent.errors import IncompatibleError
from edge_agent.vta.affine import affine_view
from edge_agent.vta.config import Config, Memory
from edge_agent.vta.isa import Alu, Gemm, Load, Store
from edge_agent.vta.phases import phases
from edge_agent.vta.products import Product, factor
from edge_agent.vta.program import ProgramTensor, Role
from edge_agent.vta.steps import Apply, ApplyGathered, Copy, Fill, Multiply, Reset, Scratch, Step, operation
from edge_agent.vta.transfer import dram_rows, sram_elements
from edge_agent.vta.verify import VerifiedProgram
from edge_agent.vta.walk import Walk
from edge_agent.vta.weights import Weights


def _element_array(tensor: ProgramTensor, config: Config, data: bytes | np.ndarray | None) -> np.ndarray:
    """A DRAM tensor as an array of elements: (n, rows, lanes), or (n,) for micro-ops."""
    if tensor.memory is Memory.UOP:
        shape: tuple[int, ...] = (-1,)
    elif tensor.memory is Memory.WGT:
        shape = (-1, config.block, config.block)
    else:
        shape = (-1, config.batch, config.block)
    if data is None:
        return np.zeros(tensor.shape, tensor.dtype).reshape(shape)
    return np.frombuffer(data, np.dtype(tensor.dtype).newbyteorder("<")).reshape(shape)


class Simulation:
    """A program ready to run, with memories of its own. Raises IncompatibleError on scalars other than int8 / int32."""

    def __init__(self, verified: VerifiedProgram, tensors: Sequence[np.ndarray] | None = None) -> None:
        """`tensors`: memory for each tensor, uint8 of its bytes, whose contents are read and written when it runs;
        only weights and micro-ops are taken from the program."""
        program, config = verified.program, verified.config
        if (config.inp_width, config.wgt_width, config.acc_width) != (8, 8, 32):
            raise IncompatibleError(f"the simulator computes int8 with int32 accumulators, not '{config.name}'")
        self.program = program
        self._tensors = [
            _element_array(tensor, config, program.constants.get(index) if tensors is None else tensors[index])
            for index, tensor in enumerate(program.tensors)
        ]
        self._steps = _Compiler(verified, self._tensors).compile()

    def run(self, inputs: Mapping[str, np.ndarray], outputs: Mapping[str, np.ndarray]) -> None:
        """Compute `outputs`, written in place, from `inputs`: arrays by tensor name, of the tensors' shapes and dtypes.

        Raises InputError where they are not.
        """
        self.program.check_arrays(Role.INPUT, inputs)
        self.program.check_arrays(Role.OUTPUT, outputs)
        for tensor, elements in zip(self.program.tensors, self._tensors, strict=True):
            if tensor.role is Role.INPUT:
                np.copyto(elements, inputs[tensor.name].reshape(elements.shape))
        self.execute()
        for tensor, elements in zip(self.program.tensors, self._tensors, strict=True):
            if tensor.role is Role.OUTPUT:
                np.copyto(outputs[tensor.name], elements.reshape(tensor.shape))

    def execute(self) -> None:
        """Compute from what the tensors' memory holds, into it."""
        for step in self._steps:
            step()


class _Compiler:
    def __init__(self, verified: VerifiedProgram, tensors: list[np.ndarray]) -> None:
        self.verified = verified
        self.config = config = verified.config
        self.tensors = tensors
        self.steps: list[Step] = []
        # Inputs are kept as the float32 that the products need.
        self.inp = np.zeros((config.depth(Memory.INP), config.batch, config.block), np.float32)
        self.acc = np.zeros((config.depth(Memory.ACC), config.batch, config.block), np.int32)
        self.weights = Weights(verified.program, config, tensors)
        self.scratch = Scratch()
        # Walks are shared by many instructions, and live as long as `verified`.
        self.products: dict[int, list[tuple[Product, np.ndarray | None]]] = {}
        self.phases: dict[tuple[int, bool], list[slice]] = {}
        self.views: dict[bytes, np.ndarray | None] = {}

    def compile(self) -> list[Step]:
        for index in self.verified.schedule.order.tolist():
            instruction = self.verified.instructions[index]
            if isinstance(instruction, Load) and instruction.x_size:
                self._load(instruction, self.verified.tensor[index])
            elif isinstance(instruction, Store) and instruction.x_size:
                self._store(instruction, self.verified.tensor[index])
            elif isinstance(instruction, Gemm):
                self._gemm(instruction, self.verified.walks[index])
            elif isinstance(instruction, Alu):
                self._alu(instruction, self.verified.walks[index])
        return self.steps

    def _load(self, load: Load, tensor: int) -> None:
        if load.memory is Memory.WGT:
            self.steps += self.weights.load(load, tensor)
        elif load.memory is not Memory.UOP:
            memory = self.inp if load.memory is Memory.INP else self.acc
            source = dram_rows(self.tensors[tensor], load)
            target = memory[load.sram_base : load.sram_base + sram_elements(load)]
            width = load.x_pad_0 + load.x_size + load.x_pad_1
            image = target.reshape(-1, width, *target.shape[1:])
            inside = image[load.y_pad_0 : load.y_pad_0 + load.y_size, load.x_pad_0 : load.x_pad_0 + load.x_size]
            if inside.size < target.size:
                self.steps.append(Fill(target))
            self.steps.append(Copy(inside, source))

    def _store(self, store: Store, tensor: int) -> None:
        target = dram_rows(self.tensors[tensor], store)
        source = self.acc[store.sram_base : store.sram_base + sram_elements(store)]
        self.steps.append(Copy(target, source.reshape(target.shape)))

    def _gemm(self, gemm: Gemm, walk: Walk) -> None:
        if gemm.reset:
            target = self._view(walk.dst_set)
            self.steps.append(Reset(self.acc, walk.dst_set) if target is None else Fill(target))
            return
        if id(walk) not in self.products:
            self.products[id(walk)] = [(product, self._view(product.dst)) for product in factor(walk)]
        for product, target in self.products[id(walk)]:
            self.scratch.reserve(product.src.size * self.inp[0].nbytes)
            self.steps.append(
                Multiply(
                    self.inp,
                    product.src.astype(np.intp, copy=False),
                    self.weights.matrix(product.wgt),
                    self.acc,
                    product.dst.ravel(),
                    target,
                    self.scratch,
                )
            )

    def _alu(self, alu: Alu, walk: Walk) -> None:
        function, imm = operation(alu.alu_opcode, alu.imm if alu.use_imm else None)
        if (id(walk), alu.use_imm) not in self.phases:
            self.phases[id(walk), alu.use_imm] = phases(walk, alu.use_imm)
        for phase in self.phases[id(walk), alu.use_imm]:
            dst, src = walk.dst[phase], walk.src[phase]
            target = self._view(dst)
            operand = imm if imm is not None else self._view(src)
            if isinstance(operand, np.ndarray) and target is not None:
                operand = operand.reshape(target.shape)
            # A reshape that had to copy would not see later values.
            if target is None or operand is None or not (imm is not None or np.may_share_memory(operand, self.acc)):
                self.steps.append(ApplyGathered(function, self.acc, dst, src, imm))
            else:
                self.steps.append(Apply(function, target, operand))

    def _view(self, indices: np.ndarray) -> np.ndarray | None:
        """ACC elements as a view, or None where there is none."""
        key = indices.tobytes()
        if key not in self.views:
            self.views[key] = affine_view(self.acc, indices)
        return self.views[key]
