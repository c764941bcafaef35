"""Board profiles."""

from __future__ import annotations

import json
from importlib import resources

import pytest

from edge_agent.boards import parse_profile, profile, profile_names
from edge_agent.errors import IncompatibleError
from edge_agent.vta.config import DEFAULT_CONFIG


@pytest.mark.parametrize("name", profile_names())
def test_every_profile_is_complete(name: str) -> None:
    board = profile(name)
    assert board.name == name
    assert board.vta == DEFAULT_CONFIG
    assert board.clock_hz == 100_000_000 and board.bus_bytes == 8
    assert board.dma_limit_bytes == 1 << 30


def test_the_simulated_board_is_a_pynq_but_for_its_cpu() -> None:
    sim, pynq = profile("sim"), profile("pynq")
    assert (sim.config, sim.features, sim.isa) == (pynq.config, pynq.features, pynq.isa)
    assert (sim.accelerator, sim.cpu, pynq.accelerator, pynq.cpu) == ("sim", "host", "zynq", "armv7")


@pytest.mark.parametrize("name", ["tsim", "intelfocl", "../profiles/sim", ""])
def test_an_unknown_board_is_answered_with_the_known_ones(name: str) -> None:
    with pytest.raises(IncompatibleError, match=r"there is no board '.*'; known boards: pynq, sim"):
        profile(name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clock_hz": "fast"}, "clock_hz is 'fast', not of type int"),
        ({"config": "2x2"}, "'2x2' is not a VTA configuration"),
        ({"features": ["flies"]}, "has features ['flies']"),
        ({"features": 5}, "malformed"),
        ({"colour": "red"}, "must have exactly the entries"),
    ],
)
def test_a_wrong_profile_is_refused(change: dict[str, object], message: str) -> None:
    text = resources.files("edge_bitstreams").joinpath("profiles").joinpath("sim.json").read_text()
    with pytest.raises(IncompatibleError) as caught:
        parse_profile("mine", json.dumps({**json.loads(text), **change}))
    assert message in str(caught.value)


def test_a_profile_must_be_json() -> None:
    with pytest.raises(IncompatibleError, match="'mine' is malformed"):
        parse_profile("mine", "clock_hz = 1")
