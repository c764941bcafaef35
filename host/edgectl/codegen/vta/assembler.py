"""Builds a Program instruction by instruction: tensors, relocations, micro-ops, dependences."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edge_agent.vta.config import MICRO_OP_BYTES, Config, Memory
from edge_agent.vta.counters import count
from edge_agent.vta.isa import (
    Alu,
    AluOpcode,
    Finish,
    Gemm,
    Instruction,
    Load,
    Store,
    encode_micro_ops,
    encode_stream,
)
from edge_agent.vta.program import Layer, Program, ProgramTensor, Relocation, Role
from edge_agent.vta.schedule import Module
from edgectl.codegen.vta.collector import Collector, Span
from edgectl.codegen.vta.dependences import Dependences
from edgectl.codegen.vta.loops import Region, nests
from edgectl.codegen.vta.micro_ops import MicroOpTable
from edgectl.codegen.vta.transfers import in_one_row

MICRO_OPS = "micro_ops"


def _with_tokens(instruction: Instruction, flags: set[str]) -> Instruction:
    return replace(
        instruction,
        pop_prev="pop_prev" in flags,
        pop_next="pop_next" in flags,
        push_prev="push_prev" in flags,
        push_next="push_next" in flags,
    )


class Assembler(Collector):
    """Collects one program. Methods append one instruction each; tokens follow from what instructions touch."""

    def __init__(self, name: str, config: Config, accumulators: int = 0) -> None:
        """`accumulators`: how many elements of ACC the program uses (0: all), from the first on."""
        super().__init__(config)
        self._name = name
        self._instructions: list[Instruction] = []
        self._dependences = Dependences(config)
        self._tensors: list[ProgramTensor] = []
        self._constants: dict[int, bytes] = {}
        self._by_name: dict[str, int] = {}
        self._relocations: list[Relocation] = []
        self._layers: list[Layer] = []
        self._layer_begin = 0
        walk = np.arange(accumulators or config.depth(Memory.ACC))
        # Any run of accumulators is a part of this one list, which serves resets and operations with an immediate.
        linear = encode_micro_ops(walk, walk, np.zeros_like(walk), config).tobytes()
        self.micro_ops = MicroOpTable(config, linear, self._load_micro_ops)
        self._micro_op_tensor = self._declare(ProgramTensor(MICRO_OPS, Role.CONSTANT, Memory.UOP, (0,), "uint32"))

    def activation(self, name: str, role: Role, shape: tuple[int, ...]) -> int:
        if name in self._by_name:
            return self._by_name[name]
        return self._declare(ProgramTensor(name, role, Memory.INP, shape, "int8"))

    def constant(self, name: str, memory: Memory, array: np.ndarray) -> int:
        if name not in self._by_name:
            index = self._declare(ProgramTensor(name, Role.CONSTANT, memory, array.shape, str(array.dtype)))
            self._constants[index] = array.tobytes()
        return self._by_name[name]

    def _declare(self, tensor: ProgramTensor) -> int:
        self._by_name[tensor.name] = len(self._tensors)
        self._tensors.append(tensor)
        return self._by_name[tensor.name]

    def _append(self, instruction: Instruction, module: Module, tensor: int | None = None) -> int:
        if tensor is not None:
            self._relocations.append(Relocation(len(self._instructions), tensor))
        self._instructions.append(instruction)
        return self._dependences.add(module)

    def load(
        self,
        memory: Memory,
        tensor: int,
        sram: int,
        dram: int,
        rows: int,
        columns: int,
        stride: int,
    ) -> None:
        rows, columns, stride = in_one_row(rows, columns, stride)
        store = self._dependences.latest_store(tensor, dram, rows, columns, stride)
        if not self._dependences.knows(Module.LOAD, store):
            self._relay(store)
        instruction = Load(
            memory=memory,
            sram_base=sram,
            dram_base=dram,
            y_size=rows,
            x_size=columns,
            x_stride=stride,
        )
        index = self._append(instruction, Module.LOAD, tensor)
        if not self._dependences.knows(Module.LOAD, store):
            self._dependences.wait(index, self._dependences.latest(Module.COMPUTE))
        self._dependences.access(index, writes=[(memory, sram, sram + rows * columns)])

    def _relay(self, store: int) -> None:
        """Make compute know that `store` is done, with a no-op where it does not, so that it can tell load."""
        if not self._dependences.knows(Module.COMPUTE, store):
            self._dependences.wait(self._no_op(), store)

    def _no_op(self) -> int:
        return self._append(
            Load(memory=Memory.UOP, sram_base=0, dram_base=0, y_size=0, x_size=0, x_stride=0), Module.COMPUTE
        )

    def _load_micro_ops(self, sram: int, dram: int, elements: int) -> None:
        instruction = Load(
            memory=Memory.UOP, sram_base=sram, dram_base=dram, y_size=1, x_size=elements, x_stride=elements
        )
        self._append(instruction, Module.COMPUTE, self._micro_op_tensor)

    def multiply(self, region: Region, acc: Span, inp: Span, wgt: Span, reuse: float) -> None:
        for nest in nests(region, self.config, reuse):
            begin, end = self.micro_ops.place(nest.micro_ops)
            outer, inner = nest.outer, nest.inner
            gemm = Gemm(
                reset=False,
                uop_bgn=begin,
                uop_end=end,
                iter_out=outer.extent,
                iter_in=inner.extent,
                dst_factor_out=outer.dst,
                dst_factor_in=inner.dst,
                src_factor_out=outer.src,
                src_factor_in=inner.src,
                wgt_factor_out=outer.wgt,
                wgt_factor_in=inner.wgt,
            )
            index = self._append(gemm, Module.COMPUTE)
            self._dependences.access(index, [(Memory.INP, *inp), (Memory.WGT, *wgt)], [(Memory.OUT, *acc)])

    def reset_linear(self, span: Span) -> None:
        begin = self.micro_ops.pinned()
        gemm = Gemm(reset=True, uop_bgn=begin + span[0], uop_end=begin + span[1], iter_out=1, iter_in=1)
        index = self._append(gemm, Module.COMPUTE)
        self._dependences.access(index, writes=[(Memory.OUT, *span)])

    def alu_linear(self, operation: str, imm: int, span: Span) -> None:
        begin = self.micro_ops.pinned()
        alu = Alu(
            alu_opcode=AluOpcode[operation.upper()],
            use_imm=True,
            imm=imm,
            uop_bgn=begin + span[0],
            uop_end=begin + span[1],
            iter_out=1,
            iter_in=1,
        )
        index = self._append(alu, Module.COMPUTE)
        self._dependences.access(index, writes=[(Memory.OUT, *span)])

    def alu(self, operation: str, imm: int | None, region: Region, reuse: float = 1.0) -> None:
        span = _written(region)
        for nest in nests(region, self.config, reuse):
            begin, end = self.micro_ops.place(nest.micro_ops)
            alu = Alu(
                alu_opcode=AluOpcode[operation.upper()],
                use_imm=imm is not None,
                imm=imm or 0,
                uop_bgn=begin,
                uop_end=end,
                iter_out=nest.outer.extent,
                iter_in=nest.inner.extent,
                dst_factor_out=nest.outer.dst,
                dst_factor_in=nest.inner.dst,
                src_factor_out=nest.outer.src,
                src_factor_in=nest.inner.src,
            )
            index = self._append(alu, Module.COMPUTE)
            self._dependences.access(index, writes=[(Memory.OUT, *span)])

    def store(self, tensor: int, sram: int, dram: int, rows: int, columns: int, stride: int) -> None:
        rows, columns, stride = in_one_row(rows, columns, stride)
        instruction = Store(
            memory=Memory.OUT, sram_base=sram, dram_base=dram, y_size=rows, x_size=columns, x_stride=stride
        )
        index = self._append(instruction, Module.STORE, tensor)
        self._dependences.access(index, reads=[(Memory.OUT, sram, sram + rows * columns)])
        self._dependences.stored(index, tensor, dram, rows, columns, stride)

    def end_layer(self, name: str) -> None:
        self._layers.append(Layer(name, self._layer_begin, len(self._instructions)))
        self._layer_begin = len(self._instructions)

    def finish(self) -> Program:
        """Append the trailer (wait for every load and store, FINISH) and give the program."""
        last = self._dependences.latest
        load, store = last(Module.LOAD), last(Module.STORE)
        index = self._no_op()
        self._dependences.wait(index, load)
        self._dependences.wait(index, store)
        self._append(Finish(), Module.COMPUTE)
        image = self.micro_ops.image
        self._constants[self._micro_op_tensor] = image
        tensors = list(self._tensors)
        tensors[self._micro_op_tensor] = replace(tensors[self._micro_op_tensor], shape=(len(image) // MICRO_OP_BYTES,))
        flagged = [
            _with_tokens(instruction, flags)
            for instruction, flags in zip(self._instructions, self._dependences.flags, strict=True)
        ]
        words = encode_stream(flagged, self.config)
        crossing = any(tensor.memory is Memory.INP and self._stored_and_loaded(i) for i, tensor in enumerate(tensors))
        return Program(
            name=self._name,
            config=self.config.name,
            features=frozenset({"program_across_layers"} if crossing else ()),
            instructions=words,
            tensors=tuple(tensors),
            constants=self._constants,
            relocations=tuple(self._relocations),
            layers=tuple(self._layers),
            counters=count(words, self.config),
        )

    def _stored_and_loaded(self, tensor: int) -> bool:
        kinds = {type(self._instructions[r.instruction]) for r in self._relocations if r.tensor == tensor}
        return {Load, Store} <= kinds


def _written(region: Region) -> Span:
    """The span of accumulators that `region` updates; its dimensions move upwards."""
    first = [start[0] for start in region.starts]
    return min(first), max(first) + sum((d.extent - 1) * d.dst for d in region.dimensions) + 1
