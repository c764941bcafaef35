"""The Zynq driver against a model of the hardware behind it, with what hardware does to drivers."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.boards import profile
from edge_agent.devices import open_accelerator
from edge_agent.devices.base import AcceleratorInfo
from edge_agent.devices.zynq import Zynq, open_zynq
from edge_agent.errors import (
    DeadlineError,
    DegradedError,
    HardwareError,
    IncompatibleError,
    InputError,
    ProgramError,
)
from edge_agent.hardware.core import Core
from edge_agent.hardware.journal import Journal
from edge_agent.hardware.system import System
from edge_agent.register_model.core import model_blocks
from edge_agent.register_model.machine import Machine
from edge_agent.register_model.memory import PhysicalMemory
from edge_agent.register_model.quirks import Quirks
from edge_agent.register_model.stream import Stream, read_stream
from edge_agent.vta.config import Memory
from edge_agent.vta.isa import decode_stream

from ..hardware.systems import add_device, add_udmabuf
from ..vta.builder import ProgramBuilder, TiledConvolution
from ..vta.reference import ReferenceMachine
from .modelled import BASE, CachedMemory, CoherentMemory, Modelled

SHAPE = (1, 2, 8, 8, 1, 16)


def inputs(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-128, 128, SHAPE, np.int8)


def check_run(driver: Zynq, builder: TiledConvolution, loaded: object, seed: int) -> None:
    """A run, with a result that differs from every other seed's."""
    x, y = inputs(seed), np.full(SHAPE, 99, np.int8)
    stats = driver.run(loaded, {"x": x}, {"y": y})  # type: ignore[arg-type]
    np.testing.assert_array_equal(y, builder.expected(x))
    assert stats.counters.gemm_counter == 8 * 8 * 2 * 2 * 9
    assert 0 < stats.device["accelerator_seconds"] <= stats.seconds


def times_out(driver: Zynq, loaded: object) -> None:
    with pytest.raises(DeadlineError, match=r"program 'test' did not finish within 0\.25 s"):
        driver.run(loaded, {"x": inputs()}, {"y": np.empty(SHAPE, np.int8)})  # type: ignore[arg-type]


def test_it_describes_itself() -> None:
    info = AcceleratorInfo("zynq", "1x16_i8w8a32_15_15_18_17", frozenset({"program_across_layers"}), 100_000_000)
    assert Modelled().driver().describe() == info


def test_programs_share_the_accelerator_and_stay_loaded() -> None:
    driver = Modelled().driver()
    builders = [TiledConvolution(seed=seed) for seed in (1, 2)]
    loaded = [driver.load(builder.build()) for builder in builders]
    for seed in range(3):
        for builder, program in zip(builders, loaded, strict=True):
            check_run(driver, builder, program, seed)


class NaiveMachine(Machine):
    """Executes with the tests' own implementation of the hardware, whose memories are full of garbage."""

    def execute(self, count: int, address: int, bases: Mapping[Memory, int]) -> Stream:
        words = np.frombuffer(self.memory.view(address, address + 16 * count).tobytes(), np.uint64).reshape(-1, 2)
        naive = ReferenceMachine(TiledConvolution().build(), seed=address % 1000)
        whole = np.zeros(BASE + len(self.memory.array), np.uint8)
        whole[BASE:] = self.memory.array
        naive.dram = whole
        naive.execute(decode_stream(words, self._config))
        self.memory.array[:] = whole[BASE:]
        return read_stream(words, self._config, self._features, self.memory, bases)


def test_another_implementation_of_the_hardware_agrees() -> None:
    modelled = Modelled(make_machine=lambda memory, board: NaiveMachine(memory, board.vta, board.features))
    driver, builder = modelled.driver(patience=30), TiledConvolution(seed=3)
    loaded = driver.load(builder.build())
    for seed in range(2):
        check_run(driver, builder, loaded, seed)


@pytest.mark.parametrize("quirks", [Quirks(begin_seconds=0.1), Quirks(done_seconds=0.1), Quirks(0.05, 0.05)])
def test_a_done_of_the_run_before_is_not_believed(quirks: Quirks) -> None:
    modelled = Modelled()
    driver, builder = modelled.driver(patience=30), TiledConvolution()
    loaded = driver.load(builder.build())
    check_run(driver, builder, loaded, 0)
    modelled.quirks = quirks
    for seed in (1, 2):
        assert modelled.core.peek("compute", 0x18) == 1  # as it stays until compute's next instruction
        check_run(driver, builder, loaded, seed)


