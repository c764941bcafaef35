"""Counters against hand counts and the reference's rules (vta-facts 5.1)."""

from __future__ import annotations

from edge_agent.vta.config import DEFAULT_CONFIG, Memory
from edge_agent.vta.counters import Counters, count
from edge_agent.vta.isa import Alu, AluOpcode, Finish, Gemm, Instruction, Load, Store, encode_stream


def counted(*instructions: Instruction) -> Counters:
    return count(encode_stream(instructions, DEFAULT_CONFIG), DEFAULT_CONFIG)


def test_the_reference_save_load_case() -> None:
    """6 x 6 elements loaded into ACC, shifted by 0 and stored: vta-facts 5.1's sanity value."""
    assert counted(
        Load(Memory.UOP, 0, 0, 1, 1, 1),
        Load(Memory.ACC, 0, 0, 6, 6, 6),
        Alu(AluOpcode.SHR, True, 0, 0, 1, 1, 36, 0, 1, 0, 1),
        Store(0, 0, 6, 6, 6),
        Finish(),
    ) == Counters(acc_load_nbytes=2304, out_store_nbytes=576, uop_load_nbytes=4, alu_counter=36)


def test_each_stream_is_counted_in_its_element_bytes_and_padding_is_not() -> None:
    assert counted(
        Load(Memory.INP, 0, 0, 3, 5, 9, 1, 1, 1, 1),
        Load(Memory.WGT, 0, 0, 2, 4, 4),
        Load(Memory.ACC_8BIT, 0, 0, 1, 7, 7),
        Load(Memory.INP, 0, 0, 0, 0, 0, push_next=True),
    ) == Counters(inp_load_nbytes=3 * 5 * 16, wgt_load_nbytes=8 * 256, acc_load_nbytes=7 * 64)


def test_reset_is_no_gemm_operation() -> None:
    assert counted(Gemm(True, 0, 9, 7, 5), Gemm(False, 2, 9, 7, 5)) == Counters(gemm_counter=7 * 7 * 5)


def test_counts_beyond_32_bits() -> None:
    assert counted(*[Gemm(False, 0, 8192, 16383, 16383)] * 2).gemm_counter == 2 * 8192 * 16383**2


def test_an_empty_stream() -> None:
    assert count(encode_stream([], DEFAULT_CONFIG), DEFAULT_CONFIG) == Counters()
