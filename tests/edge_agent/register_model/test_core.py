"""The registers of the model: control bits as Xilinx HLS has them, and runs of programs that lie in memory."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest

from edge_agent.boards import profile
from edge_agent.hardware.core import (
    AUTO_RESTART,
    COMPUTE_DONE,
    COMPUTE_DONE_VALID,
    CONTROL,
    DONE,
    FETCH_ADDRESS,
    FETCH_COUNT,
    IDLE,
    READY,
    START,
)
from edge_agent.hardware.dma import DmaBuffer
from edge_agent.hardware.placement import PlacedProgram, place, write_program
from edge_agent.register_model.core import ModelCore, model_blocks
from edge_agent.register_model.machine import Machine
from edge_agent.register_model.memory import PhysicalMemory
from edge_agent.register_model.quirks import Quirks
from tests.edge_agent.vta.builder import TiledConvolution

BASE = 0x10000000
X = np.random.default_rng(0).integers(-128, 128, (1, 2, 8, 8, 1, 16), np.int8)


class Bench:
    """A core, and a program in its memory."""

    def __init__(self, builder: TiledConvolution | None = None) -> None:
        board = profile("pynq")
        self.memory = PhysicalMemory(BASE, np.zeros(1 << 16, np.uint8))
        self.quirks = Quirks()
        self.core = ModelCore(Machine(self.memory, board.vta, board.features), lambda: self.quirks)
        self.blocks = model_blocks(self.core)
        self.builder = builder or TiledConvolution()
        program = self.builder.build()
        self.placed: PlacedProgram = write_program(program, place(program), DmaBuffer(BASE, self.memory.array))
        self.placed.array(0)[...] = X

    def start(self, offset: int = 0) -> None:
        self.blocks["fetch"].write(FETCH_COUNT, len(self.placed.program.instructions))
        self.blocks["fetch"].write(FETCH_ADDRESS, self.placed.instructions + offset)
        self.blocks["fetch"].write(CONTROL, START)

    def release(self) -> None:
        for name in ("load", "compute", "store"):
            self.blocks[name].write(CONTROL, START | AUTO_RESTART)

    @property
    def result(self) -> np.ndarray:
        return self.placed.array(1)

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.001)

    def finish(self) -> None:
        self.until(lambda: self.core.peek("compute", COMPUTE_DONE) == 1)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_after_programming(bench: Bench) -> None:
    assert {name: block.read(CONTROL) for name, block in bench.blocks.items()} == dict.fromkeys(bench.blocks, IDLE)
    assert bench.blocks["compute"].read(COMPUTE_DONE) == bench.blocks["compute"].read(COMPUTE_DONE_VALID) == 0


def test_a_run(bench: Bench) -> None:
    bench.start()
    bench.release()
    bench.finish()
    np.testing.assert_array_equal(bench.result, bench.builder.expected(X))
    assert bench.blocks["fetch"].read(CONTROL) == DONE | IDLE | READY
    assert bench.blocks["compute"].read(CONTROL) == START | AUTO_RESTART


def test_reading_clears_what_it_clears(bench: Bench) -> None:
    bench.start()
    bench.release()
    bench.finish()
    fetch, compute = bench.blocks["fetch"], bench.blocks["compute"]
    assert [fetch.read(CONTROL) & DONE for _ in range(2)] == [DONE, 0]
    assert [compute.read(COMPUTE_DONE_VALID) for _ in range(2)] == [1, 0]
    assert [compute.read(COMPUTE_DONE) for _ in range(2)] == [1, 1]
    assert bench.core.peek("fetch", CONTROL) & IDLE


def test_modules_that_are_not_started_take_nothing(bench: Bench) -> None:
    bench.start()
    time.sleep(0.05)
    assert bench.core.peek("compute", COMPUTE_DONE) == 0 and not bench.result.any()
    bench.release()
    bench.finish()


def test_done_lasts_until_computes_next_instruction(bench: Bench) -> None:
    bench.release()
    bench.start()
    bench.finish()
    bench.blocks["compute"].read(COMPUTE_DONE_VALID)
    bench.quirks = Quirks(begin_seconds=60)
    bench.start()
    bench.until(lambda: not bench.core.peek("fetch", CONTROL) & START)
    assert bench.core.peek("compute", COMPUTE_DONE) == 1 and bench.core.peek("compute", COMPUTE_DONE_VALID) == 0
    bench.core.reset()


def test_done_is_written_by_each_run(bench: Bench) -> None:
    bench.release()
    for _ in range(3):
        bench.start()
        bench.until(lambda: bench.core.peek("compute", COMPUTE_DONE_VALID) == 1)
        bench.finish()
        assert bench.blocks["compute"].read(COMPUTE_DONE_VALID) == 1


def test_base_registers_are_added(bench: Bench) -> None:
    """The same program elsewhere: everything but its instructions has moved."""
    shift = 0x8000
    assert bench.placed.placement.nbytes <= shift
    bench.memory.array[shift:] = bench.memory.array[:shift]
    bench.memory.array[bench.placed.placement.instructions.end : shift] = 0
    for name, offset in (("load", 0x10), ("load", 0x18), ("compute", 0x20), ("compute", 0x28), ("store", 0x10)):
        bench.blocks[name].write(offset, shift)
    bench.start()
    bench.release()
    bench.finish()
    assert not bench.result.any()
    begin = bench.placed.placement.tensors[1].begin + shift
    stored = bench.memory.array[begin : begin + X.nbytes].view(np.int8).reshape(X.shape)
    np.testing.assert_array_equal(stored, bench.builder.expected(X))


def test_memory_is_read_again_in_each_run(bench: Bench) -> None:
    """Other weights, other micro-ops and other inputs at the same place count."""
    bench.release()
    other = TiledConvolution(seed=9)
    for builder in (bench.builder, other, bench.builder):
        program = builder.build()
        write_program(program, place(program), DmaBuffer(BASE, bench.memory.array))
        bench.result[...] = 77
        bench.start()
        bench.until(lambda: not (bench.result == 77).all())
        bench.finish()
        np.testing.assert_array_equal(bench.result, builder.expected(X))


def test_a_reset_abandons_a_run(bench: Bench) -> None:
    bench.quirks = Quirks(begin_seconds=60)
    bench.start()
    bench.release()
    bench.core.reset()
    assert bench.core.peek("compute", CONTROL) == IDLE and bench.core.peek("fetch", FETCH_COUNT) == 0
    bench.quirks = Quirks()
    bench.start()
    bench.release()
    bench.finish()
    np.testing.assert_array_equal(bench.result, bench.builder.expected(X))


@pytest.mark.parametrize("hang", ["start", "end"])
def test_a_core_that_hangs_does_so_until_it_is_reset(bench: Bench, hang: str) -> None:
    bench.release()
    bench.quirks = Quirks(hang=hang)
    for _ in range(2):
        bench.start()
        bench.until(lambda: not bench.core.peek("fetch", CONTROL) & START)
        if hang == "end":
            bench.until(lambda: bool(bench.result.any()))
        time.sleep(0.05)
        assert bench.core.peek("compute", COMPUTE_DONE) == 0
        bench.quirks = Quirks()
    assert bench.result.any() == (hang == "end")
    bench.core.reset()
    bench.release()
    bench.start()
    bench.finish()


@pytest.mark.parametrize(
    ("kind", "changes", "rule"),
    [
        ("shift", {"imm": 16}, "shift range"),
        ("store", {"dram_base": 0x100000}, "bus"),
        ("gemm", {"uop_end": 8000}, "uninitialised read"),
        ("load", {"push_next": False}, "deadlock"),
    ],
)
def test_programs_that_break_a_rule_hang(
    kind: str, changes: dict[str, object], rule: str, caplog: pytest.LogCaptureFixture
) -> None:
    builder = TiledConvolution()
    builder.edit(builder.at[kind][-1], **changes)
    bench = Bench(builder)
    bench.release()
    bench.start()
    bench.until(lambda: rule in caplog.text)
    assert bench.core.peek("compute", COMPUTE_DONE) == 0


def test_instructions_that_are_not_in_memory_hang(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.release()
    bench.start(offset=1 << 20)
    bench.until(lambda: "no memory answers" in caplog.text)


@pytest.mark.parametrize("bits", [1, 5])
def test_flipped_bits(bench: Bench, bits: int) -> None:
    bench.quirks = Quirks(flip=bits)
    bench.release()
    bench.start()
    bench.finish()
    assert np.count_nonzero(bench.result != bench.builder.expected(X)) == bits
