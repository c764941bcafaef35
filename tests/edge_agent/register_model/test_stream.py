"""Raw instructions become programs: every transfer finds its region, and regions are used as one kind of element."""

from __future__ import annotations

import numpy as np
import pytest

from edge_agent.hardware.dma import DmaBuffer
from edge_agent.hardware.placement import place, write_program
from edge_agent.register_model.memory import PhysicalMemory
from edge_agent.register_model.stream import Stream, read_stream
from edge_agent.vta.config import DEFAULT_CONFIG, Config, Memory
from edge_agent.vta.isa import Finish, Load, Store, encode_stream
from edge_agent.vta.program import Role
from edge_agent.vta.relocation import relocate
from edge_agent.vta.simulator import Simulation
from edge_agent.vta.verify import verify
from edge_agent.vta.violation import Violation
from tests.edge_agent.vta.builder import TiledConvolution

BASE = 0x20000000


def read(words: np.ndarray, array: np.ndarray, bases: dict[Memory, int] | None = None) -> Stream:
    return read_stream(words, DEFAULT_CONFIG, frozenset(), PhysicalMemory(BASE, array), bases or {})


def test_the_program_that_was_placed_is_found_again() -> None:
    builder = TiledConvolution(seed=2)
    program = builder.build()
    array = np.zeros(1 << 16, np.uint8)
    placed = write_program(program, place(program), DmaBuffer(BASE, array))
    words = relocate(program, [placed.address(index) for index in range(len(program.tensors))])
    stream = read(words, array)
    for index, tensor in enumerate(program.tensors):
        begin, end = placed.address(index), placed.address(index) + tensor.nbytes
        parts = [region for region in stream.regions if begin <= region.begin < end]
        assert sum(region.end - region.begin for region in parts) == tensor.nbytes and parts[-1].end <= end
        expected = {Role.OUTPUT: Role.SCRATCH}.get(tensor.role, tensor.role)
        assert {region.role for region in parts} == {expected}
    assert stream.program.counters == program.counters
    x = np.random.default_rng(1).integers(-128, 128, (1, 2, 8, 8, 1, 16), np.int8)
    placed.array(0)[...] = x
    views = [array[region.begin - BASE : region.end - BASE] for region in stream.regions]
    Simulation(verify(stream.program), views).execute()
    np.testing.assert_array_equal(placed.array(1), builder.expected(x))


def words_of(*instructions: Load | Store) -> np.ndarray:
    return encode_stream([*instructions, Finish()], DEFAULT_CONFIG)


def test_overlapping_transfers_are_one_region_and_touching_ones_are_not() -> None:
    first = BASE // 16
    stream = read(
        words_of(
            Load(Memory.INP, 0, first, 2, 3, 8),
            Load(Memory.INP, 0, first + 10, 1, 4, 4),
            Load(Memory.INP, 0, first + 14, 1, 1, 1),
        ),
        np.zeros(4096, np.uint8),
    )
    assert [(region.begin - BASE, region.end - BASE) for region in stream.regions] == [(0, 14 * 16), (14 * 16, 15 * 16)]
    assert [relocation.tensor for relocation in stream.program.relocations] == [0, 0, 1]


def test_bases_and_32_bit_addresses() -> None:
    load = Load(Memory.INP, 0, 0xFFFFFFFF, 1, 1, 1)  # 16 bytes each: only the low 32 bits of the address exist
    stream = read(words_of(load), np.zeros(4096, np.uint8), {Memory.INP: BASE + 16})
    assert stream.regions[0].begin == BASE


@pytest.mark.parametrize(
    ("instructions", "message"),
    [
        ((Load(Memory.INP, 0, 0, 1, 1, 1),), "bus: no memory answers at 0x0 to 0x10"),
        ((Load(Memory.INP, 0, BASE // 16 + 255, 1, 2, 2),), "bus: no memory"),
        (
            (Store(0, BASE // 16, 1, 16, 16), Load(Memory.WGT, 0, BASE // 256, 1, 1, 1)),
            "memory type: 0x20000000 is used as .* and as",
        ),
    ],
)
def test_what_no_program_does(instructions: tuple[Load | Store, ...], message: str) -> None:
    with pytest.raises(Violation, match=message):
        read(words_of(*instructions), np.zeros(4096, np.uint8))


def test_elements_that_overlap_by_parts() -> None:
    instructions = (Load(Memory.INP, 0, BASE // 16, 1, 4, 4), Store(0, BASE // 16, 1, 4, 4))
    with pytest.raises(Violation, match="alignment"):
        read(words_of(*instructions), np.zeros(4096, np.uint8), {Memory.OUT: 8})


def test_an_undefined_memory() -> None:
    words = words_of(Load(Memory.INP, 0, BASE // 16, 1, 1, 1))
    words[0, 0] |= np.uint64(7 << 7)
    with pytest.raises(Violation, match="memory type: it is not defined"):
        read(words, np.zeros(4096, np.uint8))


def test_other_configurations() -> None:
    config = Config.parse("4x8_i8w8a32_15_16_16_18")
    words = encode_stream([Load(Memory.WGT, 0, BASE // 64 + 1, 1, 2, 2), Finish()], config)
    stream = read_stream(words, config, frozenset(), PhysicalMemory(BASE, np.zeros(4096, np.uint8)), {})
    assert stream.program.tensors[0].shape == (2, 8, 8) and stream.regions[0].begin == BASE + 64
