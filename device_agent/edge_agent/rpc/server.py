"""The RPC port: handshakes in one selector loop, sessions in threads.

A connection costs a thread only once its key has matched. Those that have not got so far are bounded in number and in
time, and the oldest makes way for the newest, so that idle, slow or malformed peers keep nobody out.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import logging
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from edge_agent.errors import AgentError, BusyError, ProtocolError
from edge_agent.metrics import Metrics
from edge_agent.rpc import codec, handshake
from edge_agent.rpc.channel import Channel, ConnectionClosed
from edge_agent.rpc.codec import Code
from edge_agent.rpc.conversation import Conversation
from edge_agent.rpc.memory import Budget
from edge_agent.rpc.session import Endpoint, Session
from edge_agent.supervision import HANGING_SECONDS

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.5


@dataclass(eq=False)
class _Pending:
    """A connection before its session, or one that was refused and still has to take its answer."""

    connection: socket.socket
    deadline: float
    received: bytearray = field(default_factory=bytearray)
    wanted: int = handshake.HEADER.size
    refused: bool = False


@dataclass(eq=False)
class _Running:
    """A session's thread; its conversation once it has begun."""

    thread: threading.Thread
    conversation: Conversation | None = None
    ending: bool = False

    def idle_seconds(self) -> float:
        waiting_since = self.conversation.waiting_since if self.conversation is not None else None
        return 0.0 if waiting_since is None else time.monotonic() - waiting_since


