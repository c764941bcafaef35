"""Instructions as text: one line each, with tokens and the tensors they address."""

from __future__ import annotations

from collections.abc import Iterator

from edge_agent.vta.config import Config
from edge_agent.vta.isa import Alu, Gemm, Instruction, Load, Store, decode_stream
from edge_agent.vta.program import Program
from edge_agent.vta.schedule import Module, module_of


def disassemble(instruction: Instruction, tensor: str = "dram") -> str:
    """One line without its index. `tensor` names what a LOAD or STORE addresses; `+n` is its element offset.

    Indices of GEMM and ALU are written `factor_out:factor_in`; `<load` is a token taken from the load module,
    `>store` one given to the store module.
    """
    text = _operation(instruction, tensor) + _tokens(instruction)
    return text.rstrip()


def _operation(instruction: Instruction, tensor: str) -> str:
    if isinstance(instruction, Load | Store):
        return _transfer(instruction, tensor)
    if isinstance(instruction, Gemm):
        name = "GEMM reset" if instruction.reset else "GEMM"
        return (
            f"{name} {_walk(instruction)} src {instruction.src_factor_out}:{instruction.src_factor_in} "
            f"wgt {instruction.wgt_factor_out}:{instruction.wgt_factor_in}"
        )
    if isinstance(instruction, Alu):
        operand = str(instruction.imm) if instruction.use_imm else "acc"
        return (
            f"ALU {instruction.alu_opcode.name} {operand} {_walk(instruction)} "
            f"src {instruction.src_factor_out}:{instruction.src_factor_in}"
        )
    return "FINISH"


def _walk(instruction: Gemm | Alu) -> str:
    return (
        f"uop {instruction.uop_bgn}..{instruction.uop_end} loop {instruction.iter_out}x{instruction.iter_in} "
        f"dst {instruction.dst_factor_out}:{instruction.dst_factor_in}"
    )


def _transfer(instruction: Load | Store, tensor: str) -> str:
    kind = "LOAD" if isinstance(instruction, Load) else "STORE"
    if instruction.x_size == 0:
        return f"{kind} {instruction.memory.name} nothing"
    arrow = "<-" if kind == "LOAD" else "->"
    text = (
        f"{kind} {instruction.memory.name}[{instruction.sram_base}] {arrow} {tensor}+{instruction.dram_base} "
        f"{instruction.y_size}x{instruction.x_size}"
    )
    if instruction.y_size > 1:
        text += f" stride {instruction.x_stride}"
    pads = (instruction.y_pad_0, instruction.y_pad_1, instruction.x_pad_0, instruction.x_pad_1)
    return text + (f" pad y {pads[0]},{pads[1]} x {pads[2]},{pads[3]}" if any(pads) else "")


def _tokens(instruction: Instruction) -> str:
    """A flag towards a neighbour that the module lacks prints as `none`."""
    module = module_of(instruction)

    def neighbour(step: int) -> str:
        return Module(module + step).name.lower() if 0 <= module + step <= 2 else "none"

    flags = [
        (instruction.pop_prev, "<", -1),
        (instruction.pop_next, "<", 1),
        (instruction.push_prev, ">", -1),
        (instruction.push_next, ">", 1),
    ]
    return "".join(f" {sign}{neighbour(step)}" for present, sign, step in flags if present)


def tensor_names(program: Program) -> dict[int, str]:
    """The tensor that each relocated instruction addresses, by instruction index."""
    return {r.instruction: program.tensors[r.tensor].name for r in program.relocations}


def layer_of(program: Program, instruction: int) -> str:
    """The name of the layer that an instruction computes, or an empty string."""
    return next((layer.name for layer in program.layers if layer.begin <= instruction < layer.end), "")


def listing(program: Program) -> Iterator[str]:
    """The whole program: a heading for each layer, then its instructions, each with its index and module."""
    names = tensor_names(program)
    begins = {layer.begin: layer.name for layer in program.layers if layer.begin < layer.end}
    for index, instruction in enumerate(decode_stream(program.instructions, Config.parse(program.config))):
        if index in begins:
            yield f"; {begins[index]}"
        module = module_of(instruction).name.lower()
        yield f"{index:6d} {module:7s} {disassemble(instruction, names.get(index, 'dram'))}"
