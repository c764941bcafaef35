"""Boards that announce themselves by mDNS and DNS-SD. All of it is hearsay: bounded, checked, and only listed."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edge_agent.announce import SERVICE_TYPE
from edge_agent.boards import profile_names
from edge_agent.listening import plain_address
from edgectl.boards.client import Address
from edgectl.boards.untrusted import is_identity, printable
from edgectl.errors import UnreachableError, UsageError

LISTING_SECONDS = 2.0
SPECIFIC_SECONDS = 3.0
MAXIMUM_BOARDS = 256
MAXIMUM_TEXT_BYTES = 1024
UNKNOWN = "?"


@dataclass(frozen=True)
class FoundBoard:
    """A board as it describes itself. `direct`: its RPC port is meant to be reached by TCP, else through SSH.
    `http_address` is None where its HTTP port is not meant to be reached."""

    name: str
    identity: str
    kind: str
    address: Address
    http_address: Address | None
    config: str
    bitstream: str
    model: str
    direct: bool

    @property
    def host(self) -> str:
        return self.address.host


def parse_record(
    instance: str, port: int, addresses: Sequence[str], text: Mapping[bytes, bytes | None]
) -> FoundBoard | None:
    """A board from a service's record; None where it is too long, of another version, or makes no sense."""
    if sum(len(key) + len(value or b"") for key, value in text.items()) > MAXIMUM_TEXT_BYTES:
        return None

    def value(key: str) -> str:
        return (text.get(key.encode()) or b"").decode(errors="replace")

    identity, kind = value("id"), value("board")
    if value("txtvers") != "1" or not is_identity(identity) or not 0 < port < 65536:
        return None
    usable = [address for address in addresses if _is_usable(address)]
    if not usable:
        return None
    return FoundBoard(
        printable(value("name") or instance),
        identity,
        kind if kind in profile_names() else UNKNOWN,
        Address(usable[0], port),
        _http_address(value("http"), usable[0]),
        printable(value("config")),
        printable(value("bitstream")),
        printable(value("model")),
        value("via") == "tcp",
    )


def _http_address(text: str, board: str) -> Address | None:
    """What `http=PORT` or `http=ADDRESS:PORT` means on a board at the address `board`."""
    host, _, port = text.rpartition(":")
    try:
        address = Address.parse(f"{host or f'[{board}]'}:{port}")
    except UsageError:
        return None
    return address if _is_usable(address.host) else None


def _is_usable(address: str) -> bool:
    """Whether another machine can have this address: a record must not send anybody to a service of their own."""
    parsed = plain_address(address)
    return parsed is not None and not (parsed.is_loopback or parsed.is_unspecified or parsed.is_multicast)


def browse(seconds: float = LISTING_SECONDS) -> list[FoundBoard]:
    """The boards that answer within so many seconds, ordered by name and identity; several may claim one identity.

    Raises UnreachableError where this machine cannot send multicast.
    """
    import zeroconf

    end = time.monotonic() + seconds
    names: set[str] = set()
    lock = threading.Lock()

    def changed(zeroconf: Any, service_type: str, name: str, state_change: Any) -> None:
        with lock:
            if state_change.name == "Removed":
                names.discard(name)
            elif len(names) < MAXIMUM_BOARDS:
                names.add(name)

    try:
        listener = zeroconf.Zeroconf(ip_version=zeroconf.IPVersion.V4Only)
    except OSError as error:
        raise UnreachableError(f"boards cannot be looked for by mDNS: {error.strerror or error}") from error
    found: dict[tuple[str, str, Address], FoundBoard] = {}
    try:
        browser = zeroconf.ServiceBrowser(listener, SERVICE_TYPE, handlers=[changed])
        time.sleep(max(0.0, end - time.monotonic()))
        with lock:
            seen = sorted(names)
        for name in seen:
            if (board := _resolve(zeroconf, listener, name)) is not None:
                found[board.name, board.identity, board.address] = board
        browser.cancel()
    finally:
        listener.close()
    return [found[key] for key in sorted(found)]


def _resolve(zeroconf: Any, listener: Any, name: str) -> FoundBoard | None:
    """What is known of an instance by now. Answers that are asked for come with everything about it."""
    try:
        info = zeroconf.ServiceInfo(SERVICE_TYPE, name)
        if not info.load_from_cache(listener) and not info.request(listener, 500):
            return None
        addresses = info.parsed_addresses(zeroconf.IPVersion.V4Only)
        return parse_record(name.removesuffix(f".{SERVICE_TYPE}"), info.port or 0, addresses, info.properties)
    except (zeroconf.Error, ValueError, UnicodeError):
        return None