def test_the_model_does_show_the_old_done() -> None:
    """Else the test above would prove nothing: whoever polls DONE alone is told that a run has ended which has not."""
    modelled = Modelled()
    driver, builder = modelled.driver(patience=30), TiledConvolution()
    loaded = driver.load(builder.build())
    check_run(driver, builder, loaded, 0)
    modelled.quirks = Quirks(begin_seconds=60)
    placed, core = loaded.placed, Core(model_blocks(modelled.core))
    placed.array(0)[...] = inputs(1)
    core.start(len(loaded.program.instructions), placed.instructions)
    while core.is_fetching():
        pass
    assert core.says_done()
    old = builder.expected(inputs(0))
    np.testing.assert_array_equal(placed.array(1), old)
    modelled.core.reset()  # or a thread of the model would wait for the rest of the minute


@settings(max_examples=25)
@given(st.lists(st.tuples(st.floats(0, 0.01), st.floats(0, 0.01)), min_size=1, max_size=4))
def test_no_timing_gives_an_old_result(delays: list[tuple[float, float]]) -> None:
    modelled = Modelled()
    driver, builder = modelled.driver(patience=30), TiledConvolution()
    loaded = driver.load(builder.build())
    for seed, (begin, done) in enumerate(delays):
        modelled.quirks = Quirks(begin, done)
        check_run(driver, builder, loaded, seed)


@pytest.mark.parametrize("hang", ["start", "end"])
def test_a_run_that_never_ends_degrades_a_board_without_reset(hang: str) -> None:
    modelled = Modelled()
    driver, builder = modelled.driver(), TiledConvolution()
    loaded = driver.load(builder.build())
    check_run(driver, builder, loaded, 0)
    modelled.quirks = Quirks(hang=hang)
    times_out(driver, loaded)
    assert driver.condition() == ""
    driver.reset()
    assert driver.condition() == "a run did not finish; nothing but programming resets it"
    modelled.quirks = Quirks()
    for refused in (lambda: driver.load(builder.build()), lambda: check_run(driver, builder, loaded, 1)):
        with pytest.raises(DegradedError, match=r"cannot be used: a run did not finish; .*edgectl flash"):
            refused()
    modelled.core.reset()  # as programming does
    driver.reprogrammed()
    assert driver.condition() == ""
    check_run(driver, builder, loaded, 2)


def test_programming_that_nobody_told_of_ends_it_too() -> None:
    """Such as over SSH, beside the agent."""
    modelled = Modelled(quirks=Quirks(hang="start"))
    driver, builder = modelled.driver(), TiledConvolution()
    loaded = driver.load(builder.build())
    times_out(driver, loaded)
    driver.reset()
    assert driver.condition()
    modelled.quirks = Quirks()
    modelled.core.reset()
    check_run(driver, builder, loaded, 1)
    assert driver.condition() == ""


@pytest.mark.parametrize("hang", ["start", "end"])
def test_the_fabrics_reset_brings_it_back(hang: str) -> None:
    modelled = Modelled(can_reset=True)
    driver, builder = modelled.driver(), TiledConvolution()
    loaded = driver.load(builder.build())
    modelled.quirks = Quirks(hang=hang)
    times_out(driver, loaded)
    driver.reset()
    assert modelled.resets == 1 and driver.condition() == ""
    modelled.quirks = Quirks()
    check_run(driver, builder, loaded, 1)


def test_a_reset_that_does_not_reach_it() -> None:
    modelled = Modelled(can_reset=True, quirks=Quirks(hang="start", reset_works=False))
    driver = modelled.driver()
    loaded = driver.load(TiledConvolution().build())
    times_out(driver, loaded)
    driver.reset()
    assert driver.condition() == "a run did not finish; the fabric's reset is out of reach"


def test_a_reset_that_does_nothing_is_noticed() -> None:
    modelled = Modelled(quirks=Quirks(hang="start"))
    driver = modelled.driver()
    driver._reset_core = lambda: None
    loaded = driver.load(TiledConvolution().build())
    times_out(driver, loaded)
    driver.reset()
    assert driver.condition() == "a run did not finish; the fabric's reset did not reach it"


class GatedMachine(Machine):
    """Everything is stored, but a run ends only once the gate is open."""

    gate = threading.Event()

    def execute(self, count: int, address: int, bases: Mapping[Memory, int]) -> Stream:
        stream = super().execute(count, address, bases)
        assert self.gate.wait(60)
        return stream


