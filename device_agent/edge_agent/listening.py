"""What the address that a port listens on means to those who want to reach it."""

from __future__ import annotations

import ipaddress

EVERYWHERE = "0.0.0.0"
IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


def plain_address(text: str) -> IpAddress | None:
    """An IP address, that of IPv4 where it is one in the form of IPv6; None where `text` is none."""
    try:
        parsed = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return mapped or parsed


def is_loopback(host: str) -> bool:
    """Whether a port that listens there is reached from its own machine alone."""
    parsed = plain_address(host)
    return host == "localhost" if parsed is None else parsed.is_loopback


def is_everywhere(host: str) -> bool:
    """Whether a port that listens there is reached under every address of its machine."""
    parsed = plain_address(host)
    return not host if parsed is None else parsed.is_unspecified


def reached_at(listening: str, machine: str) -> str:
    """The host under which a port that listens on `listening` is reached by whoever reaches its machine as `machine`;
    empty where it is not."""
    if is_everywhere(listening):
        return machine
    if is_loopback(listening) and not is_loopback(machine):
        return ""
    return listening
