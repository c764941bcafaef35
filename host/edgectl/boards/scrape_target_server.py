"""Serves what to scrape to Prometheus: HTTP service discovery, always the whole list."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from http import HTTPStatus

from edge_agent.http.read_only import Answer, ReadOnlyServer, error_answer
from edge_agent.listening import is_loopback
from edgectl.boards.client import Address
from edgectl.boards.scrape_targets import Targets, as_json
from edgectl.errors import EdgectlError

FRESH_SECONDS = 5.0
"""So long the last look around counts as how things are."""


class ScrapeTargetServer(ReadOnlyServer):
    """Answers with the targets that `find` finds, once it is started. A failure to find them is status 503, on which
    Prometheus keeps those that it has."""

    def __init__(self, address: Address, find: Callable[[], Targets], fresh_seconds: float = FRESH_SECONDS) -> None:
        """Port 0 takes a free one. Raises the agent's BusyError (port taken) and AgentError (no such address)."""
        self._find = find
        self._fresh_seconds = fresh_seconds
        self._looking = threading.Lock()
        self._found: tuple[float, Targets] | None = None
        super().__init__(address, "choose another address or port: edgectl sd --http HOST:PORT")

    @property
    def url(self) -> str:
        return f"http://{Address(self.host, self.port)}/"

    def targets(self) -> Targets:
        """How things are; whoever asks at the same time waits for one look around. Raises what `find` raises."""
        with self._looking:
            now = time.monotonic()
            if self._found is None or now - self._found[0] > self._fresh_seconds:
                self._found = (now, self._find())
            return self._found[1]

    def answer(self, path: str, accept: str, client: str) -> Answer:
        if path != "/":
            return error_answer(HTTPStatus.NOT_FOUND, "there is nothing here; the targets are at /")
        try:
            targets = self.targets().targets
        except EdgectlError as error:
            return error_answer(HTTPStatus.SERVICE_UNAVAILABLE, str(error))
        # Another machine would look for this machine's simulated board on itself.
        there = [target for target in targets if is_loopback(client) or not is_loopback(target.address.host)]
        return HTTPStatus.OK, "application/json", as_json(there)