def test_a_run_that_ends_late_is_seen_by_the_next() -> None:
    modelled = Modelled(make_machine=lambda memory, board: GatedMachine(memory, board.vta, board.features))
    driver, builder = modelled.driver(), TiledConvolution()
    loaded = driver.load(builder.build())
    times_out(driver, loaded)
    driver.reset()
    assert "a run did not finish" in driver.condition()
    with pytest.raises(DegradedError):
        check_run(driver, builder, loaded, 1)
    GatedMachine.gate.set()
    while modelled.core.peek("compute", 0x18) == 0:
        time.sleep(0.01)
    check_run(driver, builder, loaded, 2)
    assert driver.condition() == ""


def test_memory_that_a_run_may_still_write_to_is_not_given_out() -> None:
    modelled = Modelled(quirks=Quirks(hang="end"))
    memory = CoherentMemory(modelled.physical.array)
    driver, builder = modelled.driver(memory), TiledConvolution()
    free = memory.free_bytes
    loaded, other = driver.load(builder.build()), driver.load(builder.build())
    times_out(driver, loaded)
    driver.unload(loaded)
    driver.unload(loaded)
    driver.unload(other)
    held = free - memory.free_bytes
    assert held >= loaded.placed.placement.nbytes
    driver.reset()
    assert free - memory.free_bytes == held
    modelled.core.reset()
    driver.reprogrammed()
    assert memory.free_bytes == free


def test_loading_and_unloading_leaks_nothing() -> None:
    modelled = Modelled()
    memory = CoherentMemory(modelled.physical.array)
    driver, program = modelled.driver(memory), TiledConvolution().build()
    free = memory.free_bytes
    loaded = [driver.load(program) for _ in range(4)]
    addresses = [entry.placed.instructions for entry in loaded]
    for entry in loaded:
        driver.unload(entry)
    assert memory.free_bytes == free
    assert [driver.load(program).placed.instructions for _ in range(4)] == addresses
    driver.close()
    assert memory.free_bytes == free


def test_a_failed_load_leaves_nothing() -> None:
    modelled = Modelled(memory_bytes=30_000)
    memory = CoherentMemory(modelled.physical.array)
    driver, program = modelled.driver(memory), TiledConvolution().build()
    driver.load(program)
    free = memory.free_bytes
    with pytest.raises(HardwareError, match=rf"bytes of contiguous DMA memory, memory has {free} of"):
        driver.load(program)
    assert memory.free_bytes == free


def test_a_flipped_bit_comes_out() -> None:
    """The driver does not know what is right; the bundle's golden sample does (tests/integration)."""
    modelled = Modelled(quirks=Quirks(flip=1))
    driver, builder = modelled.driver(), TiledConvolution()
    x, y = inputs(), np.empty(SHAPE, np.int8)
    driver.run(driver.load(builder.build()), {"x": x}, {"y": y})
    difference = y ^ builder.expected(x)
    assert np.flatnonzero(difference).size == 1 and difference.max() == 1


def test_caches_are_maintained_where_the_port_is_not_coherent() -> None:
    modelled = Modelled()
    memory = CachedMemory(modelled.physical.array)
    driver, builder = modelled.driver(memory, patience=30), TiledConvolution()
    loaded = driver.load(builder.build())
    for seed in range(3):
        check_run(driver, builder, loaded, seed)
    modelled.quirks = Quirks(begin_seconds=0.02, done_seconds=0.02)
    check_run(driver, builder, loaded, 4)


def test_only_what_changes_is_synchronised() -> None:
    modelled = Modelled()
    memory = CoherentMemory(modelled.physical.array)
    driver, builder = modelled.driver(memory), TiledConvolution()
    loaded = driver.load(builder.build())
    start = loaded.placed.instructions - BASE
    placement, nbytes = loaded.placed.placement, int(np.prod(SHAPE))
    assert memory.synchronised == [("device", start, start + placement.inputs.begin)]
    memory.synchronised.clear()
    check_run(driver, builder, loaded, 0)
    x, y = start + placement.inputs.begin, start + placement.outputs.begin
    sentinel = (y + nbytes - 8, y + nbytes)
    assert memory.synchronised[:2] == [("device", x, x + nbytes), ("device", *sentinel)]
    assert set(memory.synchronised[2:-1]) == {("cpu", *sentinel)}
    assert memory.synchronised[-1] == ("cpu", y, y + nbytes)


