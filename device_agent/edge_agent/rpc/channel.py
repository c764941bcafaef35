"""Frames over a socket with deadlines, for both ends of a connection."""

from __future__ import annotations

import contextlib
import math
import select
import socket
import time
from collections.abc import Iterable

from edge_agent.errors import DeadlineError, ProtocolError
from edge_agent.rpc.codec import FRAME_CODE, FRAME_HEADER, FRAME_LENGTH

CHUNK_BYTES = 1 << 16


class ConnectionClosed(Exception):
    """The peer closed the connection, or it broke."""


class PeerTooSlow(DeadlineError):
    """The peer did not send or take its bytes in time."""


class Channel:
    """One connection. Not safe for use by several threads at once.

    Methods take deadlines as instants of `time.monotonic()`, and raise PeerTooSlow when one passes and
    ConnectionClosed when the peer is gone.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        if connection.family not in (socket.AF_INET, socket.AF_INET6):
            return
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A peer that lost its power or its network says nothing: ask, so that its session ends within a minute.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in ((socket.TCP_KEEPIDLE, 30), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3)):
            connection.setsockopt(socket.IPPROTO_TCP, option, value)

    @property
    def peer(self) -> str:
        """The other end's address, for people; empty where it is gone or has none."""
        try:
            name = self._socket.getpeername()
        except OSError:
            return ""
        return f"{name[0]}:{name[1]}" if isinstance(name, tuple) else ""

    def _await(self, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise PeerTooSlow("the peer did not send or take its bytes in time")
        self._socket.settimeout(None if math.isinf(left) else left)

    def receive_exactly(self, count: int, deadline: float) -> bytearray:
        """`count` bytes. Memory grows with what arrives, not with what is announced."""
        received = bytearray()
        try:
            while len(received) < count:
                self._await(deadline)
                chunk = self._socket.recv(min(count - len(received), max(CHUNK_BYTES, len(received))))
                if not chunk:
                    raise ConnectionClosed("the peer closed the connection")
                received += chunk
        except TimeoutError:
            raise PeerTooSlow(f"{len(received)} of {count} bytes arrived in time") from None
        except OSError as error:
            raise ConnectionClosed(f"the connection broke: {error}") from error
        return received

    def await_data(self, deadline: float) -> None:
        """Return when bytes, or the end of the connection, can be read."""
        left = deadline - time.monotonic()
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        if left <= 0 or not poll.poll(None if math.isinf(left) else math.ceil(left * 1000)):
            raise PeerTooSlow("the peer sent nothing in time")

    def receive_length(self, deadline: float) -> int:
        """The bytes that the next frame announces: an unchecked number of the peer's."""
        return int(FRAME_LENGTH.unpack(self.receive_exactly(FRAME_LENGTH.size, deadline))[0])

    def receive_frame(self, nbytes: int, deadline: float) -> tuple[int, memoryview]:
        """The code and the body of a frame of so many bytes. Raises ProtocolError where it has no code."""
        if nbytes < FRAME_CODE.size:
            raise ProtocolError(f"a frame of {nbytes} bytes has no code")
        frame = memoryview(self.receive_exactly(nbytes, deadline))
        return FRAME_CODE.unpack_from(frame)[0], frame[FRAME_CODE.size :]

    def discard(self, count: int, deadline: float) -> None:
        """Read and drop `count` bytes."""
        while count:
            count -= len(self.receive_exactly(min(count, CHUNK_BYTES), deadline))

    def send(self, code: int, parts: Iterable[bytes | bytearray | memoryview], deadline: float) -> None:
        """Send one frame, its body given in parts."""
        body = list(parts)
        nbytes = FRAME_CODE.size + sum(len(part) for part in body)
        # Small parts go out together with the header: one packet for most frames.
        if nbytes <= CHUNK_BYTES:
            body = [b"".join(body)]
            self.send_bytes(FRAME_HEADER.pack(nbytes, code) + body[0], deadline)
            return
        self.send_bytes(FRAME_HEADER.pack(nbytes, code), deadline)
        for part in body:
            self.send_bytes(part, deadline)

    def send_bytes(self, data: bytes | bytearray | memoryview, deadline: float) -> None:
        view = memoryview(data).cast("B")
        try:
            while view:
                self._await(deadline)
                view = view[self._socket.send(view[: 1 << 20]) :]
        except TimeoutError:
            raise PeerTooSlow(f"the peer did not take {len(view)} bytes in time") from None
        except OSError as error:
            raise ConnectionClosed(f"the connection broke: {error}") from error

    def peer_closed(self) -> bool:
        """Whether the peer has closed its end, without reading or waiting."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN | select.POLLRDHUP)
        events = poll.poll(0)
        return bool(events) and bool(
            events[0][1] & (select.POLLRDHUP | select.POLLHUP | select.POLLERR | select.POLLNVAL)
        )

    def interrupt(self) -> None:
        """End the connection from another thread: whatever its owner waits for fails at once. The owner closes it."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.interrupt()
        self._socket.close()
