"""Descriptions of boards' CPUs."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

import pytest

from edge_agent.boards import profile, profile_names
from edgectl.codegen.cpu.lowerings import LOWERINGS
from edgectl.errors import IncompatibleError
from edgectl.operators.base import Operator
from edgectl.processor import OTHER, parse_processor, processor


def entries() -> dict[str, Any]:
    text = resources.files("edge_bitstreams").joinpath("processors").joinpath("pynq.json").read_text()
    document: dict[str, Any] = json.loads(text)
    return document


def test_the_pynq() -> None:
    pynq = processor("pynq")
    assert (pynq.name, pynq.clock_hz) == ("pynq", 650_000_000)
    assert 256e6 * 2 <= pynq.memory_bytes_per_second <= 16 // 8 * 1050e6
    assert pynq.cycles("quantize", "float32") == 38
    assert pynq.cycles("quantize", "int8") is None and pynq.cycles("unheard of", "int8") is None
    assert pynq.other_cycles("float64") == 40 and pynq.other_cycles("int32") == 13
    assert "docs/timing.md" in pynq.sources


def test_every_board_has_a_processor() -> None:
    assert {processor(profile(name).processor).name for name in profile_names()} == {"pynq", "zynqmp", "de10nano"}


def test_a_processor_that_is_like_another() -> None:
    pynq, zynqmp = processor("pynq"), processor("zynqmp")
    assert zynqmp.kernel_cycles == pynq.kernel_cycles and zynqmp.clock_hz == 1_200_000_000


def test_seconds_add_computing_and_moving() -> None:
    pynq = processor("pynq")
    assert pynq.seconds(650e6) == 1.0
    assert pynq.seconds(650e6, 600_000_000) == 2.0


def test_every_operator_of_the_data_exists() -> None:
    """A renamed operator must not fall back to the entry of all others unnoticed."""
    kinds = {operator.kind for operator in LOWERINGS}
    named = set("+".join(entries()["kernel_cycles"]).replace(" depthwise", "").split("+")) - {OTHER}
    assert named <= kinds
    assert all(issubclass(operator, Operator) for operator in LOWERINGS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clock_hz": "fast"}, "clock_hz is 'fast', not a number above 0"),
        ({"clock_hz": 0}, "clock_hz is 0"),
        ({"rank_cycles": True}, "rank_cycles is True"),
        ({"memory_bytes_per_second": float("inf")}, "memory_bytes_per_second is inf"),
        ({"kernel_cycles": {"other": {"float32": 1, "int8": -1}}}, "other int8 is -1"),
        ({"kernel_cycles": {"quantize": {"float32": 1}}}, "lacks the kernel cycles 'other'"),
        ({"kernel_cycles": {"other": 5}}, "malformed"),
        ({"colour": "red"}, "must have exactly the entries"),
    ],
)
def test_a_wrong_description_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(IncompatibleError) as caught:
        parse_processor("mine", json.dumps({**entries(), **change}))
    assert message in str(caught.value)


def test_unknown_and_damaged() -> None:
    with pytest.raises(
        IncompatibleError, match="no description of the processor 'z80'; known are de10nano, pynq, zynqmp"
    ):
        processor("z80")
    with pytest.raises(IncompatibleError, match="'mine' is malformed"):
        parse_processor("mine", "{")
