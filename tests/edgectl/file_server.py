"""A local HTTP server for tests, with the faults that a download must survive."""

from __future__ import annotations

import http.server
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Handler = http.server.BaseHTTPRequestHandler
Behaviour = Callable[[Handler], None]
Route = bytes | Behaviour | list[bytes | Behaviour]


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up early is what some tests want: the traceback would end up in what they capture."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class FileServer:
    """Serves `routes`: path -> content, or what to do with a request, or a list of these for successive requests."""

    def __init__(self) -> None:
        self.routes: dict[str, Route] = {}
        self.requests: Counter[str] = Counter()
        self.released = threading.Event()
        outer = self

        class Requests(Handler):
            def do_GET(self) -> None:
                outer.requests[self.path] += 1
                route = outer.routes.get(self.path)
                if isinstance(route, list):
                    route = route[min(outer.requests[self.path], len(route)) - 1]
                if route is None:
                    self.send_error(404)
                elif isinstance(route, bytes):
                    send(self, route)
                else:
                    route(self)

            def log_message(self, *_: object) -> None: ...

        self.server = _Server(("127.0.0.1", 0), Requests)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def stall(self, request: Handler) -> None:
        """Announce content and never send it."""
        request.send_response(200)
        request.send_header("Content-Length", "1000")
        request.end_headers()
        self.released.wait(30)


def send(request: Handler, content: bytes, announced: int | None = None) -> None:
    request.send_response(200)
    request.send_header("Content-Length", str(len(content) if announced is None else announced))
    request.end_headers()
    request.wfile.write(content)


def fail(code: int) -> Behaviour:
    return lambda request: request.send_error(code)


def cut(content: bytes) -> Behaviour:
    """Announce twice as much as is sent."""
    return lambda request: send(request, content, 2 * len(content))


@contextmanager
def file_server() -> Iterator[FileServer]:
    served = FileServer()
    thread = threading.Thread(target=served.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield served
    finally:
        served.released.set()
        served.server.shutdown()
        served.server.server_close()
        thread.join()
