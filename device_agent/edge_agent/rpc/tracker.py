"""Registration with a stock TVM tracker: a client asks it for a key and is sent here with a one-time match key.

i32 magic both ways, then JSON messages behind an i32 length: [UPDATE_INFO, {key, addr}], [PUT, key, [port, match key],
addr] offers one session, [GET_PENDING_MATCHKEYS] lists offers that nobody has taken yet, [SUMMARY] all servers, and
[REQUEST, key, user, priority] takes an offer.
"""

from __future__ import annotations

import json
import logging
import secrets
import socket
import struct
import threading
import time
from typing import Any

from edge_agent.errors import DeadlineError, ProtocolError
from edge_agent.rpc.channel import Channel, ConnectionClosed
from edge_agent.rpc.server import Server

logger = logging.getLogger(__name__)

MAGIC = 0x2F271
_SUCCESS, _PUT, _REQUEST, _UPDATE_INFO, _SUMMARY, _GET_PENDING_MATCH_KEYS = 0, 3, 4, 5, 6, 7
_MAXIMUM_MESSAGE = 1 << 20
_LENGTH = struct.Struct("<i")


class Tracker:
    """A connection to a tracker. Raises ConnectionClosed, DeadlineError or ProtocolError."""

    def __init__(self, address: tuple[str, int], seconds: float) -> None:
        self._seconds = seconds
        try:
            self._channel = Channel(socket.create_connection(address, timeout=seconds))
        except OSError as error:
            raise ConnectionClosed(f"no tracker answers at {address[0]}:{address[1]}: {error}") from error
        deadline = time.monotonic() + seconds
        self._channel.send_bytes(_LENGTH.pack(MAGIC), deadline)
        (magic,) = _LENGTH.unpack(self._channel.receive_exactly(_LENGTH.size, deadline))
        if magic != MAGIC:
            raise ProtocolError(f"{address[0]}:{address[1]} answers {magic:#x} where a tracker answers {MAGIC:#x}")

    def _ask(self, *message: Any) -> Any:
        deadline = time.monotonic() + self._seconds
        encoded = json.dumps(message).encode()
        self._channel.send_bytes(_LENGTH.pack(len(encoded)) + encoded, deadline)
        (length,) = _LENGTH.unpack(self._channel.receive_exactly(_LENGTH.size, deadline))
        if not 0 <= length <= _MAXIMUM_MESSAGE:
            raise ProtocolError(f"the tracker announces a message of {length} bytes")
        try:
            return json.loads(self._channel.receive_exactly(length, deadline))
        except (ValueError, RecursionError) as error:
            raise ProtocolError(f"the tracker's message does not parse: {error}") from error

    def _succeed(self, *message: Any) -> None:
        if (answer := self._ask(*message)) != _SUCCESS:
            raise ProtocolError(f"the tracker refuses: {answer!r}")

    def register(self, key: str, host: str | None, port: int) -> None:
        """Show up in the tracker's list of servers. Without a host, it takes the address of this connection."""
        self._succeed(_UPDATE_INFO, {"key": f"server:{key}", "addr": [host, port]})

    def put(self, key: str, host: str | None, port: int, match_key: str) -> None:
        """Offer one session."""
        self._succeed(_PUT, key, [port, match_key], host)

    def pending(self) -> set[str]:
        """Match keys that have been offered on this connection and not been taken."""
        answer = self._ask(_GET_PENDING_MATCH_KEYS)
        if not isinstance(answer, list):
            raise ProtocolError(f"the tracker answers {str(answer)[:80]} for a list of match keys")
        return {str(key) for key in answer}

    def summary(self) -> dict[str, Any]:
        """What the tracker says of its servers and queues. Nothing in it is checked."""
        answer = self._ask(_SUMMARY)
        if not isinstance(answer, list) or len(answer) != 2 or answer[0] != _SUCCESS or not isinstance(answer[1], dict):
            raise ProtocolError(f"the tracker answers {str(answer)[:80]} for a summary")
        return answer[1]

    def request(self, key: str) -> tuple[str, int, str]:
        """The host, port and one-time key of a server with this key, once one is free."""
        answer = self._ask(_REQUEST, key, "", 1)
        match answer:
            case [0, [str(host), int(port), str(match_key)]] if 0 < port < 65536 and len(match_key) <= 200:
                return host, port, match_key
        raise ProtocolError(f"the tracker answers {str(answer)[:80]} for a request")

    def close(self) -> None:
        self._channel.close()


class Registration:
    """Keeps one session on offer at a tracker, in a thread: again after each session, and after a lost connection."""

    def __init__(
        self,
        address: tuple[str, int],
        key: str,
        server: Server,
        host: str | None = None,
        period: float = 2.0,
        patience: float = 10.0,
    ) -> None:
        """`host` is the address that clients shall use. Seconds: `period` between looks at the tracker, `patience`
        until an offer that was taken but not used is withdrawn."""
        self._address, self._key, self._server, self._host = address, key, server, host
        self._period, self._patience = period, patience
        self._wake = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="tracker", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closed = True
        self._wake.set()
        self._thread.join()

    def _pause(self) -> None:
        self._wake.wait(self._period)
        self._wake.clear()

    def _run(self) -> None:
        told = ""
        while not self._closed:
            tracker = None
            try:
                tracker = Tracker(self._address, 5.0)
                tracker.register(self._key, self._host, self._server.port)
                told = ""
                logger.info("registered with the tracker at %s:%d as '%s'", *self._address, self._key)
                while not self._closed:
                    self._offer_once(tracker)
            except (ConnectionClosed, DeadlineError, ProtocolError) as error:
                # Once for each outage: a tracker that stays away must not fill a board's disk.
                logger.log(
                    logging.DEBUG if str(error) == told else logging.WARNING,
                    "the tracker is not there, trying again: %s",
                    error,
                )
                told = str(error)
                self._pause()
            finally:
                if tracker is not None:
                    tracker.close()

    def _offer_once(self, tracker: Tracker) -> None:
        """Offer a session and return when it has ended, or was taken and never begun."""
        match_key = f"{self._key}:{secrets.token_hex(16)}"
        ended = threading.Event()

        def on_end() -> None:
            ended.set()
            self._wake.set()

        self._server.offer(match_key, on_end)
        try:
            tracker.put(self._key, self._host, self._server.port, match_key)
            last_pending = time.monotonic()
            while not self._closed and not ended.is_set():
                self._pause()
                if match_key in tracker.pending():
                    last_pending = time.monotonic()
                elif self._server.is_offered(match_key) and time.monotonic() - last_pending > self._patience:
                    logger.info("an offer was taken but not used; offering again")
                    return
        finally:
            self._server.withdraw(match_key)
