"""Where a board's metrics are, by its status."""

from __future__ import annotations

from typing import Any

import pytest

from edgectl.boards.client import Address
from edgectl.boards.metrics_address import http_address, metrics_url


@pytest.mark.parametrize(
    ("status", "machine", "url"),
    [
        ({"http_port": 9092}, "10.0.0.7", "http://10.0.0.7:9092/metrics"),
        ({"http_port": 9092, "http_host": "0.0.0.0"}, "10.0.0.7", "http://10.0.0.7:9092/metrics"),
        ({"http_port": 9092, "http_host": "::"}, "fd00::7", "http://[fd00::7]:9092/metrics"),
        ({"http_port": 9092, "http_host": "10.1.0.7"}, "10.0.0.7", "http://10.1.0.7:9092/metrics"),
        ({"http_port": 9092, "http_host": "127.0.0.1"}, "10.0.0.7", ""),
        ({"http_port": 9092, "http_host": "127.0.0.1"}, "127.0.0.1", "http://127.0.0.1:9092/metrics"),
    ],
)
def test_what_prometheus_scrapes(status: dict[str, Any], machine: str, url: str) -> None:
    assert metrics_url(http_address(status, machine)) == url


@pytest.mark.parametrize(
    "status",
    [
        {},
        {"http_port": 0},
        {"http_port": 65536},
        {"http_port": True},
        {"http_port": "9092"},
        {"http_port": 9092, "http_host": None},
        {"http_port": 9092, "http_host": "a/b"},
        {"http_port": 9092, "http_host": "a@b"},
        {"http_port": 9092, "http_host": "a\x1b[2J"},
        {"http_port": 9092, "http_host": "a" * 254},
    ],
)
def test_what_makes_no_sense(status: dict[str, Any]) -> None:
    assert http_address(status, "10.0.0.7") is None


def test_an_ipv6_address() -> None:
    assert http_address({"http_port": 1}, "fe80::1%eth0") == Address("fe80::1%eth0", 1)