class Server:
    """Listens and serves until closed. `keys` are accepted always, one-time keys (of the tracker) once each."""

    def __init__(self, address: tuple[str, int], keys: Iterable[str], endpoint: Endpoint, metrics: Metrics) -> None:
        """Raises BusyError where the port is taken, AgentError where the address cannot be used."""
        self._endpoint = endpoint
        self._metrics = metrics
        self._keys = tuple(keys)
        self._offers: dict[str, Callable[[], None]] = {}
        self._budget = Budget(endpoint.limits.memory_bytes)
        self._listener = listen(address, "--port")
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._awoken, self._waker = socket.socketpair()
        self._selector.register(self._awoken, selectors.EVENT_READ)
        self._pending: dict[socket.socket, _Pending] = {}
        self._sessions: dict[Channel, _Running] = {}
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._closed = threading.Event()
        self._turn = 0.0
        self._thread = threading.Thread(target=self._run, name="rpc", daemon=True)

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    @property
    def sessions(self) -> int:
        return len(self._sessions)

    @property
    def alive(self) -> bool:
        """Whether connections are still taken: the thread that does has looked for some lately."""
        return self._thread.is_alive() and time.monotonic() - self._turn < HANGING_SECONDS

    def start(self) -> None:
        self._turn = time.monotonic()
        self._thread.start()

    def offer(self, key: str, on_end: Callable[[], None]) -> None:
        """Accept a key for one session; `on_end` is called when that has ended."""
        with self._lock:
            self._offers[key] = on_end

    def is_offered(self, key: str) -> bool:
        """Whether a one-time key is still unused."""
        return key in self._offers

    def withdraw(self, key: str) -> None:
        """No longer accept a one-time key."""
        with self._lock:
            self._offers.pop(key, None)

    def close(self) -> None:
        """Stop listening and end all sessions; those in a call that takes longer end after it. May be called again."""
        self._closed.set()
        with contextlib.suppress(OSError):
            self._waker.send(b"x")
        self._thread.join()
        with self._lock:
            sessions = list(self._sessions.items())
        for channel, _ in sessions:
            channel.interrupt()
        for _, running in sessions:
            running.thread.join(1.0)

    def _run(self) -> None:
        while not self._closed.is_set():
            self._turn = time.monotonic()
            for key, _ in self._selector.select(_POLL_SECONDS):
                if key.fileobj is self._listener:
                    self._accept()
                elif isinstance(key.fileobj, socket.socket) and key.fileobj in self._pending:
                    self._read(self._pending[key.fileobj])
            now = time.monotonic()
            for pending in [pending for pending in self._pending.values() if pending.deadline < now]:
                self._drop(pending, None if pending.refused else "timeout")
        for pending in list(self._pending.values()):
            self._drop(pending, None)
        for closed in (self._selector, self._listener, self._awoken, self._waker):
            closed.close()

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError as error:  # the peer is gone already, or file descriptors ran out
            logger.warning("a connection could not be accepted: %s", error)
            if self._pending:
                self._drop(next(iter(self._pending.values())), "busy")
            return
        connection.setblocking(False)
        if len(self._pending) >= self._endpoint.limits.pending:
            self._drop(next(iter(self._pending.values())), "busy")
        self._pending[connection] = _Pending(connection, time.monotonic() + self._endpoint.limits.handshake_seconds)
        self._selector.register(connection, selectors.EVENT_READ)

    def _forget(self, pending: _Pending) -> None:
        self._selector.unregister(pending.connection)
        del self._pending[pending.connection]

    def _drop(self, pending: _Pending, reason: str | None) -> None:
        self._forget(pending)
        pending.connection.close()
        if reason is not None:
            self._metrics.connection_refused(reason)

    def _read(self, pending: _Pending) -> None:
        try:
            data = pending.connection.recv(4096 if pending.refused else pending.wanted - len(pending.received))
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(pending, None if pending.refused else "protocol")
            return
        if pending.refused:
            return
        pending.received += data
        try:
            if len(pending.received) == handshake.HEADER.size:
                pending.wanted += handshake.greeting_length(bytes(pending.received))
            if len(pending.received) == pending.wanted:
                self._greeted(pending, handshake.parse_greeting(bytes(pending.received[handshake.HEADER.size :])))
        except ProtocolError as error:
            logger.info("a connection was refused: %s", error)
            self._drop(pending, "protocol")

    def _greeted(self, pending: _Pending, greeting: handshake.Greeting) -> None:
        with self._lock:
            key = handshake.matching_key(greeting.key, (*self._keys, *self._offers))
            crowded = key is not None and not self._has_room()
            on_end = self._offers.pop(key or "", None) if not crowded else None
        if key is None:
            self._refuse(pending, "key", handshake.refused())
            return
        answer = handshake.accepted(key.split(":")[0])
        if crowded:
            error = BusyError(
                f"{self._endpoint.limits.sessions} sessions are already open; close one or try again later"
            )
            body = codec.encode_exception(f"{error.code}: {error}")
            self._refuse(pending, "busy", answer + codec.FRAME_HEADER.pack(4 + len(body), Code.EXCEPTION) + body)
            return
        self._forget(pending)
        pending.connection.setblocking(True)
        channel = Channel(pending.connection)
        name = f"session-{next(self._numbers)}"
        thread = threading.Thread(
            target=self._serve, args=(name, channel, answer, greeting.session_seconds, on_end), name=name, daemon=True
        )
        with self._lock:
            self._sessions[channel] = _Running(thread)
        thread.start()

    def _has_room(self) -> bool:
        """Whether another session may begin; the one that has been idle longest is ended for it. Call with the lock."""
        limits = self._endpoint.limits
        lasting = [(channel, running) for channel, running in self._sessions.items() if not running.ending]
        if len(lasting) < limits.sessions:
            return True
        channel, idlest = max(lasting, key=lambda item: item[1].idle_seconds())
        if idlest.idle_seconds() < limits.yield_seconds:
            return False
        logger.info("%s has been idle and makes way for another", idlest.thread.name)
        idlest.ending = True
        channel.interrupt()
        return True

    def _refuse(self, pending: _Pending, reason: str, answer: bytes) -> None:
        """Answer, then read on until the peer closes: closing at once could destroy the answer on its way."""
        self._metrics.connection_refused(reason)
        pending.refused = True
        try:
            pending.connection.send(answer)
            pending.connection.shutdown(socket.SHUT_WR)
        except OSError:
            self._drop(pending, None)

    def _serve(
        self, name: str, channel: Channel, answer: bytes, session_seconds: float, on_end: Callable[[], None] | None
    ) -> None:
        self._metrics.session_opened()
        try:
            channel.send_bytes(answer, time.monotonic() + self._endpoint.limits.handshake_seconds)
            session = Session(channel, self._endpoint, self._budget, name, session_seconds)
            try:
                conversation = Conversation(channel, session, self._budget)
                self._sessions[channel].conversation = conversation
                conversation.run()
            finally:
                session.release()
        except (ConnectionClosed, AgentError) as error:
            logger.info("a session did not begin: %s", error)
        finally:
            channel.close()
            with self._lock:
                del self._sessions[channel]
            self._metrics.session_closed()
            if on_end is not None:
                on_end()


def listen(address: tuple[str, int], option: str) -> socket.socket:
    """A listening socket. Raises BusyError (port taken) or AgentError; `option` is named as the repair."""
    host, port = address
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server(address, family=family, backlog=256)
    except OSError as error:
        kind = BusyError if error.errno == errno.EADDRINUSE else AgentError
        raise kind(
            f"cannot listen on {host}:{port}: {error.strerror or error}; choose another address or port with {option}"
        ) from error
    listener.setblocking(False)
    return listener
