"""The rules that a program must keep to run alike on every VTA (vta-facts 3, 4 and 13), checked before it runs.

Programs are static: every address, token and micro-op is known, so every rule is decided here, once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from edge_agent.errors import IncompatibleError, ProgramError
from edge_agent.vta.compute_rules import check_alu, check_gemm
from edge_agent.vta.config import Config, Memory
from edge_agent.vta.counters import count
from edge_agent.vta.disassemble import disassemble, layer_of, tensor_names
from edge_agent.vta.element_state import ElementState
from edge_agent.vta.isa import Alu, Finish, Gemm, Instruction, Load, Store, decode_stream
from edge_agent.vta.program import Program, Role
from edge_agent.vta.schedule import Module, Schedule, schedule
from edge_agent.vta.transfer_rules import check_load, check_store
from edge_agent.vta.violation import Violation
from edge_agent.vta.walk import Walk, WalkTable


@dataclass(frozen=True)
class VerifiedProgram:
    """A program that keeps the rules, and what checking it found out.

    `tensor` maps the index of each relocated instruction to its tensor, `walks` that of each GEMM or ALU instruction
    to what it touches.
    """

    program: Program
    config: Config
    instructions: Sequence[Instruction]
    schedule: Schedule
    tensor: dict[int, int]
    walks: dict[int, Walk]


def verify(program: Program, features: Iterable[str] | None = None) -> VerifiedProgram:
    """Check a program for a board with `features` (without: for one that has all the program declares).

    Raises IncompatibleError where the board lacks a feature, ProgramError where a rule is broken: its message names
    the instruction, its disassembly, the layer and the rule.
    """
    if features is not None and not program.features <= set(features):
        missing = ", ".join(sorted(program.features - set(features)))
        raise IncompatibleError(
            f"program '{program.name}' needs {missing}, which this board does not have; "
            "compile the model for this board"
        )
    program.check()
    config = Config.parse(program.config)
    if config.depth(Memory.ACC) > config.depth(Memory.INP):
        raise IncompatibleError(
            f"configuration '{config.name}' has more ACC than INP elements; hardware and runtime "
            "then disagree on the layout of micro-ops"
        )
    instructions = decode_stream(program.instructions, config)
    tensor = {relocation.instruction: relocation.tensor for relocation in program.relocations}
    index = -1
    try:
        _check_shape(program, instructions)
        order = schedule(instructions)
        order.check_token_counts(instructions)
        state = ElementState(program, config, order)
        table, walks = WalkTable(config), {}
        for index in order.order.tolist():
            instruction = instructions[index]
            if isinstance(instruction, Load):
                check_load(state, index, instruction, tensor.get(index))
            elif isinstance(instruction, Store):
                check_store(state, index, instruction, tensor.get(index))
            elif isinstance(instruction, Gemm):
                walks[index] = check_gemm(state, index, instruction, table)
            elif isinstance(instruction, Alu):
                walks[index] = check_alu(state, index, instruction, table)
        index = len(instructions) - 1
        _check_end(state, index)
    except Violation as violation:
        where = index if violation.instruction < 0 else violation.instruction
        raise ProgramError(_describe(program, instructions, where, violation)) from None
    _check_counters(program, config)
    return VerifiedProgram(program, config, instructions, order, tensor, walks)


def _describe(program: Program, instructions: Sequence[Instruction], index: int, violation: Violation) -> str:
    if not 0 <= index < len(instructions):
        return f"program '{program.name}': {violation}"
    layer = layer_of(program, index)
    text = disassemble(instructions[index], tensor_names(program).get(index, "dram"))
    return (
        f"program '{program.name}', instruction {index}{f' of layer {layer!r}' if layer else ''} ({text}): {violation}"
    )


def _check_shape(program: Program, instructions: Sequence[Instruction]) -> None:
    finishes = [i for i, instruction in enumerate(instructions) if isinstance(instruction, Finish)]
    if not finishes:
        raise Violation("finish", "it has no FINISH")
    if finishes != [len(instructions) - 1]:
        raise Violation(
            "finish", f"FINISH must be the last of {len(instructions)} instructions and the only one", finishes[0]
        )
    for relocation in program.relocations:
        if not isinstance(instructions[relocation.instruction], Load | Store):
            raise Violation("relocation", "only LOAD and STORE address DRAM", relocation.instruction)


def _check_end(state: ElementState, finish: int) -> None:
    for module in (Module.LOAD, Module.STORE):
        total = int(np.count_nonzero(state.schedule.module == module))
        done = int(state.schedule.before[finish, module])
        if done < total:
            raise Violation(
                "finish",
                f"only {done} of {total} {module.name} instructions are sure to have completed "
                "when it runs; it must take their last token",
            )
    for tensor, stored in zip(state.program.tensors, state.stored, strict=True):
        if tensor.role is Role.OUTPUT and not stored.all():
            raise Violation(
                "output", f"element {int(np.argmin(stored > 0))} of output tensor '{tensor.name}' is never stored"
            )


def _check_counters(program: Program, config: Config) -> None:
    counted = count(program.instructions, config)
    if program.counters != counted:
        raise ProgramError(f"program '{program.name}' claims {program.counters}, its instructions make {counted}")
