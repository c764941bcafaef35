"""Random frames against a live RPC port: every one is answered or ends its session, and nothing unforeseen happens."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.rpc import codec
from edge_agent.rpc.codec import Code, DataType, Device, ModuleHandle, Pointer, Tensor
from edge_agent.rpc.handshake import HEADER, MAGIC
from edge_agent.rpc.session import FUNCTIONS, Limits
from edgectl.boards.client import Connection
from tests.edge_agent.fakes import KEY, Board, board, bundle_bytes

# Handles as they are given out: small odd ones for functions and modules, pages for tensors.
handles = st.sampled_from([0, 1, 3, 5, 4096, 12288, 2**64 - 1])
dtypes = st.builds(
    DataType, st.sampled_from([0, 1, 2, 3, 4, 6]), st.sampled_from([1, 4, 8, 16, 32, 64]), st.integers(0, 2)
)
devices = st.builds(Device, st.sampled_from([1, 2, 12]), st.just(0))
shapes = st.lists(st.sampled_from([0, 1, 4, 2**31, 2**62]), max_size=3).map(tuple)
tensors = st.builds(Tensor, handles, devices, dtypes, shapes, st.sampled_from([0, 1, 8, 2**63]))
numbers = st.sampled_from([-1, 0, 1, 8, 1000, 2**40, 2**62])
names = st.sampled_from([*FUNCTIONS, "", "m", "main", "x" * 300, "../m"])
values = st.one_of(
    st.none(), st.booleans(), numbers, st.floats(), names, st.binary(max_size=40), st.just(bundle_bytes()), devices,
    dtypes, tensors, handles.map(Pointer), handles.map(ModuleHandle),
)  # fmt: skip
# What ends the board, or makes it work for long, is left out.
sequences = st.lists(values.filter(lambda value: value not in ("edge.shutdown", "edge.bench")), max_size=5)
bodies = st.one_of(
    sequences.map(codec.encode_values),
    st.tuples(handles, sequences).map(lambda pair: struct.pack("<Q", pair[0]) + codec.encode_values(pair[1])),
    st.tuples(tensors, numbers).map(lambda pair: codec.encode_tensor(pair[0]) + struct.pack("<q", pair[1])),
    st.binary(max_size=60),
)
frames = st.lists(st.tuples(st.sampled_from([*range(2, 22), 99, -1]), bodies), max_size=12)


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    directory: Path = tmp_path_factory.mktemp("fuzz")
    with board(directory, Limits(sessions=256, memory_bytes=1 << 20, frame_bytes=1 << 20)) as running:
        running.deploy(bundle_bytes())
        yield running


def _receive(connection: socket.socket) -> bytes | None:
    """The next frame, or None where the session has ended."""
    try:
        header = connection.recv(8, socket.MSG_WAITALL)
        return connection.recv(struct.unpack("<Q", header)[0], socket.MSG_WAITALL) if len(header) == 8 else None
    except ConnectionResetError:
        return None


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
@settings(max_examples=150)
@given(frames)
def test_every_frame_is_answered_or_ends_its_session(agent: Board, sent: list[tuple[int, bytes]]) -> None:
    greeting = f"client:{KEY}".encode()
    init = codec.encode_text("0.8.0") + codec.encode_values([])
    with socket.create_connection(agent.address, timeout=10) as connection:
        connection.sendall(HEADER.pack(MAGIC, len(greeting)) + greeting)
        assert len(connection.recv(18, socket.MSG_WAITALL)) == 18
        for code, body in [(2, init), (9, codec.encode_values(["tvm.rpc.server.load_module"])), *sent]:
            try:
                connection.sendall(struct.pack("<Qi", 4 + len(body), code) + body)
            except ConnectionError:
                break
            answer = _receive(connection)
            if answer is None:
                break
            assert struct.unpack("<i", answer[:4])[0] in (Code.RETURN, Code.EXCEPTION, Code.COPY_ACKNOWLEDGE)
            assert b"internal error" not in answer, answer
    with Connection(agent.address, KEY) as ours:
        assert ours.call("edge.echo", 1) == 1
