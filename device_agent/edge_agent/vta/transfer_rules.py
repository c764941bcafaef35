"""The rules of LOAD and STORE: bounds, padding, tensors, and the order of their accesses."""

from __future__ import annotations

import numpy as np

from edge_agent.vta.config import Memory
from edge_agent.vta.element_state import ElementState
from edge_agent.vta.features import ACC_LOAD_PADDING, LOAD_ACC_8BIT, PROGRAM_ACROSS_LAYERS
from edge_agent.vta.isa import Load, Store
from edge_agent.vta.program import ProgramTensor, Role
from edge_agent.vta.schedule import Module
from edge_agent.vta.transfer import dram_rows, last_dram_element, sram_elements
from edge_agent.vta.violation import Violation

ADDRESSES = {
    Memory.UOP: {Memory.UOP},
    Memory.WGT: {Memory.WGT},
    Memory.INP: {Memory.INP, Memory.OUT},
    Memory.ACC: {Memory.ACC},
    Memory.ACC_8BIT: {Memory.INP, Memory.OUT, Memory.ACC_8BIT},
    Memory.OUT: {Memory.INP, Memory.OUT},
}
"""Which tensors an instruction of a memory type may address: those of the same elements."""


def check_load(state: ElementState, index: int, load: Load, tensor: int | None) -> None:
    """Check a LOAD and enter its accesses into `state`. Raises Violation."""
    _check_padding(state, load)
    if load.x_size == 0:
        return
    if load.memory is Memory.OUT:
        raise Violation("memory type", "OUT cannot be loaded")
    if load.memory is Memory.ACC_8BIT:
        state.require_feature(LOAD_ACC_8BIT, "loading int8 into ACC")
    if load.memory is Memory.UOP and load.y_size != 1:
        raise Violation("transfer size", f"micro-ops are loaded in one row, not {load.y_size}: hardware ignores rows")
    number = _check_range(state, load, tensor)
    module = Module.LOAD if load.memory in state.loaded else Module.COMPUTE
    _read_dram(state, index, load, number, module)
    written = slice(load.sram_base, load.sram_base + sram_elements(load))
    if load.memory in state.loaded:
        state.require_before(
            index,
            Module.COMPUTE,
            state.used[load.memory][written],
            "race",
            f"it overwrites {load.memory.name} elements that are also used by",
        )
        state.loaded[load.memory][written] = state.time(index)
    elif load.memory is Memory.UOP:
        _load_micro_ops(state, load, number, written)
    else:
        # Some implementations store from ACC, some from OUT: after this only they would agree that it is not stored.
        state.overwrite_out(index, written, valid=False)
        state.acc_valid[written] = True


def check_store(state: ElementState, index: int, store: Store, tensor: int | None) -> None:
    """Check a STORE and enter its accesses into `state`. Raises Violation."""
    if store.y_pad_0 or store.y_pad_1 or store.x_pad_0 or store.x_pad_1:
        raise Violation("padding", "a STORE cannot pad")
    if store.x_size == 0:
        return
    if store.memory is not Memory.OUT:
        raise Violation("memory type", f"only OUT can be stored, not {store.memory.name}")
    number = _check_range(state, store, tensor)
    target = state.program.tensors[number]
    if target.role in (Role.INPUT, Role.CONSTANT):
        raise Violation("tensor role", f"tensor '{target.name}' is {target.role.value} and must not be stored to")
    read = slice(store.sram_base, store.sram_base + sram_elements(store))
    writer = state.unordered(index, Module.COMPUTE, state.out_written[read])
    state.require_before(
        index,
        Module.COMPUTE,
        state.out_written[read],
        "race" if writer is None or writer < index else "out overwritten",
        "it stores OUT elements that are also written by",
    )
    invalid = np.flatnonzero(~state.out_valid[read])
    if len(invalid):
        element = store.sram_base + int(invalid[0])
        cause = (
            "was last changed by a reset or by loading ACC, which do not define OUT"
            if state.out_written[element]
            else "was never written"
        )
        raise Violation("out buffer", f"OUT[{element}] {cause}; end what is stored with a GEMM or ALU operation")
    state.out_read[read] = state.time(index)
    for module, tensors in state.dram_read.items():
        state.require_before(
            index,
            module,
            dram_rows(tensors[number], store),
            "race",
            f"it overwrites elements of tensor '{target.name}' that are also read by",
        )
    dram_rows(state.stored[number], store)[...] = state.time(index)


def _check_padding(state: ElementState, load: Load) -> None:
    if not (load.y_pad_0 or load.y_pad_1 or load.x_pad_0 or load.x_pad_1):
        return
    if load.x_size == 0:
        raise Violation("padding", "it pads but loads nothing (x_size 0): implementations differ")
    if load.memory is Memory.ACC:
        state.require_feature(ACC_LOAD_PADDING, "padding a load of ACC")
    elif load.memory is not Memory.INP:
        raise Violation("padding", f"a load of {load.memory.name} cannot pad: hardware ignores it")


def _check_range(state: ElementState, transfer: Load | Store, tensor: int | None) -> int:
    """Check both ends of a transfer that moves data; returns the tensor's number."""
    if transfer.y_size == 0:
        raise Violation("transfer size", f"it moves no row of {transfer.x_size} elements; use x_size 0 for a no-op")
    end, depth = transfer.sram_base + sram_elements(transfer), state.config.depth(transfer.memory)
    if end > depth:
        raise Violation("sram bounds", f"it reaches {transfer.memory.name}[{end - 1}], there are {depth} elements")
    if tensor is None:
        raise Violation("relocation", "it addresses DRAM without a relocation that says which tensor")
    target = state.program.tensors[tensor]
    if target.memory not in ADDRESSES[transfer.memory]:
        raise Violation(
            "memory type",
            f"it moves {transfer.memory.name} elements, tensor '{target.name}' consists of "
            f"{target.memory.name} elements",
        )
    last, elements = last_dram_element(transfer), len(state.stored[tensor])
    if last >= elements:
        raise Violation("dram bounds", f"it reaches element {last} of tensor '{target.name}', which has {elements}")
    return tensor


def _read_dram(state: ElementState, index: int, load: Load, tensor: int, module: Module) -> None:
    source: ProgramTensor = state.program.tensors[tensor]
    if source.role in (Role.SCRATCH, Role.OUTPUT):
        state.require_feature(PROGRAM_ACROSS_LAYERS, f"reading tensor '{source.name}' back in the run that stores it")
        stored = dram_rows(state.stored[tensor], load)
        state.require_before(
            index, Module.STORE, stored, "race", f"it reads elements of tensor '{source.name}' that are also stored by"
        )
        if not stored.all():
            missing = load.dram_base + int(np.argmin(stored > 0)) // load.x_size * load.x_stride
            raise Violation(
                "uninitialised read",
                f"it reads tensor '{source.name}' from element {missing} on, where nothing has been stored before it",
            )
    dram_rows(state.dram_read[module][tensor], load)[...] = state.time(index)


def _load_micro_ops(state: ElementState, load: Load, tensor: int, written: slice) -> None:
    source = state.program.tensors[tensor]
    if source.role is not Role.CONSTANT:
        raise Violation(
            "static micro-ops", f"micro-ops come from {source.role.value} tensor '{source.name}'; they must be constant"
        )
    words = np.frombuffer(state.program.constants[tensor], "<u4")
    state.micro_ops[written] = words[load.dram_base : load.dram_base + load.x_size]
    state.micro_op_valid[written] = True
