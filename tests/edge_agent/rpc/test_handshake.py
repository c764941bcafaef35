"""Greetings: what parses, what does not, and keys."""

from __future__ import annotations

import contextlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.errors import ProtocolError
from edge_agent.rpc.handshake import (
    HEADER,
    MAGIC,
    MAXIMUM_KEY_BYTES,
    Greeting,
    accepted,
    greeting_length,
    matching_key,
    parse_greeting,
)


@given(st.binary(max_size=60))
def test_garbage_is_a_protocol_error(body: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        assert parse_greeting(body).session_seconds > 0


@given(st.text(st.characters(exclude_characters=" ", exclude_categories=["Cs"])))
def test_any_key_comes_back(key: str) -> None:
    assert parse_greeting(f"client:{key}".encode()) == Greeting(key, math.inf)


def test_a_session_timeout_is_an_option() -> None:
    assert parse_greeting(b"client:k -timeout=2.5") == Greeting("k", 2.5)
    assert parse_greeting(b"client:k -other=1 -timeout=60") == Greeting("k", 60)


@given(st.binary(min_size=8, max_size=8))
def test_a_header_gives_a_bounded_length(header: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        assert 0 <= greeting_length(header) <= MAXIMUM_KEY_BYTES


def test_lengths_at_the_bound() -> None:
    assert greeting_length(HEADER.pack(MAGIC, MAXIMUM_KEY_BYTES)) == MAXIMUM_KEY_BYTES
    for length in (-1, MAXIMUM_KEY_BYTES + 1):
        with pytest.raises(ProtocolError):
            greeting_length(HEADER.pack(MAGIC, length))


def test_keys_match_whole_or_not_at_all() -> None:
    keys = ("pynq:abc", "sim:äöü")
    assert matching_key("sim:äöü", keys) == "sim:äöü"
    for other in ("", "pynq", "pynq:ab", "pynq:abcd", "PYNQ:ABC"):
        assert matching_key(other, keys) is None
    assert matching_key("", ()) is None


def test_the_answer_has_the_type_alone() -> None:
    assert accepted("pynq") == HEADER.pack(MAGIC, 11) + b"server:pynq"
