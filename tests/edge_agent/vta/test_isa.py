"""Encodings: golden words of vta-facts 2.7, and round trips for every legal configuration tried."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.errors import ProgramError
from edge_agent.vta.config import DEFAULT_CONFIG, Config, Memory
from edge_agent.vta.isa import (
    Alu,
    AluOpcode,
    Finish,
    Gemm,
    Instruction,
    Load,
    MicroOp,
    Opcode,
    Store,
    decode,
    decode_micro_op,
    decode_stream,
    encode,
    encode_micro_op,
    encode_stream,
    layout,
)

SMALL_CONFIG = Config.parse("1x16_i8w8a32_12_13_16_15")
CONFIGS = [DEFAULT_CONFIG, Config.parse("4x8_i8w8a32_15_16_16_18"), SMALL_CONFIG]

GOLDEN: list[tuple[Instruction, int, int]] = [
    (
        Load(Memory.INP, 0x123, 0x89ABCDEF, 14, 16, 224, 1, 2, 3, 4, pop_next=True, push_next=True),
        0x0226AF37BC048D50,
        0x432100E00010000E,
    ),
    (Load(Memory.UOP, 7, 0x400000, 1, 9, 9), 0x0001000000001C00, 0x0000000900090001),
    (Load(Memory.ACC_8BIT, 0, 1, 1, 1, 1), 0x0000000004000280, 0x0000000100010001),
    (Store(2047, 0x01000010, 4, 8, 56, pop_prev=True, push_prev=True), 0x00040000401FFE29, 0x0000003800080004),
    (
        Gemm(False, 5, 8192, 3, 16383, 1, 2, 3, 4, 5, 6, pop_prev=True, push_prev=True),
        0x7FFE001C0000052A,
        0x0180500800C01001,
    ),
    (Gemm(True, 0, 1, 1, 64, dst_factor_in=1), 0x0080000800200082, 0x0000000000000800),
    (Alu(AluOpcode.SHR, True, 8, 1, 2, 1, 36, 0, 1, 0, 1, push_next=True), 0x0048000800400144, 0x0008B00200000800),
    (Alu(AluOpcode.SHR, True, -4, 1, 2, 1, 36, 0, 1, 0, 1, push_next=True), 0x0048000800400144, 0xFFFCB00200000800),
    (
        Alu(AluOpcode.MAX, False, 0, 1, 2, 1, 36, 100, 1, 2000, 1, push_next=True),
        0x0048000800400144,
        0x00001003F4000864,
    ),
    (Finish(pop_next=True), 0x0000000000000013, 0),
]


@pytest.mark.parametrize(("instruction", "word0", "word1"), GOLDEN, ids=lambda value: type(value).__name__)
def test_golden_encodings(instruction: Instruction, word0: int, word1: int) -> None:
    assert [hex(word) for word in encode(instruction, DEFAULT_CONFIG)] == [hex(word0), hex(word1)]
    assert decode(word0, word1, DEFAULT_CONFIG) == instruction


@pytest.mark.parametrize(
    ("micro_op", "word"), [(MicroOp(2047, 1, 1023), 0xFFC00FFF), (MicroOp(5, 300, 17), 0x04496005)]
)
def test_golden_micro_ops(micro_op: MicroOp, word: int) -> None:
    assert encode_micro_op(micro_op, DEFAULT_CONFIG) == word
    assert decode_micro_op(word, DEFAULT_CONFIG) == micro_op


def test_fields_that_fit_in_the_first_word_stay_there_and_others_move_to_bit_64() -> None:
    assert (
        layout(Opcode.GEMM, DEFAULT_CONFIG)["dst_factor_out"].word,
        layout(Opcode.GEMM, DEFAULT_CONFIG)["dst_factor_out"].shift,
    ) == (1, 0)
    # uop depth 1024, acc depth 512: the loops end at bit 57, so a 9-bit factor moves
    small = layout(Opcode.GEMM, SMALL_CONFIG)
    assert (small["iter_in"].shift + small["iter_in"].width, small["dst_factor_out"].word) == (57, 1)
    tiny = layout(Opcode.GEMM, Config.parse("1x16_i8w8a32_8_10_14_11"))
    # uop depth 64, acc depth 32: 8 + 6 + 7 + 28 = 49 bits, so both 5-bit factors still fit
    assert (tiny["dst_factor_in"].word, tiny["dst_factor_in"].shift) == (0, 54)
    assert (tiny["src_factor_out"].word, tiny["src_factor_out"].shift) == (1, 0)


@st.composite
def encoded(draw: st.DrawFn) -> tuple[Config, Instruction]:
    config = draw(st.sampled_from(CONFIGS))
    kind = draw(st.sampled_from([Load, Store, Gemm, Alu, Finish]))
    values: dict[str, object] = {}
    for field in layout(kind.opcode, config).values():
        if field.name == "memory":
            values[field.name] = draw(st.sampled_from(Memory))
        elif field.name == "alu_opcode":
            values[field.name] = draw(st.sampled_from(AluOpcode))
        elif field.width == 1:
            values[field.name] = draw(st.booleans())
        elif field.name != "opcode":
            values[field.name] = draw(st.integers(field.low, field.high))
    return config, kind(**values)


@given(encoded())
def test_round_trip(case: tuple[Config, Instruction]) -> None:
    config, instruction = case
    assert decode(*encode(instruction, config), config) == instruction


@given(encoded(), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_padding_bits_are_ignored(case: tuple[Config, Instruction], noise0: int, noise1: int) -> None:
    config, instruction = case
    words = list(encode(instruction, config))
    used = [0, 0]
    for field in layout(instruction.opcode, config).values():
        used[field.word] |= ((1 << field.width) - 1) << field.shift
    for index, noise in enumerate((noise0, noise1)):
        words[index] |= noise & ~used[index]
    assert decode(*words, config) == instruction


@given(st.integers(0, 2047), st.integers(0, 2047), st.integers(0, 1023))
def test_micro_op_round_trip(dst: int, src: int, wgt: int) -> None:
    micro_op = MicroOp(dst, src, wgt)
    assert decode_micro_op(encode_micro_op(micro_op, DEFAULT_CONFIG), DEFAULT_CONFIG) == micro_op


def test_a_stream_is_the_encodings_of_its_instructions() -> None:
    instructions = [instruction for instruction, _, _ in GOLDEN]
    words = encode_stream(instructions, DEFAULT_CONFIG)
    assert words.dtype == np.uint64
    assert words.tolist() == [[word0, word1] for _, word0, word1 in GOLDEN]
    assert decode_stream(words, DEFAULT_CONFIG) == instructions


@pytest.mark.parametrize(
    ("instruction", "message"),
    [
        (replace(GOLDEN[0][0], x_pad_0=16), "instruction 0 (LOAD): field x_pad_0 is 16, it holds 0 to 15"),
        (replace(GOLDEN[0][0], dram_base=2**32), "field dram_base is 4294967296, it holds 0 to 4294967295"),
        (replace(GOLDEN[0][0], dram_base=2**80), f"field dram_base is {2**80}"),
        (replace(GOLDEN[3][0], sram_base=-1), "(STORE): field sram_base is -1"),
        (replace(GOLDEN[4][0], iter_in=16384), "(GEMM): field iter_in is 16384, it holds 0 to 16383"),
        (replace(GOLDEN[6][0], imm=32768), "(ALU): field imm is 32768, it holds -32768 to 32767"),
        (replace(GOLDEN[6][0], imm=-32769), "field imm is -32769"),
    ],
)
def test_a_field_that_does_not_fit_is_named(instruction: Instruction, message: str) -> None:
    with pytest.raises(ProgramError) as caught:
        encode(instruction, DEFAULT_CONFIG)
    assert message in str(caught.value)


def test_a_micro_op_that_does_not_fit_is_named() -> None:
    with pytest.raises(ProgramError, match="micro-op 0: field wgt is 1024, it holds 0 to 1023"):
        encode_micro_op(MicroOp(0, 0, 1024), DEFAULT_CONFIG)


@pytest.mark.parametrize(
    ("word0", "word1", "message"),
    [
        (5, 0, "instruction 0 has opcode 5"),
        (6 << 7, 0, "instruction 0 has memory 6"),
        (4, 5 << 44, "instruction 0 has alu_opcode 5"),
    ],
)
def test_undefined_codes_are_refused(word0: int, word1: int, message: str) -> None:
    with pytest.raises(ProgramError, match=message):
        decode(word0, word1, DEFAULT_CONFIG)
