"""The rules of GEMM and ALU instructions: micro-ops, indices, operands, hazards."""

from __future__ import annotations

import numpy as np

from edge_agent.vta.config import Memory
from edge_agent.vta.element_state import ElementState
from edge_agent.vta.features import ALU_MUL
from edge_agent.vta.isa import Alu, AluOpcode, Gemm, decode_micro_ops
from edge_agent.vta.schedule import Module
from edge_agent.vta.violation import Violation
from edge_agent.vta.walk import MAXIMUM_EXECUTIONS, RAW_DISTANCE, Walk, WalkTable

MAXIMUM_SHIFT = 15
"""Right shifts of 16 and more turn into left shifts on Xilinx hardware (vta-facts 3.5)."""


def check_gemm(state: ElementState, index: int, gemm: Gemm, table: WalkTable) -> Walk:
    """Check a GEMM and enter its accesses into `state`; returns what it touches. Raises Violation."""
    walk = _walk(state, gemm, table)
    _check_bounds(state, Memory.ACC, walk.dst_set)
    _check_bounds(state, Memory.INP, walk.src_set)
    _check_bounds(state, Memory.WGT, walk.wgt_set)
    _check_distance(walk.dst_recurs, "updates")
    if not gemm.reset:
        for memory, elements in ((Memory.INP, walk.src_set), (Memory.WGT, walk.wgt_set)):
            times = state.loaded[memory][elements]
            state.require_before(
                index, Module.LOAD, times, "race", f"it reads {memory.name} elements that are also loaded by"
            )
            _check_initialised(memory, elements, times > 0)
            state.used[memory][elements] = state.time(index)
        _check_initialised(Memory.ACC, walk.dst_set, state.acc_valid[walk.dst_set])
    state.overwrite_out(index, walk.dst_set, valid=not gemm.reset)
    state.acc_valid[walk.dst_set] = True
    return walk


def check_alu(state: ElementState, index: int, alu: Alu, table: WalkTable) -> Walk:
    """Check an ALU instruction and enter its accesses into `state`; returns what it touches. Raises Violation."""
    if alu.alu_opcode is AluOpcode.MUL:
        state.require_feature(ALU_MUL, "multiplying")
    if alu.alu_opcode is AluOpcode.SHR and not alu.use_imm:
        raise Violation("shift range", "shifting by a register differs between implementations; shift by an immediate")
    if alu.alu_opcode is AluOpcode.SHR and abs(alu.imm) > MAXIMUM_SHIFT:
        raise Violation("shift range", f"it shifts by {alu.imm}, outside {-MAXIMUM_SHIFT} to {MAXIMUM_SHIFT}")
    walk = _walk(state, alu, table)
    weights = decode_micro_ops(state.micro_ops[alu.uop_bgn : alu.uop_end], state.config)[2]
    if weights.any():
        raise Violation(
            "alu micro-op",
            f"micro-op {alu.uop_bgn + int(np.flatnonzero(weights)[0])} has weight index {weights[weights > 0][0]}; "
            "where ALU reads those bits they are a part of src (vta-facts 2.5), so they must be 0",
        )
    _check_bounds(state, Memory.ACC, walk.dst_set)
    _check_bounds(state, Memory.ACC, walk.src_set)
    _check_distance(walk.dst_recurs, "updates")
    if alu.use_imm:
        differs = np.flatnonzero(walk.src != walk.dst)
        if len(differs):
            raise Violation(
                "immediate source",
                f"with an immediate src must equal dst; execution {differs[0]} has dst "
                f"{walk.dst[differs[0]]}, src {walk.src[differs[0]]}",
            )
    else:
        _check_distance(walk.src_recurs, "reads")
        _check_initialised(Memory.ACC, walk.src_set, state.acc_valid[walk.src_set])
    _check_initialised(Memory.ACC, walk.dst_set, state.acc_valid[walk.dst_set])
    state.overwrite_out(index, walk.dst_set, valid=True)
    return walk


def _walk(state: ElementState, instruction: Gemm | Alu, table: WalkTable) -> Walk:
    begin, end, depth = instruction.uop_bgn, instruction.uop_end, state.config.depth(Memory.UOP)
    if begin >= end or instruction.iter_out < 1 or instruction.iter_in < 1:
        raise Violation(
            "loop",
            f"nothing to do: micro-ops {begin} to {end}, {instruction.iter_out} times "
            f"{instruction.iter_in} iterations; each must be at least one",
        )
    if end > depth:
        raise Violation("sram bounds", f"it reaches UOP[{end - 1}], there are {depth} elements")
    executions = instruction.iter_out * instruction.iter_in * (end - begin)
    if executions > MAXIMUM_EXECUTIONS:
        raise Violation("loop", f"it executes {executions} micro-ops, at most {MAXIMUM_EXECUTIONS} are accepted")
    if not state.micro_op_valid[begin:end].all():
        _check_initialised(Memory.UOP, np.arange(begin, end), state.micro_op_valid[begin:end])
    return table.walk(instruction, state.micro_ops[begin:end])


def _check_bounds(state: ElementState, memory: Memory, elements: np.ndarray) -> None:
    depth = state.config.depth(memory)
    if elements[-1] >= depth:
        raise Violation("sram bounds", f"it reaches {memory.name}[{elements[-1]}], there are {depth} elements")


def _check_distance(execution: int, verb: str) -> None:
    if execution >= 0:
        raise Violation(
            "read after write distance",
            f"execution {execution} {verb} an ACC element that one of the "
            f"two before it updated; the pipeline needs a distance of {RAW_DISTANCE}",
        )


def _check_initialised(memory: Memory, elements: np.ndarray, valid: np.ndarray) -> None:
    if not valid.all():
        raise Violation(
            "uninitialised read",
            f"it reads {memory.name}[{elements[np.argmin(valid)]}], which nothing has written before it",
        )
