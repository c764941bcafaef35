"""Instructions as text."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_agent.vta.config import Memory
from edge_agent.vta.disassemble import disassemble, layer_of, listing
from edge_agent.vta.isa import Alu, AluOpcode, Finish, Gemm, Instruction, Load, Store
from edge_agent.vta.program import Layer

from .builder import TiledConvolution


@pytest.mark.parametrize(
    ("instruction", "text"),
    [
        (
            Load(Memory.INP, 291, 5, 14, 16, 224, 1, 2, 3, 4, pop_next=True, push_next=True),
            "LOAD INP[291] <- x+5 14x16 stride 224 pad y 1,2 x 3,4 <compute >compute",
        ),
        (Load(Memory.UOP, 7, 0, 1, 9, 9), "LOAD UOP[7] <- x+0 1x9"),
        (Load(Memory.UOP, 0, 0, 0, 0, 0, pop_prev=True, pop_next=True), "LOAD UOP nothing <load <store"),
        (
            Store(2047, 16, 4, 8, 56, pop_prev=True, push_prev=True),
            "STORE OUT[2047] -> x+16 4x8 stride 56 <compute >compute",
        ),
        (
            Gemm(False, 5, 8, 3, 4, 1, 2, 3, 4, 5, 6, pop_prev=True, push_next=True),
            "GEMM uop 5..8 loop 3x4 dst 1:2 src 3:4 wgt 5:6 <load >store",
        ),
        (Gemm(True, 0, 1), "GEMM reset uop 0..1 loop 1x1 dst 0:0 src 0:0 wgt 0:0"),
        (Alu(AluOpcode.SHR, True, -4, 1, 2, 1, 36, 0, 1, 0, 1), "ALU SHR -4 uop 1..2 loop 1x36 dst 0:1 src 0:1"),
        (Alu(AluOpcode.MAX, False, 9, 1, 2, 1, 36, 0, 1, 0, 1), "ALU MAX acc uop 1..2 loop 1x36 dst 0:1 src 0:1"),
        (Finish(pop_next=True), "FINISH <store"),
        (Store(0, 0, 0, 0, 0, push_next=True), "STORE OUT nothing >none"),
    ],
)
def test_each_instruction(instruction: Instruction, text: str) -> None:
    assert disassemble(instruction, "x") == text


def test_a_listing_has_layers_indices_modules_and_tensor_names() -> None:
    program = replace(TiledConvolution().build(), layers=(Layer("first", 0, 2), Layer("second", 2, 40)))
    lines = list(listing(program))
    assert lines[:3] == [
        "; first",
        "     0 load    LOAD WGT[0] <- weight+0 1x36",
        "     1 compute LOAD UOP[0] <- micro_ops+0 1x576",
    ]
    assert lines[3] == "; second"
    assert lines[-1] == f"{len(program.instructions) - 1:6d} compute FINISH <store"
    assert [layer_of(program, index) for index in (0, 2, 39, 40)] == ["first", "second", "second", ""]
