"""Configurations: derived sizes, what is legal, and hostile names."""

from __future__ import annotations

import pytest

from edge_agent.errors import IncompatibleError
from edge_agent.vta.config import DEFAULT_CONFIG, Config, Memory


def test_the_default_configuration_has_the_published_sizes() -> None:
    sizes = {memory.name: (DEFAULT_CONFIG.element_bytes(memory), DEFAULT_CONFIG.depth(memory)) for memory in Memory}
    assert sizes == {
        "UOP": (4, 8192),
        "WGT": (256, 1024),
        "INP": (16, 2048),
        "ACC": (64, 2048),
        "OUT": (16, 2048),
        "ACC_8BIT": (16, 2048),
    }
    assert [DEFAULT_CONFIG.index_bits(memory) for memory in Memory] == [13, 10, 11, 11, 11, 11]


def test_the_other_published_configuration() -> None:
    config = Config.parse("4x8_i8w8a32_15_16_16_18")
    assert [config.index_bits(m) for m in (Memory.UOP, Memory.INP, Memory.WGT, Memory.ACC)] == [13, 11, 10, 11]
    assert (config.element_bytes(Memory.INP), config.element_bytes(Memory.WGT)) == (32, 64)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "is not a VTA configuration"),
        ("1x16_i8w8a32_15_15_18", "is not a VTA configuration"),
        ("1x16_i8w8a32_15_15_18_17 ", "is not a VTA configuration"),
        ("1x16_i8w8a32_15_15_18_٣", "is not a VTA configuration"),
        ("3x16_i8w8a32_15_15_18_17", "batch is 3, not a power of two"),
        ("1x0_i8w8a32_15_15_18_17", "block is 0, not a power of two"),
        ("1x16_i8w8a32_15_15_18_18", "micro-op fields need 34 bits, 32 exist"),
        ("1x16_i8w8a32_16_15_17_17", "loop fields need 65 bits, 64 exist"),
        ("1x16_i8w8a32_15_4_18_17", "INP holds no two elements"),
        ("1x1_i1w1a1_15_15_18_17", "holds no two elements"),
        ("1x16_i8w8a32_999999999999_15_18_17", "a number above 256"),
    ],
)
def test_illegal_configurations(name: str, message: str) -> None:
    with pytest.raises(IncompatibleError, match=message):
        Config.parse(name)
