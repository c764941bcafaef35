"""A program that the quick check accepts cannot write outside its tensors, nor leave tokens behind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.errors import ProgramError
from edge_agent.vta.config import DEFAULT_CONFIG, Memory
from edge_agent.vta.isa import Finish, Load, Store
from edge_agent.vta.memory_safety import check_memory_safety
from edge_agent.vta.relocation import relocate
from edge_agent.vta.verify import verify

from .builder import TiledConvolution

Edit = Callable[[TiledConvolution], object]


def test_a_valid_program_passes() -> None:
    check_memory_safety(TiledConvolution().build())


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda b: b.edit(b.at["store"][-1], dram_base=0x7F), "dram bounds"),
        (lambda b: b.edit(b.at["store"][0], x_stride=121), "dram bounds"),
        (lambda b: b.edit(b.at["load"][0], dram_base=0xFFFFFFFF), "dram bounds"),
        (lambda b: b.edit(b.at["load weight"][0], x_size=37), "dram bounds"),
        (lambda b: b.edit(b.at["load micro-ops"][0], y_size=0), "transfer size"),
        (lambda b: b.addressed.__setitem__(b.at["store"][0], None), "relocation: it addresses DRAM without"),
        (lambda b: b.addressed.__setitem__(b.at["gemm"][0], "x"), "relocation: only LOAD and STORE"),
        (lambda b: b.addressed.__setitem__(b.at["store"][0], "x"), "tensor role"),
        (lambda b: b.addressed.__setitem__(b.at["store"][0], "weight"), "memory type"),
        (lambda b: b.addressed.__setitem__(b.at["load"][0], "weight"), "memory type"),
        (lambda b: b.edit(b.at["load"][0], memory=Memory.OUT), "OUT cannot be loaded"),
        (lambda b: b.edit(b.at["store"][0], memory=Memory.ACC), "only OUT can be stored"),
        (lambda b: b.edit(b.at["drain"][0], x_pad_0=1), "it pads but loads nothing"),
        (lambda b: b.edit(b.at["minimum"][0], push_next=False), "token balance: COMPUTE gives 3 tokens to STORE"),
        (lambda b: b.edit(b.at["load"][-1], push_next=False), "token balance: LOAD gives"),
        (lambda b: b.edit(b.at["finish"][0], pop_next=False), "token balance: STORE gives"),
        (lambda b: b.edit(b.at["gemm"][0], push_prev=False), "token balance: COMPUTE gives 1 tokens to LOAD"),
        (lambda b: b.remove(b.at["finish"][0]), "finish"),
        (lambda b: b.insert(3, Finish()), "finish"),
    ],
)
def test_what_it_refuses(edit: Edit, message: str) -> None:
    builder = TiledConvolution()
    edit(builder)
    with pytest.raises(ProgramError, match=message):
        check_memory_safety(builder.build())


def test_an_undefined_opcode() -> None:
    program = TiledConvolution().build()
    words = program.instructions.copy()
    words[4, 0] |= np.uint64(7)
    with pytest.raises(ProgramError, match="opcode"):
        check_memory_safety(replace(program, instructions=words))


@given(st.data())
def test_no_accepted_transfer_leaves_its_tensor(data: st.DataObject) -> None:
    """Whatever is in the fields: the bytes that hardware moves for the placed instruction are the tensor's."""
    builder = TiledConvolution()
    kind = data.draw(st.sampled_from(["load", "store", "load weight", "load micro-ops"]))
    index = builder.at[kind][0]
    sizes = st.one_of(st.integers(0, 40), st.integers(0, 65535))
    builder.edit(
        index,
        dram_base=data.draw(st.one_of(st.integers(0, 200), st.integers(0, 2**32 - 1))),
        y_size=data.draw(sizes),
        x_size=data.draw(sizes),
        x_stride=data.draw(sizes),
    )
    program = builder.build()
    try:
        check_memory_safety(program)
    except ProgramError:
        return
    names = list(builder.tensors)
    tensor = names.index(str(builder.addressed[index]))
    base = 0x100000 * (1 + np.arange(len(names)))
    transfer = builder.instructions[index]
    assert isinstance(transfer, Load | Store)
    nbytes = DEFAULT_CONFIG.element_bytes(transfer.memory)
    placed = int(relocate(program, base.tolist())[index, 0] >> np.uint64(26)) & 0xFFFFFFFF
    for y in {0, transfer.y_size - 1} if transfer.x_size else set():
        first = (placed + y * transfer.x_stride) * nbytes
        assert base[tensor] <= first
        assert first + transfer.x_size * nbytes <= base[tensor] + program.tensors[tensor].nbytes


def test_it_refuses_nothing_that_the_verifier_accepts() -> None:
    for seed in range(3):
        program = TiledConvolution(seed=seed).build()
        verify(program)
        check_memory_safety(program)
