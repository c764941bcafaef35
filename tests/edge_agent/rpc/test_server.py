"""The RPC port against peers that are idle, slow, malformed or many."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_agent.errors import BusyError
from edge_agent.rpc import codec
from edge_agent.rpc.handshake import HEADER, MAGIC, MISMATCH
from edge_agent.rpc.server import Server
from edge_agent.rpc.session import Limits
from edgectl.boards.client import Connection
from edgectl.errors import EdgectlError, UnreachableError, UsageError
from tests.edge_agent.fakes import KEY, Board, board, bundle_bytes

SHORT = Limits(
    handshake_seconds=0.3,
    idle_seconds=30,
    frame_seconds=0.3,
    frame_bytes=1 << 20,
    memory_bytes=3 << 19,
    sessions=4,
    pending=16,
)


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Board]:
    with board(tmp_path, SHORT) as running:
        yield running


def _raw(agent: Board, greeting: bytes | None = None) -> socket.socket:
    connection = socket.create_connection(agent.address, timeout=5)
    connection.sendall(greeting if greeting is not None else _greeting())
    return connection


def _greeting(key: str = KEY, more: str = "") -> bytes:
    text = f"client:{key}{more}".encode()
    return HEADER.pack(MAGIC, len(text)) + text


def _session(agent: Board) -> socket.socket:
    """A connection after handshake and InitServer."""
    connection = _raw(agent)
    magic, length = HEADER.unpack(_take(connection, 8))
    assert (magic, _take(connection, length)) == (MAGIC, b"server:sim")
    _send(connection, 2, codec.encode_text("0.8.0") + codec.encode_values([]))
    assert _receive(connection) == (4, [None])
    return connection


def _take(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count and (chunk := connection.recv(count - len(data))):
        data += chunk
    return data


def _send(connection: socket.socket, code: int, body: bytes) -> None:
    connection.sendall(struct.pack("<Qi", 4 + len(body), code) + body)


def _receive(connection: socket.socket) -> tuple[int, list[codec.Value]]:
    nbytes, code = struct.unpack("<Qi", _take(connection, 12))
    return code, codec.Reader(_take(connection, nbytes - 4)).values()


def _ends(connection: socket.socket) -> bool:
    """Whether the agent closes the connection before long."""
    connection.settimeout(5)
    try:
        while connection.recv(4096):
            pass
    except ConnectionResetError:
        pass
    return True


def _served(agent: Board) -> bool:
    with Connection(agent.address, KEY, deadline=5) as connection:
        return bool(connection.call("edge.echo", 5) == 5)


def _eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)


@pytest.mark.parametrize(
    "greeting",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01" + bytes(100),
        HEADER.pack(MAGIC, -1),
        HEADER.pack(MAGIC, 2**31 - 1),
        HEADER.pack(MAGIC, 3) + b"abc",
        HEADER.pack(MAGIC, 2) + b"\xff\xff",
        _greeting(KEY, " -timeout=x"),
        _greeting(KEY, " -timeout=-1"),
        _greeting(KEY, " -timeout=nan"),
    ],
)
def test_what_is_no_greeting_is_dropped(agent: Board, greeting: bytes) -> None:
    assert _ends(_raw(agent, greeting))
    assert _served(agent)


@pytest.mark.parametrize("key", ["", "sim", "sim:secret2", "sim:secre", "SIM:SECRET", "x" * 400])
def test_a_wrong_key_is_told_so(agent: Board, key: str) -> None:
    assert _take(_raw(agent, _greeting(key)), 5) == struct.pack("<i", MISMATCH)


def test_an_unfinished_handshake_ends_in_time(agent: Board) -> None:
    assert _ends(_raw(agent, b""))
    assert _ends(_raw(agent, _greeting()[:9]))


@pytest.mark.parametrize(
    ("code", "body"),
    [
        (2, codec.encode_text("0.7.0") + codec.encode_values([])),
        (2, b"\xff" * 8),
        (3, bytes(12)),  # a call before InitServer
        (99, b""),
        (9, codec.encode_values(["edge.echo"])),
    ],
)
def test_a_wrong_first_frame_is_answered_and_ends_the_session(agent: Board, code: int, body: bytes) -> None:
    connection = _raw(agent)
    _take(connection, 18)
    _send(connection, code, body)
    answer, values = _receive(connection)
    assert answer == 5 and str(values[0]).startswith("protocol: ")
    assert _ends(connection)
    assert _served(agent)


def test_both_versions_are_named(agent: Board) -> None:
    connection = _raw(agent)
    _take(connection, 18)
    _send(connection, 2, codec.encode_text("0.7.0") + codec.encode_values([]))
    assert "'0.7.0', this agent speaks '0.8.0'" in str(_receive(connection)[1][0])


@pytest.mark.parametrize("body", [b"", b"\xff" * 30, struct.pack("<i", 2**31 - 1), struct.pack("<iiQ", 1, 8, 2**60)])
@pytest.mark.parametrize("code", [3, 6, 7, 9, 10, 12, 13, 16, 17])
def test_malformed_frames_end_the_session_only(agent: Board, code: int, body: bytes) -> None:
    connection = _session(agent)
    _send(connection, code, body)
    answer, values = _receive(connection)
    assert answer == 5 and str(values[0]).startswith("protocol: ")
    assert _ends(connection)
    assert _served(agent)


def test_wrong_arguments_of_a_system_call(agent: Board) -> None:
    for code, arguments in [
        (9, [5]),
        (9, []),
        (10, ["x"]),
        (13, [1, 2, 3, 4]),
        (16, [None, None, None]),
        (17, [None, None]),
    ]:
        connection = _session(agent)
        _send(connection, code, codec.encode_values(arguments))  # type: ignore[arg-type]
        assert str(_receive(connection)[1][0]).startswith("protocol: "), code


def test_a_frame_that_stops_half_way_ends_in_time(agent: Board) -> None:
    connection = _session(agent)
    connection.sendall(struct.pack("<Qi", 1000, 3) + b"half")
    assert _ends(connection)
    assert _served(agent)


def test_a_lying_length_ends_the_session(agent: Board) -> None:
    connection = _session(agent)
    connection.sendall(struct.pack("<Qi", 2**63, 3))
    assert "a frame has 9223372036854775808 bytes, at most 1048576" in str(_receive(connection)[1][0])
    assert _ends(connection)


def test_a_frame_that_is_too_long_is_answered_and_the_session_goes_on(agent: Board) -> None:
    connection = _session(agent)
    _send(connection, 3, bytes(3 << 20))
    code, values = _receive(connection)
    assert code == 5 and "at most 1048576 are accepted; send bundles with edge.upload" in str(values[0])
    _send(connection, 9, codec.encode_values(["edge.echo"]))
    assert _receive(connection)[0] == 4


def test_long_frames_count_against_the_memory_of_all_sessions(tmp_path: Path) -> None:
    with board(tmp_path, Limits(frame_bytes=4 << 20, memory_bytes=2 << 20)) as agent:
        connection = _session(agent)
        _send(connection, 3, bytes(3 << 20))
        assert str(_receive(connection)[1][0]).startswith("busy: ")
        call = struct.pack("<Q", 1) + codec.encode_values([bytes(1 << 20)])
        for _ in range(3):  # what a frame took is given back
            _send(connection, 3, call)
            assert str(_receive(connection)[1][0]).startswith("input: there is no function with handle 1")


def test_idle_sessions_end(tmp_path: Path) -> None:
    with board(tmp_path, Limits(idle_seconds=0.2)) as agent:
        assert _ends(_session(agent))


def test_a_session_ends_when_its_client_asked_for_it(agent: Board) -> None:
    connection = _raw(agent, _greeting(KEY, " -timeout=0.2"))
    _take(connection, 18)
    _send(connection, 2, codec.encode_text("0.8.0") + codec.encode_values([]))
    _receive(connection)
    code, values = _receive(connection)
    assert code == 5 and str(values[0]).startswith("RPCSessionTimeoutError: ")


def test_idle_connections_keep_nobody_out(tmp_path: Path) -> None:
    with board(tmp_path, Limits(handshake_seconds=60, pending=32)) as agent:
        idle = [_raw(agent, _greeting()[: count % 9]) for count in range(400)]
        assert _served(agent)
        for connection in idle:
            connection.close()


def test_slow_writers_keep_nobody_out(agent: Board) -> None:
    slow = [_session(agent) for _ in range(3)]
    for connection in slow:
        connection.sendall(b"\x10")
    assert _served(agent)


def test_too_many_sessions_are_told_and_make_room_when_they_end(agent: Board) -> None:
    sessions = [_session(agent) for _ in range(4)]
    with pytest.raises(EdgectlError, match="4 sessions are already open"):
        Connection(agent.address, KEY)
    sessions[0].close()
    _eventually(lambda: agent.server.sessions == 3)
    assert _served(agent)


def test_a_session_that_has_long_been_idle_makes_way(tmp_path: Path) -> None:
    with board(tmp_path, Limits(sessions=3, yield_seconds=1.0)) as agent:
        oldest, middle, newest = (_session(agent) for _ in range(3))
        with pytest.raises(EdgectlError, match="3 sessions are already open"):
            Connection(agent.address, KEY)
        time.sleep(1.1)
        for kept in (oldest, newest):
            _send(kept, 9, codec.encode_values(["edge.echo"]))
            _receive(kept)
        assert _served(agent)
        assert _ends(middle)
        for kept in (oldest, newest):
            _send(kept, 9, codec.encode_values(["edge.echo"]))
            assert _receive(kept)[0] == 4


def test_sessions_run_side_by_side(agent: Board) -> None:
    agent.deploy(bundle_bytes())
    agent.runtime.gate.clear()
    inputs = {"data": np.ones((1, 4), np.float32)}
    found: list[object] = []

    def infer() -> None:
        with Connection(agent.address, KEY) as connection:
            found.append(connection.infer(inputs).outputs["result"].tolist())

    thread = threading.Thread(target=infer)
    thread.start()
    assert _served(agent)  # while the other one's call is under way
    assert not found
    agent.runtime.gate.set()
    thread.join()
    assert found == [[[2, 2, 2, 2]]]


def test_what_a_session_made_ends_with_it(agent: Board) -> None:
    connection = Connection(agent.address, KEY)
    connection.call("tvm.rpc.server.upload", "model", bundle_bytes())
    connection.call("tvm.rpc.server.load_module", "model")
    assert agent.runtime.loaded == 1
    assert list((agent.endpoint.folder).iterdir())
    connection.close()
    _eventually(lambda: agent.server.sessions == 0)
    assert agent.runtime.loaded == 0
    assert not list(agent.endpoint.folder.iterdir())


def test_a_client_that_leaves_stops_its_measurement(agent: Board) -> None:
    agent.deploy(bundle_bytes())
    connection = _session(agent)
    _send(connection, 9, codec.encode_values(["edge.bench"]))
    handle = _receive(connection)[1][0]
    assert isinstance(handle, codec.Pointer)
    _send(connection, 3, struct.pack("<Q", handle.handle) + codec.encode_values([100, 1000]))
    connection.close()
    _eventually(lambda: agent.server.sessions == 0)
    assert agent.service.status()["samples"] < 100_000


def test_tensor_memory_is_bounded_over_sessions(agent: Board) -> None:
    first, second = _session(agent), _session(agent)
    for connection, expected in ((first, 4), (second, 5)):
        _send(connection, 13, codec.encode_values([codec.Device(1), 1_000_000, 64, codec.DataType(2, 32)]))
        code, values = _receive(connection)
        assert code == expected
    assert str(values[0]).startswith("busy: 1000000 bytes of memory are asked for")
    first.close()
    _eventually(lambda: agent.server.sessions == 1)
    _send(second, 13, codec.encode_values([codec.Device(1), 1_000_000, 64, codec.DataType(2, 32)]))
    assert _receive(second)[0] == 4


def test_one_sessions_handles_mean_nothing_in_another(agent: Board) -> None:
    first, second = _session(agent), _session(agent)
    _send(first, 13, codec.encode_values([codec.Device(1), 64, 64, codec.DataType(2, 32)]))
    pointer = _receive(first)[1][0]
    assert isinstance(pointer, codec.Pointer)
    tensor = codec.Tensor(pointer.handle, codec.Device(1), codec.DataType(2, 32), (16,))
    _send(second, 6, codec.encode_tensor(tensor) + struct.pack("<Q", 64))
    code, values = _receive(second)
    assert code == 5 and "no tensor memory with handle" in str(values[0])


def test_calls_of_what_is_no_function(agent: Board) -> None:
    connection = _session(agent)
    _send(connection, 3, struct.pack("<Q", 77) + codec.encode_values([]))
    assert "no function with handle 77" in str(_receive(connection)[1][0])


def test_one_time_keys_are_good_once(agent: Board) -> None:
    ended = threading.Event()
    agent.server.offer("pynq:once", ended.set)
    with Connection(agent.address, "pynq:once"):
        assert not agent.server.is_offered("pynq:once")
        assert not ended.is_set()
    assert ended.wait(5)
    with pytest.raises(EdgectlError, match="refuses the key"):
        Connection(agent.address, "pynq:once")


def test_a_taken_port_is_said(agent: Board) -> None:
    with pytest.raises(BusyError, match=f"127.0.0.1:{agent.server.port}.*--port"):
        Server(agent.address, [KEY], agent.endpoint, agent.metrics)


def test_closing_ends_sessions(tmp_path: Path) -> None:
    with board(tmp_path, SHORT) as agent:
        connection = Connection(agent.address, KEY)
    with pytest.raises(UnreachableError):
        connection.call("edge.echo", 1)


def test_unforeseen_errors_are_answered(agent: Board) -> None:
    agent.deploy(bundle_bytes())
    agent.runtime.error = ZeroDivisionError("inside")
    with Connection(agent.address, KEY) as connection:
        with pytest.raises(EdgectlError, match="internal error in the agent: ZeroDivisionError"):
            connection.infer({"data": np.ones((1, 4), np.float32)})
        agent.runtime.error = None
        with pytest.raises(UsageError, match="no upload of"):
            connection.call("edge.upload.commit", "0" * 64)
