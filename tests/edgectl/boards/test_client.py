"""The controller's client against an agent, and against what is none."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_agent.errors import BusyError as AgentBusyError
from edge_agent.errors import DeadlineError as AgentDeadlineError
from edge_agent.rpc import edge, handshake, session
from edge_agent.rpc.channel import Channel, ConnectionClosed
from edgectl.boards import client
from edgectl.boards.client import Connection
from edgectl.errors import (
    BusyError,
    DeadlineError,
    EdgectlError,
    IncompatibleError,
    UnreachableError,
    UsageError,
    VerificationError,
)
from tests.edge_agent.fakes import COUNTERS, KEY, Board, board, bundle_bytes

ONES = {"data": np.ones((1, 4), np.float32)}


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Board]:
    with board(tmp_path) as running:
        yield running


@pytest.fixture
def connection(agent: Board) -> Iterator[Connection]:
    with Connection(agent.address, KEY, deadline=5) as opened:
        yield opened


def test_upload_activate_infer_bench_status(agent: Board, connection: Connection) -> None:
    reports: list[tuple[int, int]] = []
    data = bundle_bytes("double", bias=1)
    digest = connection.upload(data, lambda done, total: reports.append((done, total)))
    assert reports[0] == (0, len(data)) and reports[-1] == (len(data), len(data))
    activated = connection.activate(digest)
    assert activated["model"] == "double" and activated["digest"] == digest and activated["load_seconds"] >= 0
    reply = connection.infer(ONES)
    assert reply.outputs["result"].tolist() == [[3, 3, 3, 3]]
    assert (reply.seconds, reply.vta_seconds, reply.counters) == (0.004, 0.003, COUNTERS.as_dict())
    bench = connection.bench(3, 2, ONES)
    assert len(bench.means) == 2 and bench.seconds == (0.004,) * 6 and bench.counters == COUNTERS.as_dict()
    assert connection.status()["live"]["digest"] == digest


def test_large_uploads_go_in_chunks(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "CHUNK_BYTES", 100)
    reports: list[int] = []
    data = bundle_bytes()
    connection.upload(data, lambda done, total: reports.append(done))
    assert reports == [*range(0, len(data), 100), len(data)]


def test_the_same_bundle_is_not_sent_twice(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    data = bundle_bytes()
    digest = connection.upload(data)
    reports: list[int] = []
    assert connection.upload(data, lambda done, total: reports.append(done)) == digest
    assert reports == [len(data)]


class Proxy:
    """Forwards to an agent and cuts each connection once so many bytes have gone there; the last limit stays."""

    def __init__(self, target: tuple[str, int], limits: list[int]) -> None:
        self._target, self._limits = target, limits
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = self._listener.getsockname()
        self.connections = 0
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                near = self._listener.accept()[0]
            except OSError:
                return
            self.connections += 1
            far = socket.create_connection(self._target)
            left = self._limits.pop(0) if len(self._limits) > 1 else self._limits[0]
            threading.Thread(target=self.pump, args=(far, near, 1 << 60), daemon=True).start()
            threading.Thread(target=self.pump, args=(near, far, left), daemon=True).start()

    @staticmethod
    def pump(source: socket.socket, target: socket.socket, left: int, stall: bool = False) -> None:
        """Forward so many bytes, then end both connections, or leave them open and silent."""
        try:
            while left and (data := source.recv(min(left, 4096))):
                target.sendall(data)
                left -= len(data)
        except OSError:
            pass  # the other pump has ended both
        for ended in () if stall else (source, target):
            with contextlib.suppress(OSError):
                ended.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def test_an_interrupted_upload_resumes(agent: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "CHUNK_BYTES", 50_000)
    data = bundle_bytes() + bytes(400_000)  # a ZIP file may have bytes behind it; the SHA-256 is of them all
    proxy = Proxy(agent.address, [150_000, 200_000, 1 << 30])
    reports: list[int] = []
    connection = Connection(proxy.address, KEY, deadline=5)
    try:
        connection.upload(data, lambda done, total: reports.append(done))
    except VerificationError as error:
        assert "not an edgectl bundle" in str(error)  # all of it has arrived: that is what counts here
    assert proxy.connections == 3
    assert reports.count(0) == 1 and len(data) in reports
    assert reports == sorted(reports)
    proxy.close()


def test_a_connection_that_stalls_in_an_upload_is_given_up_and_resumed(agent: Board) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    connections: list[socket.socket] = []

    def serve() -> None:
        """Forward the first connection's first 4 KiB and then nothing; forward the second one whole."""
        for limit in (4096, 1 << 60):
            near, far = listener.accept()[0], socket.create_connection(agent.address)
            connections.extend((near, far))
            threading.Thread(target=Proxy.pump, args=(far, near, 1 << 60), daemon=True).start()
            threading.Thread(target=Proxy.pump, args=(near, far, limit, limit < 1 << 60), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    data = bundle_bytes() + bytes(100_000)
    with pytest.raises(VerificationError):  # all of it has arrived
        Connection(listener.getsockname(), KEY, deadline=0.5).upload(data)
    assert len(connections) == 4
    for connection in (*connections, listener):
        connection.close()


def test_an_upload_that_never_gets_through_ends(agent: Board) -> None:
    proxy = Proxy(agent.address, [1 << 30, 300])
    connection = Connection(proxy.address, KEY, deadline=5)
    connection.drop()
    with pytest.raises(UnreachableError, match=r"is gone|interrupted 2 times"):
        connection.upload(bundle_bytes(), attempts=2)
    proxy.close()


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda c, a: c.activate("0" * 64), UsageError, "there is no bundle 000000000000"),
        (lambda c, a: c.upload(b"no bundle"), VerificationError, "not an edgectl bundle"),
        (lambda c, a: c.infer(ONES), IncompatibleError, "no model is live"),
        (lambda c, a: (a.deploy(bundle_bytes()), c.infer({"wrong": ONES["data"]})), UsageError, "takes 'data'"),
        (lambda c, a: c.activate(c.upload(bundle_bytes(good=False))), VerificationError, "golden sample"),
        (lambda c, a: c.bench(0, 1), UsageError, "must be positive"),
        (lambda c, a: c.call("no.such.function"), IncompatibleError, "has no function 'no.such.function'"),
        (lambda c, a: c.call("edge.echo", 5, kind=str), IncompatibleError, "returned int, not str"),
    ],
)
def test_the_agents_errors_become_the_controllers(agent: Board, connection: Connection, call, kind, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(kind, match=message):
        call(connection, agent)
    assert connection.call("edge.echo", 7) == 7


def test_a_busy_accelerator_is_busy(agent: Board, connection: Connection) -> None:
    agent.deploy(bundle_bytes())
    agent.runtime.error = AgentBusyError("held")
    with pytest.raises(BusyError, match=r"^held$"):
        connection.infer(ONES)


def test_a_deadline_ends_a_call_and_the_next_one_works(agent: Board, connection: Connection) -> None:
    agent.deploy(bundle_bytes())
    agent.runtime.gate.clear()
    with pytest.raises(DeadlineError, match="did not answer in time"):
        connection.infer(ONES, deadline=0.1)
    agent.runtime.gate.set()
    assert connection.infer(ONES).outputs["result"][0, 0] == 2


def test_an_agent_that_dies_in_a_call_is_noticed_at_once(agent: Board, connection: Connection) -> None:
    agent.deploy(bundle_bytes())
    agent.runtime.gate.clear()
    threading.Timer(0.1, agent.server.close).start()
    with pytest.raises(UnreachableError, match="is gone"):
        connection.infer(ONES, deadline=60)


def test_nobody_is_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
    with pytest.raises(UnreachableError, match=f"no agent answers at 127.0.0.1:{address[1]}"):
        Connection(address, KEY)


def test_a_peer_that_never_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(DeadlineError):
        Connection(listener.getsockname(), KEY, deadline=0.1)


def test_the_wrong_key(agent: Board) -> None:
    with pytest.raises(IncompatibleError, match="refuses the key"):
        Connection(agent.address, "sim:wrong")


def _peer(answer: bytes) -> tuple[str, int]:
    """A server that answers anything with these bytes, once."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with listener, listener.accept()[0] as accepted:
            accepted.recv(4096)
            accepted.sendall(answer)
            accepted.recv(4096)

    threading.Thread(target=serve, daemon=True).start()
    return listener.getsockname()


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        handshake.HEADER.pack(handshake.MAGIC, 2**31 - 1),
        handshake.accepted("sim") + b"\xff" * 12,
        handshake.accepted("sim") + struct.pack("<Qi", 8, 4) + b"\xff" * 4,
        handshake.accepted("sim") + struct.pack("<Qi", 4, 99),
    ],
)
def test_peers_that_are_no_agent(answer: bytes) -> None:
    with pytest.raises(EdgectlError) as caught:
        Connection(_peer(answer), KEY, deadline=2)
    assert isinstance(caught.value, IncompatibleError | UnreachableError)


def test_another_protocol_version_is_refused_both_named(agent: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge, "CONTROL_PROTOCOL", 2)
    with pytest.raises(IncompatibleError, match="protocol 2, this controller has protocol 1"):
        Connection(agent.address, KEY)


def test_a_plain_rpc_server_is_not_an_agent(agent: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(session.FUNCTIONS, "edge.protocol")
    with pytest.raises(IncompatibleError, match=r"has no function 'edge\.protocol'"):
        Connection(agent.address, KEY)


def test_shutdown_reaches_the_agent(agent: Board, connection: Connection) -> None:
    connection.shutdown()
    assert agent.shut_down.is_set()


def test_a_peer_that_takes_nothing_ends_a_send_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        channel = Channel(socket.create_connection(listener.getsockname()))
        with pytest.raises(AgentDeadlineError):
            channel.send(3, [bytes(64 << 20)], time.monotonic() + 0.2)
        listener.accept()[0].close()
        with pytest.raises(ConnectionClosed):
            channel.receive_length(time.monotonic() + 5)
        channel.close()
