"""The HTTP port: landing page, metrics, health and status."""

from __future__ import annotations

import json
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from edge_agent.http import page
from edge_agent.http.read_only import Answer, ReadOnlyServer, error_answer
from edge_agent.metrics import Metrics


class Server(ReadOnlyServer):
    """Serves until closed. `status` gives what `/status` shows."""

    def __init__(
        self,
        address: tuple[str, int],
        status: Callable[[], dict[str, Any]],
        metrics: Metrics,
        seconds: float = 10.0,
        connections: int = 32,
    ) -> None:
        """`seconds` are a request's in total. Raises BusyError (port taken) or AgentError (no such address)."""
        self._status = status
        self._metrics = metrics
        repair = "choose another address or port with --http-host or --http-port"
        super().__init__(address, repair, seconds, connections)

    def answer(self, path: str, accept: str, client: str) -> Answer:
        if path == "/metrics":
            body, content_type = self._metrics.page(accept)
            return HTTPStatus.OK, content_type, body
        if path == "/health/live":
            return HTTPStatus.OK, "application/json", b'{"live": true}'
        if path == "/health/ready":
            status = self._status()
            if status["ready"]:
                return HTTPStatus.OK, "application/json", b'{"ready": true}'
            return error_answer(HTTPStatus.SERVICE_UNAVAILABLE, f"not ready: {status['reason']}")
        if path == "/status":
            return HTTPStatus.OK, "application/json", json.dumps(self._status()).encode()
        if path == "/":
            return HTTPStatus.OK, "text/html; charset=utf-8", page.render(self._status())
        return error_answer(
            HTTPStatus.NOT_FOUND, "there is nothing here; try /, /metrics, /status, /health/live or /health/ready"
        )
