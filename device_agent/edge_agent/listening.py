"""What the address that a port listens on means to those who want to reach it."""

from __future__ import annotations

import ipaddress

EVERYWHERE = "0.0.0.0"


def is_loopback(host: str) -> bool:
    """Whether a port that listens there is reached from its own machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_everywhere(host: str) -> bool:
    """Whether a port that listens there is reached under every address of its machine."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return not host


def reached_at(listening: str, machine: str) -> str:
    """The host under which a port that listens on `listening` is reached by whoever reaches its machine as `machine`;
    empty where it is not."""
    if is_everywhere(listening):
        return machine
    if is_loopback(listening) and not is_loopback(machine):
        return ""
    return listening
