"""The catalogue of bitstreams: what is published, and which of it serves a board."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from edge_agent.boards import profile, profile_names
from edge_agent.catalogue import catalogue, choose_bitstream, find_bitstream, parse_bitstream
from edge_agent.errors import IncompatibleError
from edge_agent.tables import read_table

THE_ONE = "pynq-0.0.2-1x16"


def test_every_entry_is_complete() -> None:
    entries = catalogue()
    assert len({entry.id for entry in entries}) == len(entries) == 8
    for entry in entries:
        assert entry.url.startswith("https://") and entry.name.endswith((".bit", ".rbf"))
        assert entry.boards and entry.limits
        assert (entry.bytes > 0) == bool(entry.sha256)
        if entry.name.endswith(".bit") and entry.bytes:
            fpga = profile(entry.boards[0]).fpga
            assert fpga is not None and entry.part.startswith(fpga.part)
            assert 100 < entry.bytes - fpga.bitstream_bytes < 120, "what the header takes"
        assert entry.url.split("/")[-2] == entry.isa and entry.id.split("-")[1] == entry.isa


@pytest.mark.parametrize("name", profile_names())
def test_what_serves_a_board(name: str) -> None:
    """The only published bitstream with today's instruction set is the Pynq's."""
    board = profile(name)
    if name.startswith("pynq"):
        chosen = choose_bitstream(catalogue(), board)
        assert (chosen.id, chosen.bytes) == (THE_ONE, 4_045_671)
        assert chosen.sha256 == "0b24cdf9001d349512ab5fb34a0639056c87c8438dc3bce45be892ae43faf568"
        return
    with pytest.raises(IncompatibleError, match=f"no bitstream is published for board '{name}'.*--bitstream FILE.bit"):
        choose_bitstream(catalogue(), board)


def test_a_board_that_needs_more_than_is_published() -> None:
    demanding = replace(profile("pynq"), features=frozenset({"acc_load_padding"}))
    with pytest.raises(
        IncompatibleError, match=r"published are .*pynq-0.0.1-4x8 \(4x8_i8w8a32_15_16_16_18, version 0.0.1"
    ):
        choose_bitstream(catalogue(), demanding)


def test_an_entry_by_its_name() -> None:
    assert find_bitstream(catalogue(), THE_ONE).id == THE_ONE
    with pytest.raises(IncompatibleError, match=f"no bitstream 'pynq' in the catalogue; it has .*{THE_ONE}"):
        find_bitstream(catalogue(), "pynq")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bytes": "many"}, "bytes is 'many'"),
        ({"bytes": -1}, "-1 bytes"),
        ({"sha256": "0B"}, "SHA-256 '0B' cannot be"),
        ({"boards": ["moon"]}, "there are no boards ['moon']"),
        ({"features": ["flies"]}, "there are no features ['flies']"),
        ({"colour": "red"}, "must have exactly the entries"),
        ({"config": "2x2"}, "'2x2' is not a VTA configuration"),
    ],
)
def test_a_wrong_entry_is_refused(change: dict[str, object], message: str) -> None:
    entries = json.loads(read_table("catalogue", THE_ONE))
    with pytest.raises(IncompatibleError) as caught:
        parse_bitstream("mine", json.dumps({**entries, **change}))
    assert message in str(caught.value)
