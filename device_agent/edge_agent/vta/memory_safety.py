"""What must hold before a program may drive real DMA: that it stays inside its own tensors, and ends as it began.

`verify` checks every rule; the compiler has called it, and a board's processor would need half a minute for ResNet-18.
This is the part of it that takes a hundredth of that time: it protects the rest of the board's memory from a wrong
program, and the queues from tokens that nothing clears. Whatever else is wrong with a program shows in its self-test,
or in a run that does not finish.
"""

from __future__ import annotations

import numpy as np

from edge_agent.errors import ProgramError
from edge_agent.vta.config import Config, Memory
from edge_agent.vta.isa import Opcode, layout, opcodes
from edge_agent.vta.program import Program, Role
from edge_agent.vta.schedule import Module
from edge_agent.vta.transfer_rules import ADDRESSES

_NOWHERE = -1
_TOKENS = (
    (Module.LOAD, "push_next", Module.COMPUTE, "pop_prev"),
    (Module.COMPUTE, "push_prev", Module.LOAD, "pop_next"),
    (Module.COMPUTE, "push_next", Module.STORE, "pop_prev"),
    (Module.STORE, "push_prev", Module.COMPUTE, "pop_next"),
)


def check_memory_safety(program: Program) -> None:
    """Raise ProgramError where a transfer leaves its tensor, a tensor that must not change is stored to, tokens do not
    balance, or FINISH is not the end.
    """
    program.check()
    config = Config.parse(program.config)
    words, kinds = program.instructions, opcodes(program.instructions)
    finish = np.flatnonzero(kinds == Opcode.FINISH)
    if finish.tolist() != [len(words) - 1]:
        raise ProgramError(f"program '{program.name}': finish: FINISH must be the last instruction and the only one")
    fields = layout(Opcode.LOAD, config)
    column = {name: field.extract(words) for name, field in fields.items()}
    load, store = kinds == Opcode.LOAD, kinds == Opcode.STORE
    memory = np.where(store, Memory.OUT, column["memory"])
    _check_transfers(program, config, load, store, memory, column)
    module = np.full(len(words), Module.COMPUTE, np.int64)
    module[store] = Module.STORE
    module[load & ((memory == Memory.INP) | (memory == Memory.WGT))] = Module.LOAD
    for source, push, target, pop in _TOKENS:
        given, taken = (int(column[flag][module == of].sum()) for of, flag in ((source, push), (target, pop)))
        if given != taken:
            raise ProgramError(
                f"program '{program.name}': token balance: {source.name} gives {given} tokens to {target.name}, which "
                f"takes {taken}; nothing clears those left over"
            )


def _check_transfers(
    program: Program,
    config: Config,
    load: np.ndarray,
    store: np.ndarray,
    memory: np.ndarray,
    column: dict[str, np.ndarray],
) -> None:
    def refuse(wrong: np.ndarray, rule: str, detail: str) -> None:
        if wrong.any():
            raise ProgramError(f"program '{program.name}', instruction {int(np.argmax(wrong))}: {rule}: {detail}")

    count = len(load)
    tensor = np.full(count, _NOWHERE, np.int64)
    for relocation in program.relocations:
        tensor[relocation.instruction] = relocation.tensor
    moves = (load | store) & (column["x_size"] > 0)
    refuse((tensor != _NOWHERE) & ~(load | store), "relocation", "only LOAD and STORE address DRAM")
    refuse(moves & (tensor == _NOWHERE), "relocation", "it addresses DRAM without a relocation that says which tensor")
    refuse(moves & (column["y_size"] == 0), "transfer size", "it moves no row")
    refuse(load & (column["x_size"] == 0) & _pads(column), "padding", "it pads but loads nothing")
    refuse(store & (column["memory"] != Memory.OUT) & moves, "memory type", "only OUT can be stored")
    if not moves.any():
        return
    allowed = np.zeros((8, len(program.tensors)), bool)
    for kind, targets in ADDRESSES.items():
        allowed[kind] = [entry.memory in targets for entry in program.tensors]
    refuse(load & moves & (memory == Memory.OUT), "memory type", "OUT cannot be loaded")
    refuse(moves & ~allowed[memory, tensor], "memory type", "the tensor that it addresses has other elements")
    fixed = np.array([entry.role in (Role.INPUT, Role.CONSTANT) for entry in program.tensors])
    refuse(store & moves & fixed[tensor], "tensor role", "the tensor that it stores to is an input or a constant")
    elements = np.array([entry.nbytes // config.element_bytes(entry.memory) for entry in program.tensors])
    last = column["dram_base"] + (column["y_size"] - 1) * column["x_stride"] + column["x_size"] - 1
    # Where hardware ignores rows and strides, the first row is what it moves.
    last = np.maximum(last, column["dram_base"] + column["x_size"] - 1)
    refuse(moves & (last >= elements[tensor]), "dram bounds", "it reaches beyond its tensor")


def _pads(column: dict[str, np.ndarray]) -> np.ndarray:
    return (column["y_pad_0"] | column["y_pad_1"] | column["x_pad_0"] | column["x_pad_1"]) > 0
