"""Who reaches a port, by the address that it listens on."""

from __future__ import annotations

import pytest

from edge_agent.listening import is_everywhere, is_loopback, reached_at


@pytest.mark.parametrize(
    ("listening", "machine", "host"),
    [
        ("0.0.0.0", "10.0.0.7", "10.0.0.7"),
        ("::", "board.local", "board.local"),
        ("", "10.0.0.7", "10.0.0.7"),
        ("127.0.0.1", "10.0.0.7", ""),
        ("::1", "board.local", ""),
        ("127.0.0.1", "::ffff:127.0.0.1", "127.0.0.1"),
        ("::ffff:127.0.0.1", "10.0.0.7", ""),
        ("127.0.0.1", "localhost", "127.0.0.1"),
        ("127.0.1.1", "127.0.0.1", "127.0.1.1"),
        ("10.1.0.7", "10.0.0.7", "10.1.0.7"),
        ("10.0.0.7", "127.0.0.1", "10.0.0.7"),
    ],
)
def test_reached_at(listening: str, machine: str, host: str) -> None:
    assert reached_at(listening, machine) == host


def test_kinds_of_address() -> None:
    assert [is_loopback(host) for host in ("127.9.9.9", "::1", "localhost", "0.0.0.0", "10.0.0.7", "a", "")] == [
        True, True, True, False, False, False, False,
    ]  # fmt: skip
    assert [is_everywhere(host) for host in ("0.0.0.0", "::", "", "127.0.0.1", "a")] == [True] * 3 + [False] * 2
