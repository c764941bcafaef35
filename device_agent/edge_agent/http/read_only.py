"""An HTTP port that only reads: GET and HEAD.

A request has a fixed time in total, and connections are bounded: the oldest one that has not sent its request yet makes
way for the newest, so that idle and slow peers keep no scraper out.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import socket
import socketserver
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any

from edge_agent.errors import AgentError, BusyError
from edge_agent.supervision import HANGING_SECONDS
from edge_agent.version import VERSION

logger = logging.getLogger(__name__)

_SECURITY_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
    "X-Content-Type-Options": "nosniff",
}


Answer = tuple[HTTPStatus, str, bytes]
"""Status, content type and body."""


class _Handler(BaseHTTPRequestHandler):
    server: ReadOnlyServer
    server_version = f"edge-agent/{VERSION}"
    sys_version = ""
    protocol_version = "HTTP/1.0"  # one request per connection: nothing to keep alive, nothing to smuggle

    def do_GET(self) -> None:
        self.server.request_arrived(self.connection)
        path = self.path.split("?")[0]
        try:
            status, content_type, body = self.server.answer(
                path, self.headers.get("Accept", ""), self.client_address[0]
            )
        except Exception:
            logger.exception("a request failed in an unforeseen way")
            status, content_type, body = error_answer(HTTPStatus.INTERNAL_SERVER_ERROR, "internal error")
        self._reply(status, content_type, body)

    do_HEAD = do_GET

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the base class calls for requests that are none, or of another method: JSON, as every error here."""
        self.request_version = "HTTP/1.0"  # it may have got no further than the default, HTTP/0.9
        self._reply(*error_answer(HTTPStatus(code), message or HTTPStatus(code).phrase))

    def _reply(self, status: HTTPStatus, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        for name, value in _SECURITY_HEADERS.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        logger.debug(format, *arguments)


def error_answer(status: HTTPStatus, message: str) -> Answer:
    """An error as JSON."""
    return status, "application/json", json.dumps({"error": message}).encode()


class ReadOnlyServer(socketserver.ThreadingTCPServer):
    """Serves until closed what `answer` gives."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], repair: str, seconds: float = 10.0, connections: int = 32) -> None:
        """`seconds` are a request's in total. Raises BusyError (port taken) or AgentError (no such address), which say
        how to `repair` it."""
        self._seconds = seconds
        self._connections = connections
        self._open: dict[socket.socket, float] = {}
        self._waiting: dict[socket.socket, None] = {}
        self._lock = threading.Lock()
        self._turn = 0.0
        try:
            self.address_family = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)[0][0]
            super().__init__(address, _Handler)
        except OSError as error:
            kind = BusyError if error.errno == errno.EADDRINUSE else AgentError
            raise kind(f"cannot listen on {address[0]}:{address[1]}: {error.strerror or error}; {repair}") from error
        self._thread = threading.Thread(target=self.serve_forever, args=(0.25,), name="http", daemon=True)

    @property
    def host(self) -> str:
        """The address that it listens on, which a name was resolved to."""
        return str(self.server_address[0])

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    @property
    def alive(self) -> bool:
        """Whether connections are still taken: the thread that does has looked for some lately."""
        return self._thread.is_alive() and time.monotonic() - self._turn < HANGING_SECONDS

    def start(self) -> None:
        self._turn = time.monotonic()
        self._thread.start()

    def close(self) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join()

    def answer(self, path: str, accept: str, client: str) -> Answer:
        """What is at a path, for an Accept header and the client's address."""
        raise NotImplementedError

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            if len(self._open) >= self._connections and self._waiting:
                self._shut(next(iter(self._waiting)))
            crowded = len(self._open) >= self._connections
            if not crowded:
                self._open[request] = time.monotonic() + self._seconds
                self._waiting[request] = None
        if crowded:
            self.shutdown_request(request)
            return
        request.settimeout(self._seconds)
        super().process_request(request, client_address)

    def request_arrived(self, connection: socket.socket) -> None:
        """The whole request is here: it may no longer be dropped for another one."""
        with self._lock:
            self._waiting.pop(connection, None)

    def _shut(self, connection: socket.socket) -> None:
        """End a connection from outside its thread, whose read or write then fails. Call it with the lock held."""
        self._open.pop(connection, None)
        self._waiting.pop(connection, None)
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)

    def service_actions(self) -> None:
        """Called by the serving loop between connections: end those whose time is over."""
        now = self._turn = time.monotonic()
        with self._lock:
            for connection in [connection for connection, deadline in self._open.items() if deadline < now]:
                self._shut(connection)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.pop(request, None)
            self._waiting.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        logger.debug("a connection from %s broke", client_address, exc_info=True)
