"""Every kind of damage to a program, at every place: what the verifier must catch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace

import numpy as np

from edge_agent.vta.config import Config, Memory
from edge_agent.vta.counters import count
from edge_agent.vta.isa import (
    Alu,
    AluOpcode,
    Gemm,
    Instruction,
    Load,
    Store,
    decode_stream,
    encode_stream,
    micro_op_layout,
)
from edge_agent.vta.program import Program, Relocation
from edge_agent.vta.schedule import module_of

FLAGS = ("pop_prev", "pop_next", "push_prev", "push_next")
PADS = ("y_pad_0", "y_pad_1", "x_pad_0", "x_pad_1")
FACTORS = ("dst_factor_out", "dst_factor_in", "src_factor_out", "src_factor_in", "wgt_factor_out", "wgt_factor_in")


@dataclass(frozen=True)
class Mutant:
    """A damaged program, made on demand. `place` is the instruction, or -1 where it is a micro-op."""

    kind: str
    place: int
    make: Callable[[], Program]


class Mutator:
    """All mutants of a valid program."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.config = Config.parse(program.config)
        self.instructions = decode_stream(program.instructions, self.config)
        relocated = {relocation.instruction: relocation.tensor for relocation in program.relocations}
        self.tensors = [relocated.get(i) for i in range(len(self.instructions))]

    def mutants(self) -> Iterator[Mutant]:
        for place, instruction in enumerate(self.instructions):
            yield from self._tokens(place, instruction)
            yield from self._order(place, instruction)
            if isinstance(instruction, Load | Store):
                yield from self._transfers(place, instruction)
            elif isinstance(instruction, Gemm | Alu):
                yield from self._loops(place, instruction)
        yield from self._micro_ops()

    def _built(self, instructions: list[Instruction], tensors: list[int | None]) -> Program:
        words = encode_stream(instructions, self.config)
        relocations = (Relocation(i, tensor) for i, tensor in enumerate(tensors) if tensor is not None)
        layers = tuple(layer for layer in self.program.layers if layer.end <= len(words))
        return replace(
            self.program,
            instructions=words,
            relocations=tuple(relocations),
            layers=layers,
            counters=count(words, self.config),
        )

    def _edited(self, kind: str, place: int, **changes: object) -> Mutant:
        changed = list(self.instructions)
        changed[place] = replace(changed[place], **changes)  # type: ignore[arg-type]
        return Mutant(kind, place, lambda: self._built(changed, self.tensors))

    def _stepped(self, kind: str, place: int, field: str, *steps: int) -> Iterator[Mutant]:
        """`field` greater by each of `steps`, where that is not negative."""
        value = getattr(self.instructions[place], field)
        for step in steps:
            if value + step >= 0:
                yield self._edited(kind, place, **{field: value + step})

    def _others(self, place: int) -> Iterator[int]:
        """The nearest instructions of the same module behind and before `place`."""
        module = module_of(self.instructions[place])
        for places in (range(place + 1, len(self.instructions)), range(place - 1, -1, -1)):
            yield from (i for i in places if module_of(self.instructions[i]) == module)

    def _tokens(self, place: int, instruction: Instruction) -> Iterator[Mutant]:
        for flag in FLAGS:
            given = getattr(instruction, flag)
            yield self._edited(
                f"{'dropped' if given else 'added'} {flag.partition('_')[0]}", place, **{flag: not given}
            )
            if given:
                for other in list(self._others(place))[:2]:
                    if not getattr(self.instructions[other], flag):
                        changed = list(self.instructions)
                        changed[place] = replace(instruction, **{flag: False})  # type: ignore[arg-type]
                        changed[other] = replace(changed[other], **{flag: True})  # type: ignore[arg-type]
                        yield Mutant(f"moved {flag}", place, lambda c=changed: self._built(c, self.tensors))  # type: ignore[misc]

    def _order(self, place: int, instruction: Instruction) -> Iterator[Mutant]:
        def moved(kind: str, order: list[int], tokens_stay: bool = False) -> Mutant:
            def make() -> Program:
                made = [self.instructions[i] for i in order]
                if tokens_stay:
                    flags = [{flag: getattr(old, flag) for flag in FLAGS} for old in self.instructions]
                    made = [replace(new, **kept) for new, kept in zip(made, flags, strict=True)]  # type: ignore[arg-type]
                return self._built(made, [self.tensors[i] for i in order])

            return Mutant(kind, place, make)

        every = list(range(len(self.instructions)))
        finish = every[-1]
        yield moved("deleted", [*every[:place], *every[place + 1 :]])
        yield moved("repeated", [*every[: place + 1], *every[place:]])
        if place == finish:
            return
        yield moved("FINISH twice", [*every[:place], finish, *every[place:]])
        yield moved("FINISH early", [*every[:place], finish, *every[place:finish]])
        for other in {place + 1, *(i for i in list(self._others(place))[:1] if i > place)}:
            order = list(every)
            order[place], order[other] = order[other], order[place]
            yield moved("swapped", order)
            yield moved("swapped, tokens stay", order, tokens_stay=True)

    def _transfers(self, place: int, transfer: Load | Store) -> Iterator[Mutant]:
        yield from self._stepped("SRAM base", place, "sram_base", -16, -1, 1, 16, 700)
        yield from self._stepped("DRAM base", place, "dram_base", -16, -1, 1, 16)
        for field in ("x_size", "y_size", "x_stride"):
            yield from self._stepped(field, place, field, -1, 1)
        if transfer.x_size:
            yield self._edited("no row", place, y_size=0)
            yield self._edited("no column", place, x_size=0)
        for pad in PADS:
            yield self._edited("pad without data", place, x_size=0, **{pad: 1})
            if transfer.x_size:
                yield self._edited(f"pad of {transfer.memory.name}", place, **{pad: 1})
        for memory in Memory:
            if memory is not transfer.memory and transfer.x_size:
                yield self._edited(f"memory {memory.name}", place, memory=memory)
        if self.tensors[place] is None:
            return
        for tensor in (None, *range(len(self.program.tensors))):
            if tensor != self.tensors[place]:
                tensors = list(self.tensors)
                tensors[place] = tensor
                kind = "no tensor" if tensor is None else "another tensor"
                yield Mutant(kind, place, lambda t=tensors: self._built(self.instructions, t))  # type: ignore[misc]

    def _loops(self, place: int, walk: Gemm | Alu) -> Iterator[Mutant]:
        yield from self._stepped("micro-op range", place, "uop_bgn", -1, 1)
        yield from self._stepped("micro-op range", place, "uop_end", -1, 1)
        yield self._edited("no micro-op", place, uop_end=walk.uop_bgn)
        for field in ("iter_out", "iter_in"):
            yield self._edited("no iteration", place, **{field: 0})
            yield from self._stepped(field, place, field, 1, 2)
        for field in FACTORS:
            if field in {known.name for known in fields(walk)}:
                yield from self._stepped(field, place, field, -1, 1, 100)
        if isinstance(walk, Gemm):
            yield self._edited("reset", place, reset=not walk.reset)
            return
        for opcode in AluOpcode:
            if opcode is not walk.alu_opcode:
                yield self._edited(f"ALU {opcode.name}", place, alu_opcode=opcode)
        yield self._edited("register form", place, use_imm=not walk.use_imm)
        for amount in (16, 17, 31, 32, -16, -31):
            if walk.alu_opcode is AluOpcode.SHR:
                yield self._edited("shift too far", place, imm=amount)
        yield self._edited("immediate", place, imm=walk.imm + 1)

    def _micro_ops(self) -> Iterator[Mutant]:
        for tensor, description in enumerate(self.program.tensors):
            if description.memory is not Memory.UOP:
                continue
            words = np.frombuffer(self.program.constants[tensor], "<u4")
            for place in range(len(words)):
                for field in micro_op_layout(self.config):
                    for bit in (0, 1, field.width - 1):
                        changed = words.copy()
                        changed[place] ^= np.uint32(1 << field.shift + bit)
                        constants = {**self.program.constants, tensor: changed.tobytes()}
                        yield Mutant(
                            f"micro-op {field.name}",
                            -1,
                            lambda c=constants: replace(self.program, constants=c),  # type: ignore[misc]
                        )