def test_an_agent_killed_in_a_run_that_ends() -> None:
    """The next one waits, and only then gives out the memory that the run writes to."""
    modelled = Modelled(quirks=Quirks(begin_seconds=0.15, done_seconds=0.15))
    builder = TiledConvolution()
    first = modelled.driver()
    loaded = first.load(builder.build())
    first._start(loaded)  # and the process is gone
    modelled.quirks = Quirks()
    second = modelled.driver(patience=30)
    again = second.load(builder.build())
    assert modelled.core.peek("compute", 0x18) == 1
    assert again.placed.instructions == loaded.placed.instructions  # it starts with all of the memory
    check_run(second, builder, again, 1)


@pytest.mark.parametrize("can_reset", [False, True])
def test_an_agent_killed_in_a_run_that_hangs(can_reset: bool) -> None:
    modelled = Modelled(quirks=Quirks(hang="start"), can_reset=can_reset)
    builder = TiledConvolution()
    first = modelled.driver()
    first._start(first.load(builder.build()))
    modelled.quirks = Quirks()
    second = modelled.driver()
    if can_reset:
        check_run(second, builder, second.load(builder.build()), 1)
        return
    with pytest.raises(DegradedError, match="an earlier process has started does not finish"):
        second.load(builder.build())
    assert "earlier process" in second.condition()
    third = modelled.driver()  # the agent is started again: it knows as much
    with pytest.raises(DegradedError, match="an earlier process has started does not finish"):
        third.load(builder.build())
    modelled.core.reset()
    third.reprogrammed()
    check_run(third, builder, third.load(builder.build()), 1)


def test_a_hang_behind_an_old_done_is_not_taken_for_an_end() -> None:
    """The first run left DONE at 1, the second one never begins: registers alone cannot tell the two apart."""
    modelled = Modelled()
    builder, first = TiledConvolution(), modelled.driver()
    loaded = first.load(builder.build())
    check_run(first, builder, loaded, 0)
    modelled.quirks = Quirks(hang="start")
    first._start(loaded)
    core = Core(model_blocks(modelled.core))
    while core.is_fetching():
        pass
    assert core.says_done()
    with pytest.raises(DegradedError):
        modelled.driver().load(builder.build())


def test_an_accelerator_that_others_have_used() -> None:
    """Auto-restart is set, and no journal says by whom: it is taken over once it is done."""
    modelled = Modelled(quirks=Quirks(done_seconds=0.1))
    builder, first = TiledConvolution(), modelled.driver()
    first._start(first.load(builder.build()))
    modelled.physical.array[:256] = 0x55  # what was there before is nobody's journal
    modelled.quirks = Quirks()
    second = modelled.driver(patience=30)
    check_run(second, builder, second.load(builder.build()), 1)


def test_a_journal_without_a_run_and_registers_after_one() -> None:
    modelled = Modelled()
    builder, first = TiledConvolution(), modelled.driver()
    check_run(first, builder, first.load(builder.build()), 0)
    entry = Journal(modelled.physical.array).read()
    assert entry is not None and not entry.running
    second = modelled.driver()
    check_run(second, builder, second.load(builder.build()), 1)


def test_an_interrupted_wait_is_continued_by_the_next_run() -> None:
    """Ctrl-C between start and end: the run goes on, and the next one waits for it instead of starting into it."""
    modelled = Modelled(quirks=Quirks(done_seconds=0.1))
    driver, builder = modelled.driver(patience=30), TiledConvolution()
    loaded = driver.load(builder.build())
    driver._start(loaded)
    assert driver._pending is not None
    check_run(driver, builder, loaded, 1)


def test_an_empty_fpga_is_not_touched() -> None:
    modelled = Modelled()
    states = ["unknown"]

    class Untouchable(dict[str, object]):
        def __getitem__(self, name: str) -> object:
            assert states[0] == "operating", "the processor would hang"
            return super().__getitem__(name)

    def require_programmed() -> None:
        if states[0] != "operating":
            raise DegradedError("the FPGA is not programmed")

    driver, builder = modelled.driver(require_programmed=require_programmed), TiledConvolution()
    driver._core = Core(Untouchable(model_blocks(modelled.core)))  # type: ignore[arg-type]
    driver.reset()
    assert driver.condition() == ""
    with pytest.raises(DegradedError, match="not programmed"):
        driver.load(builder.build())
    assert driver.condition() == "the FPGA is not programmed"
    states[0] = "operating"
    driver.reprogrammed()
    loaded = driver.load(builder.build())
    check_run(driver, builder, loaded, 0)
    states[0] = "write"  # somebody programs it now
    with pytest.raises(DegradedError, match="not programmed"):
        check_run(driver, builder, loaded, 1)
    states[0] = "operating"
    modelled.core.reset()
    check_run(driver, builder, loaded, 2)


