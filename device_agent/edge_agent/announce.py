"""Says by mDNS and DNS-SD that this agent is here: `_edge-vta._tcp`, with what a controller lists about it.

Needs the package zeroconf (`pip install edgectl[announce]`); an agent without it works, and is not announced. What is
announced is not authenticated and for finding only. Identity is `id=`, `name=` is for people.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from edge_agent.errors import AgentError

logger = logging.getLogger(__name__)

SERVICE_TYPE = "_edge-vta._tcp.local."
MAXIMUM_VALUE_BYTES = 48
_PERIOD_SECONDS = 1.0
_RETRY_SECONDS = 10.0


@dataclass(frozen=True)
class Announcement:
    """What is announced. `direct`: the RPC port can be reached from other machines; else through SSH only.

    `http_port` is 0 where HTTP cannot be reached from other machines; it is at `http_address`, or where that is empty
    at every address announced.
    """

    identity: str
    name: str
    board: str
    config: str
    bitstream: str
    model: str
    version: str
    http_port: int
    direct: bool
    http_address: str = ""

    def properties(self) -> dict[str, str]:
        """The TXT record, its version first: keys of at most 9 characters, in all less than 400 bytes."""
        entries = {
            "txtvers": "1",
            "id": self.identity,
            "name": self.name,
            "board": self.board,
            "config": self.config,
            "bitstream": self.bitstream,
            "model": self.model,
            "version": self.version,
            "http": self._http(),
            "via": "tcp" if self.direct else "ssh",
        }
        return {key: _bounded(value) for key, value in entries.items()}

    def _http(self) -> str:
        host = f"[{self.http_address}]" if ":" in self.http_address else self.http_address
        return f"{host}:{self.http_port}" if host else str(self.http_port)

    @property
    def instance(self) -> str:
        """The instance's name: unlike any other board's, though two have one name and start at the same moment."""
        return f"{_bounded(self.name).replace('.', '-')}-{self.identity[:8]}"


def _bounded(text: str) -> str:
    """The longest beginning of a text that fits into a value."""
    return text.encode()[:MAXIMUM_VALUE_BYTES].decode(errors="ignore")


def library() -> ModuleType:
    """zeroconf. Raises AgentError where it is not installed."""
    try:
        import zeroconf
    except ImportError:
        raise AgentError(
            "this agent cannot be announced: the package zeroconf is missing; pip install 'edgectl[announce]', or "
            "--no-announce"
        ) from None
    return zeroconf


def own_addresses(host: str) -> tuple[str, ...]:
    """The IPv4 addresses under which other machines reach an agent that listens on `host`: for every address and for
    loopback (SSH is not bound to it), all but the loopback's; none while there is no network."""
    import ifaddr  # comes with zeroconf

    found = [str(ip.ip) for adapter in ifaddr.get_adapters() for ip in adapter.ips if ip.is_IPv4]
    outside = tuple(sorted({text for text in found if not ipaddress.ip_address(text).is_loopback}))
    try:
        listening = ipaddress.ip_address(socket.getaddrinfo(host, None, socket.AF_INET)[0][4][0])
    except (OSError, ValueError):
        return outside
    return outside if listening.is_unspecified or listening.is_loopback else (str(listening),)


class Announcer:
    """Keeps the announcement up in a thread: again when what it says or this machine's addresses change, and after
    errors; goodbye at the end."""

    def __init__(self, current: Callable[[], Announcement], host: str, port: int) -> None:
        """`current` is what to announce now. Raises AgentError where zeroconf is not installed."""
        self._zeroconf = library()
        self._current, self._host, self._port = current, host, port
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="announce", daemon=True)
        self._responder: Any = None
        self._service: Any = None
        self._told: tuple[Mapping[str, str], tuple[str, ...]] | None = None

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Say goodbye."""
        self._stop.set()
        self._thread.join(_RETRY_SECONDS)

    def _run(self) -> None:
        complained = ""
        while not self._stop.is_set():
            pause = _PERIOD_SECONDS
            try:
                self._refresh()
                complained = ""
            except Exception as error:  # whatever the network does, the agent serves
                text = f"{type(error).__name__}: {error}"
                logger.log(logging.DEBUG if text == complained else logging.WARNING, "not announced: %s", text)
                complained, pause = text, _RETRY_SECONDS
                self._withdraw()
            self._stop.wait(pause)
        self._withdraw()

    def _refresh(self) -> None:
        announcement = self._current()
        addresses = own_addresses(self._host)
        told = (announcement.properties(), addresses)
        if told == self._told:
            return
        if self._told is not None and self._told[1] != addresses:
            self._withdraw()
        if not addresses:
            return
        if self._responder is None:
            self._responder = self._zeroconf.Zeroconf(
                interfaces=list(addresses), ip_version=self._zeroconf.IPVersion.V4Only
            )
            self._service = self._info(announcement, addresses, f"{announcement.instance}.{SERVICE_TYPE}")
            self._responder.register_service(self._service, allow_name_change=True)
            logger.info("announced as '%s' on %s", self._service.name, ", ".join(addresses))
        else:
            self._service = self._info(announcement, addresses, self._service.name)
            self._responder.update_service(self._service)
        self._told = told

    def _info(self, announcement: Announcement, addresses: tuple[str, ...], name: str) -> Any:
        return self._zeroconf.ServiceInfo(
            SERVICE_TYPE,
            name,
            port=self._port,
            properties=announcement.properties(),
            # Not the host's own name, which another responder on this machine may answer for.
            server=f"edge-{announcement.identity[:12]}.local.",
            parsed_addresses=list(addresses),
        )

    def _withdraw(self) -> None:
        responder, self._responder, self._told = self._responder, None, None
        if responder is not None:
            try:
                responder.unregister_all_services()
            except Exception as error:  # the network may be gone, and with it who would hear
                logger.debug("no goodbye: %s", error)
            finally:
                responder.close()
