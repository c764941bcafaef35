"""Records of announced boards: what makes sense is taken, everything else is left out, and nothing gets through raw."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgectl.boards.client import Address
from edgectl.boards.discovery import FoundBoard, parse_record

ID = "0123456789abcdef" * 2
TEXT = {
    b"txtvers": b"1",
    b"id": ID.encode(),
    b"name": b"desk",
    b"board": b"pynq",
    b"config": b"1x16_i8w8a32_15_15_18_17",
    b"bitstream": b"pynq-0.0.2",
    b"model": b"resnet18_v1",
    b"http": b"9092",
    b"via": b"tcp",
}


def test_a_board() -> None:
    assert parse_record("desk-01234567", 9091, ["10.0.0.7"], TEXT) == FoundBoard(
        "desk",
        ID,
        "pynq",
        Address("10.0.0.7", 9091),
        Address("10.0.0.7", 9092),
        "1x16_i8w8a32_15_15_18_17",
        "pynq-0.0.2",
        "resnet18_v1",
        True,
    )


def test_one_behind_ssh_and_one_of_a_kind_that_is_not_known() -> None:
    found = parse_record("a", 9091, ["127.0.0.1", "10.0.0.7"], {**TEXT, b"via": b"ssh", b"board": b"hal9000"})
    assert found is not None and not found.direct and found.kind == "?" and found.host == "10.0.0.7"


@pytest.mark.parametrize(
    "change",
    [
        {b"txtvers": b"2"},
        {b"txtvers": None},
        {b"id": b""},
        {b"id": ID.upper().encode()},
        {b"id": b"../../../etc/passwd"},
        {b"id": ID.encode() + b"0"},
        {b"junk": b"x" * 1000},
    ],
)
def test_what_makes_no_sense_is_left_out(change: dict[bytes, bytes | None]) -> None:
    assert parse_record("a", 9091, ["10.0.0.7"], {**TEXT, **change}) is None


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (b"9092", Address("10.0.0.7", 9092)),
        (b"10.0.0.8:80", Address("10.0.0.8", 80)),
        (b"[fd00::8]:80", Address("fd00::8", 80)),
        (b"0", None),
        (b"", None),
        (b"-1", None),
        (b"65536", None),
        (b"127.0.0.1:80", None),
        (b"[::1]:80", None),
        (b"[::ffff:127.0.0.1]:80", None),
        (b"0.0.0.0:80", None),
        (b"metadata.internal:80", None),
        (b"10.0.0.8:80/admin?x=", None),
        (b"user@10.0.0.8:80", None),
        ("10.0.0.8:٨٠".encode(), None),
    ],
)
def test_where_its_http_port_is(text: bytes, address: Address | None) -> None:
    found = parse_record("a", 9091, ["10.0.0.7"], {**TEXT, b"http": text})
    assert found is not None and found.http_address == address


@pytest.mark.parametrize("addresses", [[], ["127.0.0.1"], ["::ffff:127.0.0.1"], ["0.0.0.0"], ["224.0.0.251"], ["x"]])
def test_addresses_that_no_other_machine_has(addresses: list[str]) -> None:
    assert parse_record("a", 9091, addresses, TEXT) is None


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_ports_that_cannot_be(port: int) -> None:
    assert parse_record("a", port, ["10.0.0.7"], TEXT) is None


values = st.binary(max_size=80) | st.sampled_from([b"1", ID.encode(), b"pynq", b"\x1b[2J", "\u202e\u200b".encode()])


@given(
    st.text(max_size=100),
    st.integers(-1, 70000),
    st.lists(st.sampled_from(["10.0.0.7", "::1", "", "x"]), max_size=3),
    st.dictionaries(st.sampled_from(list(TEXT)) | st.binary(max_size=9), st.none() | values, max_size=12),
)
def test_nothing_gets_through_raw(
    instance: str, port: int, addresses: list[str], text: dict[bytes, bytes | None]
) -> None:
    found = parse_record(instance, port, addresses, {**TEXT, **text})
    if found is not None:
        for shown in (found.name, found.identity, found.kind, str(found.address), found.config, found.model):
            assert shown.isprintable() and len(shown) <= 64
        assert found.http_address is None or 0 < found.http_address.port < 65536