def test_an_unloaded_or_foreign_program_does_not_run() -> None:
    driver, other = Modelled().driver(), Modelled().driver()
    loaded, foreign = driver.load(TiledConvolution().build()), other.load(TiledConvolution().build())
    driver.unload(loaded)
    driver.unload(foreign)
    for program in (loaded, foreign):
        with pytest.raises(InputError, match="'test' is not loaded"):
            driver.run(program, {"x": inputs()}, {"y": inputs()})
    other.run(foreign, {"x": inputs()}, {"y": inputs()})


def test_wrong_arrays_start_nothing() -> None:
    modelled = Modelled()
    driver = modelled.driver()
    loaded = driver.load(TiledConvolution().build())
    for x, y in ((inputs().astype(np.int32), inputs()), (inputs()[:, :1], inputs()), (inputs(), inputs()[0])):
        with pytest.raises(InputError, match="tensors"):
            driver.run(loaded, {"x": x}, {"y": y})
    assert modelled.core.peek("fetch", 0x10) == 0


def test_programs_that_do_not_fit_are_refused() -> None:
    driver, program = Modelled().driver(), TiledConvolution().build()
    with pytest.raises(IncompatibleError, match="4x8_i8w8a32_15_16_16_18, this accelerator has 1x16"):
        driver.load(replace(program, config="4x8_i8w8a32_15_16_16_18"))
    with pytest.raises(IncompatibleError, match="needs alu_mul"):
        driver.load(replace(program, features=frozenset({"alu_mul"})))
    broken = TiledConvolution()
    broken.edit(broken.at["store"][-1], dram_base=2**31)
    with pytest.raises(ProgramError, match="dram bounds"):
        driver.load(broken.build())
    with pytest.raises(ProgramError, match="stores nothing"):
        empty = ProgramBuilder()
        empty.instructions = [TiledConvolution().instructions[-1].__class__()]
        empty.addressed = [None]
        driver.load(empty.build())


def test_a_program_that_breaks_a_rule_hangs_and_is_reset() -> None:
    """What only the full verifier finds gets past the driver; the strict model then does what is worst."""
    broken = TiledConvolution()
    broken.edit(broken.at["shift"][0], imm=16)
    modelled = Modelled(can_reset=True)
    driver, builder = modelled.driver(), TiledConvolution()
    loaded = driver.load(broken.build())
    times_out(driver, loaded)
    driver.reset()
    check_run(driver, builder, driver.load(builder.build()), 0)


def test_a_status_thread_may_ask_for_the_condition() -> None:
    modelled = Modelled(quirks=Quirks(hang="start"))
    driver = modelled.driver()
    loaded = driver.load(TiledConvolution().build())
    running = threading.Thread(target=times_out, args=(driver, loaded))
    running.start()
    assert driver.condition() == ""
    running.join()


def test_a_profile_without_hardware_is_refused(tmp_path: object) -> None:
    with pytest.raises(IncompatibleError, match="'sim' does not say where the registers"):
        open_zynq("zynq", profile("sim"), System(), tmp_path)  # type: ignore[arg-type]


def test_a_machine_that_is_no_zynq_says_what_is_missing() -> None:
    """This one: whatever it has, it has no UIO devices at these addresses and no DMA memory."""
    for kind in ("zynq", "zynqmp"):
        with pytest.raises(HardwareError, match=r"docs/zynq\.md|root"):
            open_accelerator(kind, profile("pynq"))


def test_a_failed_opening_gives_the_registers_back(tmp_path_factory: pytest.TempPathFactory) -> None:
    system = System(tmp_path_factory.mktemp("system"))
    add_device(system, "mem", 0x43C04000)
    for _ in range(2):
        with pytest.raises(HardwareError, match="there is no DMA memory"):
            open_zynq("zynq", profile("pynq"), system, system.root)
    add_udmabuf(system, "udmabuf0", 0x10000000, 1 << 16)
    for _ in range(2):
        driver = open_zynq("zynq", profile("pynq"), system, system.root)
        assert driver.describe().kind == "zynq"
        driver.close()


def test_memory_out_of_the_models_reach_hangs() -> None:
    modelled = Modelled()
    driver, builder = modelled.driver(), TiledConvolution()
    modelled.core._machine.memory = PhysicalMemory(0, np.zeros(256, np.uint8))
    loaded = driver.load(builder.build())
    times_out(driver, loaded)
