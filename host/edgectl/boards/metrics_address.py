"""Where a board's metrics are scraped from here, by what its agent says of itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from edge_agent.listening import EVERYWHERE, reached_at
from edgectl.boards.client import Address

PATH = "/metrics"
ON_LOOPBACK = "on the board's loopback only; start its agent with --http-host 0.0.0.0"
"""What is said of a board without such an address."""
_HOST = re.compile(r"[0-9A-Za-z._:%-]{1,253}")


def http_address(status: Mapping[str, Any], machine: str) -> Address | None:
    """The HTTP port of an agent with this `status`, whose machine is reached as `machine`; None where it is not
    reached from other machines, or the status makes no sense. Agents that do not say where they listen count as
    listening everywhere."""
    port, listening = status.get("http_port"), status.get("http_host", EVERYWHERE)
    if type(port) is not int or not 0 < port < 65536 or not isinstance(listening, str):
        return None
    host = reached_at(listening, machine)
    return Address(host, port) if is_host(host) else None


def is_host(text: str) -> bool:
    """Whether `text` can be a host's address or name."""
    return _HOST.fullmatch(text) is not None


def metrics_url(address: Address | None) -> str:
    """The URL that Prometheus scrapes; empty without an address."""
    return f"http://{address}{PATH}" if address is not None else ""
