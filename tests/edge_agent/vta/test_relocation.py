"""Programs bound to memory."""

from __future__ import annotations

import numpy as np
import pytest

from edge_agent.errors import ProgramError
from edge_agent.vta.config import DEFAULT_CONFIG, Config
from edge_agent.vta.isa import Load, Store, decode_stream
from edge_agent.vta.relocation import largest_element, relocate

from .builder import TiledConvolution


def test_dram_bases_become_absolute_in_units_of_elements() -> None:
    builder = TiledConvolution()
    program = builder.build()
    addresses = [0x10000000 + index * 0x10000 for index in range(len(program.tensors))]
    decoded = decode_stream(relocate(program, addresses), DEFAULT_CONFIG)
    moved = 0
    for before, after, name in zip(builder.instructions, decoded, builder.addressed, strict=True):
        if name is None:
            assert before == after
            continue
        assert isinstance(before, Load | Store) and isinstance(after, Load | Store)
        address = addresses[list(builder.tensors).index(name)]
        assert after.dram_base == before.dram_base + address // DEFAULT_CONFIG.element_bytes(before.memory)
        assert after.sram_base == before.sram_base and after.x_stride == before.x_stride
        moved += 1
    assert moved == len(program.relocations) > 0
    assert program.instructions.tobytes() == builder.build().instructions.tobytes()


@pytest.mark.parametrize(
    ("address", "message"),
    [(0x10000080, "no multiple of the 256 bytes"), (1 << 40, "beyond what 32 bits address")],
)
def test_addresses_that_do_not_work(address: int, message: str) -> None:
    program = TiledConvolution().build()
    addresses = [address if tensor.name == "weight" else 0x1000 for tensor in program.tensors]
    with pytest.raises(ProgramError, match=message):
        relocate(program, addresses)


def test_the_largest_element_is_what_addresses_are_multiples_of() -> None:
    assert largest_element(DEFAULT_CONFIG) == 256
    assert largest_element(Config.parse("4x8_i8w8a32_15_16_16_18")) == 128


def test_nothing_to_relocate() -> None:
    builder = TiledConvolution()
    builder.addressed = [None] * len(builder.addressed)
    program = builder.build()
    np.testing.assert_array_equal(relocate(program, [0] * len(program.tensors)), program.instructions)
