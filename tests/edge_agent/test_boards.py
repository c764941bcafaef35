"""Board profiles."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import resources

import pytest

from edge_agent.boards import RegisterField, parse_profile, profile, profile_names
from edge_agent.errors import IncompatibleError
from edge_agent.vta.config import DEFAULT_CONFIG

HARDWARE = {
    "registers": {"fetch": "0x43C00000"},
    "register_bytes": 4096,
    "coherent": True,
    "reset": "",
    "patience_seconds": 5,
}


@pytest.mark.parametrize("name", profile_names())
def test_every_profile_is_complete(name: str) -> None:
    board = profile(name)
    assert board.name == name
    assert board.vta == DEFAULT_CONFIG and board.isa == "0.0.2"
    multiprocessor = name.startswith(("ultra96", "zcu104"))
    assert (board.clock_hz, board.bus_bytes) == ((333_000_000, 16) if multiprocessor else (100_000_000, 8))
    assert board.dma_limit_bytes == (2 if multiprocessor else 1) << 30
    assert board.simulated == (board.cpu == "host")


def test_how_each_fpga_is_programmed() -> None:
    fpgas = {name: fpga for name in profile_names() if (fpga := profile(name).fpga)}
    assert {name: (fpga.part, fpga.idcode, fpga.bitstream_bytes) for name, fpga in fpgas.items()} == {
        **dict.fromkeys(("pynq", "pynq-model", "pynq-z1", "pynq-z2"), ("7z020", 0x03727093, 4_045_564)),
        "ultra96": ("zu3eg", 0x04710093, 0),
        "zcu104": ("zu7ev", 0x04730093, 0),
        "de10nano": ("5CSEBA6U23I7", 0, 0),
    }
    assert {fpga.method for name, fpga in fpgas.items() if name != "de10nano"} == {"fpga_manager"}
    widths = (RegisterField(0xFD360000, 3, 0), RegisterField(0xFD360014, 3, 0), RegisterField(0xFD615000, 0x300, 0x200))
    assert fpgas["ultra96"].port_widths == fpgas["zcu104"].port_widths == widths
    assert fpgas["pynq"].port_widths == ()


def test_a_table_that_is_like_another() -> None:
    z2, pynq = profile("pynq-z2"), profile("pynq")
    assert replace(z2, name=pynq.name, description=pynq.description, sources=pynq.sources) == pynq
    sim = profile("ultra96-sim")
    assert (sim.hardware, sim.fpga, sim.clock_hz) == (None, None, profile("ultra96").clock_hz)
    with pytest.raises(IncompatibleError, match="it is like 'unicorn', which is none of de10nano, "):
        parse_profile("mine", json.dumps({"like": "unicorn"}))


def test_the_simulated_board_is_a_pynq_but_for_its_cpu() -> None:
    sim, pynq = profile("sim"), profile("pynq")
    assert (sim.config, sim.features, sim.isa) == (pynq.config, pynq.features, pynq.isa)
    assert (sim.accelerator, sim.cpu, pynq.accelerator, pynq.cpu) == ("sim", "host", "zynq", "armv7")


@pytest.mark.parametrize("name", ["tsim", "intelfocl", "../profiles/sim", ""])
def test_an_unknown_board_is_answered_with_the_known_ones(name: str) -> None:
    with pytest.raises(IncompatibleError, match=f"there is no board '.*'; known boards: {', '.join(profile_names())}"):
        profile(name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clock_hz": "fast"}, "clock_hz is 'fast', not of type int"),
        ({"config": "2x2"}, "'2x2' is not a VTA configuration"),
        ({"features": ["flies"]}, "has features ['flies']"),
        ({"features": 5}, "malformed"),
        ({"colour": "red"}, "must have exactly the entries"),
        ({"hardware": {}}, "malformed"),
        ({"hardware": {"registers": {"fetch": "43C0.0000"}}}, "malformed"),
        ({"hardware": {"registers": {"fetch": "0x1000"}, "coherent": True}}, "its hardware must have exactly"),
        ({"hardware": {**HARDWARE, "coherent": 1}}, "coherent is 1, not of type bool"),
        ({"fpga": {}}, "malformed"),
        ({"fpga": {"idcode": "0x1", "port_widths": []}}, "its fpga must have exactly"),
        ({"fpga": {"idcode": "0x1", "port_widths": [{"register": "0x1"}]}}, "malformed"),
    ],
)
def test_a_wrong_profile_is_refused(change: dict[str, object], message: str) -> None:
    text = resources.files("edge_bitstreams").joinpath("profiles").joinpath("sim.json").read_text()
    with pytest.raises(IncompatibleError) as caught:
        parse_profile("mine", json.dumps({**json.loads(text), **change}))
    assert message in str(caught.value)


def test_how_the_pynq_reaches_its_accelerator() -> None:
    hardware = profile("pynq").hardware
    assert hardware is not None and profile("sim").hardware is None
    assert hardware.registers == {
        "fetch": 0x43C00000,
        "load": 0x43C01000,
        "compute": 0x43C02000,
        "store": 0x43C03000,
    }
    assert (hardware.register_bytes, hardware.coherent, hardware.reset) == (4096, True, "zynq_slcr")


def test_the_model_is_a_pynq_but_for_its_cpu_and_its_patience() -> None:
    model, pynq = profile("pynq-model"), profile("pynq")
    assert (model.config, model.features, model.dma_limit_bytes) == (pynq.config, pynq.features, pynq.dma_limit_bytes)
    assert model.hardware is not None and pynq.hardware is not None
    assert model.hardware == replace(pynq.hardware, patience_seconds=60)
    assert (model.accelerator, model.cpu) == ("zynq_model", "host")
    assert [profile(name).simulated for name in ("pynq", "pynq-model", "sim")] == [False, True, True]


def test_a_profile_must_be_json() -> None:
    with pytest.raises(IncompatibleError, match="'mine' is malformed"):
        parse_profile("mine", "clock_hz = 1")
