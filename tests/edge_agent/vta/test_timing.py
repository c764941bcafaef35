"""Predicted cycles of streams short enough to reckon by hand."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from edge_agent.vta.config import DEFAULT_CONFIG, Memory
from edge_agent.vta.counters import Counters
from edge_agent.vta.isa import Alu, AluOpcode, Finish, Gemm, Instruction, Load, Store, encode_stream
from edge_agent.vta.program import Program
from edge_agent.vta.timing import Parameters, Timing, predict, sensitivity

GEMM = Gemm(reset=False, uop_bgn=0, uop_end=10, iter_out=3, iter_in=4)
ALU = Alu(alu_opcode=AluOpcode.MAX, use_imm=True, imm=0, uop_bgn=0, uop_end=10, iter_out=3, iter_in=4)
INPUT = Load(memory=Memory.INP, sram_base=0, dram_base=0, y_size=1, x_size=64, x_stride=64)
WEIGHT = Load(memory=Memory.WGT, sram_base=0, dram_base=0, y_size=1, x_size=64, x_stride=64)
OUTPUT = Store(sram_base=0, dram_base=0, y_size=1, x_size=64, x_stride=64)


def program(*instructions: Instruction) -> Program:
    return Program(
        "test",
        DEFAULT_CONFIG.name,
        frozenset(),
        encode_stream(instructions, DEFAULT_CONFIG),
        (),
        {},
        (),
        (),
        Counters(),
    )


def timing(*instructions: Instruction, parameters: Parameters | None = None, bus_bytes: int = 8) -> Timing:
    return predict(program(*instructions), bus_bytes, parameters or Parameters())


@pytest.mark.parametrize(
    ("instructions", "cycles"),
    [
        ([Finish()], 2 + 30),
        # Fetched at 2; 30 to issue; 12 passes of 8 + 10 micro-ops.
        ([GEMM], 2 + 30 + 12 * (8 + 10)),
        ([ALU], 2 + 30 + 12 * (8 + 2 * 10)),
        # 64 elements of 16 bytes are 128 beats of 8, after one burst's latency.
        ([INPUT], 2 + 30 + 40 + 128),
        # 64 elements of 256 bytes are 2048 beats in 8 bursts.
        ([WEIGHT], 2 + 30 + 8 * 40 + 2048),
        ([OUTPUT], 2 + 30 + 40 + 128),
        # Micro-ops come through a 32-bit port.
        ([Load(memory=Memory.UOP, sram_base=0, dram_base=0, y_size=1, x_size=100, x_stride=100)], 2 + 30 + 40 + 100),
        # Rows are bursts of their own, apart or not.
        ([Load(memory=Memory.INP, sram_base=0, dram_base=0, y_size=4, x_size=16, x_stride=20)], 2 + 30 + 4 * 40 + 128),
        # Padding is written, one element a cycle, without the bus.
        ([Load(memory=Memory.INP, sram_base=0, dram_base=0, y_size=4, x_size=16, x_stride=16, x_pad_0=1, x_pad_1=2)],
         2 + 30 + 4 * 40 + 128 + 12),
        ([Load(memory=Memory.INP, sram_base=0, dram_base=0, y_size=4, x_size=16, x_stride=16, y_pad_0=1, y_pad_1=2,
               x_pad_1=3)],
         2 + 30 + 4 * 40 + 128 + (1 + 4 + 2) * 19 - 64),
        # In one module one after the other.
        ([GEMM, ALU], 2 + 30 + 12 * 18 + 30 + 12 * 28),
    ],
)  # fmt: skip
def test_single_instructions(instructions: Sequence[Instruction], cycles: int) -> None:
    assert timing(*instructions).cycles == cycles


def test_modules_overlap_unless_a_token_orders_them() -> None:
    free = timing(INPUT, GEMM)
    assert free.cycles == 4 + 30 + 12 * 18
    assert (free.load_busy, free.compute_busy, free.store_busy) == (30 + 40 + 128, 30 + 12 * 18, 0)
    ordered = timing(
        Load(memory=Memory.INP, sram_base=0, dram_base=0, y_size=1, x_size=64, x_stride=64, push_next=True),
        Gemm(reset=False, uop_bgn=0, uop_end=10, iter_out=3, iter_in=4, pop_prev=True),
    )
    assert ordered.cycles == (2 + 30 + 40 + 128) + 30 + 12 * 18


def test_transfers_of_two_modules_share_the_bus() -> None:
    assert timing(INPUT, OUTPUT).cycles == 2 + 30 + 40 + 128 + 128


def test_a_wider_bus_is_faster() -> None:
    assert timing(INPUT, bus_bytes=16).cycles == 2 + 30 + 40 + 64


def test_a_full_command_queue_blocks_fetch() -> None:
    """Behind more than 512 waiting loads, a GEMM is fetched only when there is room again."""
    loads = [INPUT] * 600
    last = Gemm(reset=False, uop_bgn=0, uop_end=1)
    expected_room = 2 + (600 - 512) * (30 + 40 + 128) - (30 + 40 + 128)
    assert timing(*loads, last).cycles == 2 + 600 * (30 + 40 + 128)
    long = Gemm(reset=False, uop_bgn=0, uop_end=8000, iter_out=100)
    assert timing(*loads, long).cycles >= expected_room + 100 * 8000
    assert timing(long, *loads).cycles == 2 + 30 + 100 * 8008


def test_each_parameter_counts() -> None:
    base = timing(INPUT, GEMM).cycles
    assert timing(INPUT, GEMM, parameters=Parameters(loop_entry=9)).cycles == base + 12
    assert timing(INPUT, GEMM, parameters=Parameters(instruction=31)).cycles == base + 1
    assert timing(INPUT, GEMM, parameters=Parameters(fetch=3)).cycles == base + 2
    assert timing(WEIGHT, parameters=Parameters(burst_latency=41)).cycles == timing(WEIGHT).cycles + 8
    assert timing(WEIGHT, parameters=Parameters(burst_beats=512)).cycles == timing(WEIGHT).cycles - 4 * 40


def test_sensitivity_is_the_prediction_with_a_parameter_changed() -> None:
    loads = [WEIGHT, INPUT, GEMM]
    found = {entry.parameter: entry for entry in sensitivity(program(*loads), 8)}
    assert set(found) == {"loop_entry", "instruction", "burst_latency", "burst_beats", "fetch"}
    for name, entry in found.items():
        assert entry.value == getattr(Parameters(), name)
        halved, doubled = (Parameters(**{name: value}) for value in (entry.value // 2, 2 * entry.value))
        assert entry.halved == timing(*loads, parameters=halved).cycles
        assert entry.doubled == timing(*loads, parameters=doubled).cycles
    assert found["burst_latency"].halved == timing(*loads).cycles - 9 * 20
    assert found["burst_beats"].doubled == timing(*loads).cycles - 4 * 40


def test_a_parameter_is_never_halved_to_nothing() -> None:
    entry = next(e for e in sensitivity(program(WEIGHT), 8, Parameters(burst_beats=1)) if e.parameter == "burst_beats")
    assert entry.halved == timing(WEIGHT, parameters=Parameters(burst_beats=1)).cycles
