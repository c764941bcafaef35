"""The HTTP port: pages, and peers that are idle, slow or many."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_agent.errors import BusyError
from edge_agent.http.server import Server
from edge_agent.metrics import Metrics
from tests.edge_agent.fakes import Board, board, bundle_bytes
from tests.edge_agent.test_accuracy import ENTRY


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Board]:
    with board(tmp_path) as running:
        yield running


def _status(agent: Board) -> dict[str, Any]:
    return {
        "board": "sim",
        "description": "a <b>board</b>",
        "config": "1x16",
        "version": "0.1",
        "uptime_seconds": 5.0,
        "rpc_port": agent.server.port,
        "http_port": 1,
        "sessions": 0,
        **agent.service.status(),
    }


@pytest.fixture
def server(agent: Board) -> Iterator[Server]:
    running = Server(("127.0.0.1", 0), lambda: _status(agent), agent.metrics, seconds=0.5, connections=8)
    running.start()
    yield running
    running.close()


def _get(server: Server, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    connection.request(method, path, headers=headers)
    response = connection.getresponse()
    return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()


def test_metrics_by_accept(server: Server) -> None:
    status, headers, body = _get(server, "/metrics")
    assert status == 200 and headers["content-type"].startswith("text/plain; version=") and b"edge_ready 0.0" in body
    _, headers, body = _get(server, "/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert headers["content-type"].startswith("application/openmetrics-text") and body.endswith(b"# EOF\n")


def test_health_follows_the_live_model(server: Server, agent: Board) -> None:
    assert _get(server, "/health/live")[0] == 200
    status, _, body = _get(server, "/health/ready")
    assert status == 503 and json.loads(body) == {"error": "not ready: no bundle has been activated yet"}
    agent.deploy(bundle_bytes())
    assert _get(server, "/health/ready")[0] == 200


def test_status_is_json(server: Server, agent: Board) -> None:
    digest = agent.deploy(bundle_bytes())
    document = json.loads(_get(server, "/status")[2])
    assert document["live"]["digest"] == digest and document["board"] == "sim"


def test_the_landing_page_shows_the_model_and_escapes(server: Server, agent: Board) -> None:
    assert "no model" in _get(server, "/")[2].decode()
    agent.deploy(bundle_bytes("<script>alert(1)</script>"))
    agent.service.bench(None, 1, 1)
    status, headers, body = _get(server, "/")
    page = body.decode()
    assert status == 200 and headers["content-type"] == "text/html; charset=utf-8"
    assert 'href="/metrics"' in page and "4 ms" in page and "&lt;script&gt;" in page
    assert "<script>" not in page and "<b>board" not in page


def test_accuracy_is_on_the_page_in_the_status_and_in_the_metrics(server: Server, agent: Board) -> None:
    agent.deploy(bundle_bytes())
    assert "<dt>accuracy</dt><dd>not measured</dd>" in _get(server, "/")[2].decode()
    assert json.loads(_get(server, "/status")[2])["live"]["accuracy"] is None
    assert "\nedge_model_agreement_ratio NaN\n" in _get(server, "/metrics")[2].decode()
    agent.deploy(bundle_bytes("measured", accuracy=ENTRY))
    page = _get(server, "/")[2].decode()
    assert "98.50 % same answer as float on 1,000 images (95 %: 97.50 to 99.25)" in page
    assert json.loads(_get(server, "/status")[2])["live"]["accuracy"]["agreement"] == 0.985
    assert "\nedge_model_agreement_ratio 0.985\n" in _get(server, "/metrics")[2].decode()


def test_what_is_not_there(server: Server) -> None:
    status, headers, body = _get(server, "/../../etc/passwd")
    assert status == 404 and headers["content-type"] == "application/json" and "try /" in json.loads(body)["error"]
    assert _get(server, "/metrics?name=x")[0] == 200
    for method in ("POST", "PUT", "DELETE", "TRACE"):
        assert _get(server, "/", method)[0] == 501


def test_head_has_no_body(server: Server) -> None:
    status, headers, body = _get(server, "/metrics", "HEAD")
    assert status == 200 and int(headers["content-length"]) > 1000 and body == b""


def _raw(server: Server, data: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=5)
    connection.sendall(data)
    return connection


def _answer(connection: socket.socket) -> bytes:
    answer = b""
    try:
        while chunk := connection.recv(4096):
            answer += chunk
    except ConnectionResetError:
        pass
    return answer


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n", b"414"),
        (b"GET / HTTP/1.1\r\n" + b"".join(b"h%d: x\r\n" % n for n in range(200)) + b"\r\n", b"431"),
        (b"GET / HTTP/1.1\r\nh: " + b"x" * 70_000 + b"\r\n\r\n", b"431"),
        (b"\x00\xff\xfe garbage\r\n\r\n", b"400"),
        (b"GET\r\n\r\n", b"400"),
    ],
)
def test_requests_that_are_none(server: Server, request_bytes: bytes, status: bytes) -> None:
    answer = _answer(_raw(server, request_bytes))
    assert answer.startswith(b"HTTP/1.0 " + status)
    assert set(json.loads(answer.split(b"\r\n\r\n", 1)[1])) == {"error"}
    assert _get(server, "/health/live")[0] == 200


def test_idle_and_slow_connections_end(server: Server) -> None:
    for data in (b"", b"GET / HT", b"GET / HTTP/1.1\r\nhost:"):
        assert _answer(_raw(server, data)) == b""


def test_idle_connections_keep_nobody_out(agent: Board) -> None:
    server = Server(("127.0.0.1", 0), lambda: _status(agent), agent.metrics, seconds=60, connections=8)
    server.start()
    idle = [_raw(server, b"GET /"[: count % 6]) for count in range(200)]
    assert _get(server, "/health/live")[0] == 200
    for connection in idle:
        connection.close()
    server.close()


def test_a_taken_port_is_said(server: Server) -> None:
    with pytest.raises(BusyError, match="--http-port"):
        Server(("127.0.0.1", server.port), dict, Metrics("sim", "config"))
