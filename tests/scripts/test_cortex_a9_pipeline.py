"""The model of the pipeline by which kernels are counted."""

from __future__ import annotations

import pytest
from scripts.cortex_a9_pipeline import parse, steady_cycles


def cycles(*block: str) -> int:
    return steady_cycles([parse(text) for text in block])


def test_one_instruction_a_cycle() -> None:
    assert cycles("mov r0, r1", "add r2, r3, #1", "mov r4, r5") == 3


def test_an_instruction_waits_for_its_operands() -> None:
    assert cycles("ldr r0, [r1]", "add r2, r0, #1") == 5
    assert cycles("vadd.f32 s0, s2, s4", "vmul.f32 s6, s0, s2") == 6
    assert cycles("vadd.f32 s0, s2, s4", "vmul.f32 s6, s3, s2") == 2


def test_a_block_that_feeds_itself_waits_for_its_last_run() -> None:
    assert cycles("vadd.f32 s0, s0, s4") == 5
    assert cycles("vadd.i32 q0, q0, q1") == 4


def test_128_bits_take_two_cycles() -> None:
    assert cycles("vadd.i32 q0, q1, q2") == 2
    assert cycles("vadd.i32 d0, d1, d2") == 1
    assert cycles("vld1.8 {d16, d17}, [r0]!") == 2
    assert cycles("vst1.32 {d16}, [r0]") == 1


def test_names_of_one_register_are_one() -> None:
    """q1 is d2 and d3, which are s4 to s7."""
    assert cycles("vadd.f32 s7, s30, s31", "vmov.i32 d10, d3") == 6
    assert cycles("vadd.f32 s7, s30, s31", "vmov.i32 d10, d2") == 2


def test_an_accumulator_is_needed_late() -> None:
    assert cycles("vmlal.s16 q0, d4, d5") < cycles("vmull.s16 q0, d4, d5", "vadd.i32 q1, q1, q0")


def test_comparisons_reach_the_flags_late() -> None:
    assert cycles("vcmp.f32 s0, s2", "vmrs apsr_nzcv, fpscr", "vmovgt.f32 s4, s6") == 6


def test_a_conditional_move_keeps_its_destination() -> None:
    assert parse("vmovgt.f32 s4, s6").reads == {"flags", "w4", "w6"}


@pytest.mark.parametrize(
    ("text", "kind", "writes"),
    [
        ("ldr r0, [r1, #4]!", "core", {"r0", "r1"}),
        ("str r0, [r1]", "core", set()),
        ("cmp r0, #3", "core", {"flags"}),
        ("subs r2, r2, #4", "core", {"r2", "flags"}),
        ("bne #0x20a24", "core", set()),
        ("vmov r5, s8", "64-bit", {"r5"}),
        ("vdiv.f32 s0, s1, s2", "64-bit", {"w0"}),
        ("vmlal.s16 q8, d0, d2[1]", "128-bit", {"w32", "w33", "w34", "w35"}),
        ("vldmia r2!, {s8}", "64-bit", {"w8"}),
    ],
)
def test_parsing(text: str, kind: str, writes: set[str]) -> None:
    instruction = parse(text)
    assert (instruction.kind, instruction.writes) == (kind, writes)
