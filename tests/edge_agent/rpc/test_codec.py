"""Frames and packed sequences: round trips, golden bytes of a stock client, and garbage."""

from __future__ import annotations

import math
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.errors import InputError, ProtocolError
from edge_agent.rpc import codec
from edge_agent.rpc.codec import (
    DataType,
    Device,
    FunctionHandle,
    ModuleHandle,
    ObjectHandle,
    Pointer,
    Reader,
    Tensor,
)

u64 = st.integers(0, 2**64 - 1)
i32 = st.integers(-(2**31), 2**31 - 1)
i64 = st.integers(-(2**63), 2**63 - 1)
devices = st.builds(Device, i32, i32)
dtypes = st.builds(DataType, st.integers(0, 255), st.integers(0, 255), st.integers(0, 65535))
tensors = st.builds(Tensor, u64, devices, dtypes, st.lists(st.integers(0, 2**63 - 1), max_size=6).map(tuple), u64)
values = st.one_of(
    st.none(),
    st.booleans(),
    i64,
    st.floats(allow_nan=False),
    st.text(),
    st.binary(),
    devices,
    dtypes,
    tensors,
    *(st.builds(kind, u64) for kind in (Pointer, FunctionHandle, ModuleHandle, ObjectHandle)),
)


@given(st.lists(values, max_size=8))
def test_a_packed_sequence_comes_back(sequence: list[codec.Value]) -> None:
    reader = Reader(codec.encode_values(sequence))
    decoded = reader.values()
    reader.end()
    assert decoded == sequence
    assert [type(value) for value in decoded] == [type(value) for value in sequence]


@given(st.binary(max_size=200))
def test_garbage_is_a_protocol_error_or_a_sequence(body: bytes) -> None:
    try:
        decoded = Reader(body).values()
    except ProtocolError:
        return
    assert len(decoded) <= len(body) // 4


@given(st.lists(values, min_size=1, max_size=4), st.data())
def test_a_truncated_sequence_is_a_protocol_error(sequence: list[codec.Value], data: st.DataObject) -> None:
    body = codec.encode_values(sequence)
    cut = data.draw(st.integers(0, len(body) - 1))
    with pytest.raises(ProtocolError):
        Reader(body[:cut]).values()


@pytest.mark.parametrize(
    "body",
    [
        struct.pack("<iiQ", 1, 8, 2**63),  # a raw string of 2^63 bytes
        struct.pack("<iiQ", 1, 9, 2**40),  # a byte array
        struct.pack("<iiIQ", 1, 65, 65, 2**62),  # a string object
        struct.pack("<i", 2**31 - 1),  # so many values
        struct.pack("<i", -1),
        struct.pack("<iiQiii", 1, 7, 1, 1, 0, 2**31 - 1) + bytes(4),  # a tensor of so many dimensions
    ],
)
def test_a_lying_length_allocates_nothing(body: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError):
            Reader(body).values()
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_forms_that_only_peers_send() -> None:
    raw = struct.pack("<iiQ", 1, 8, 3) + b"abc"
    assert Reader(raw).values() == ["abc"]
    array = struct.pack("<iiQ", 1, 9, 3) + b"abc"
    assert Reader(array).values() == [b"abc"]
    for index, repeated, expected in ((11, 65, "abc"), (12, 66, b"abc"), (65, 65, "abc"), (66, 66, b"abc")):
        assert Reader(struct.pack("<iiIQ", 1, index, repeated, 3) + b"abc").values() == [expected]


def test_golden_bytes_of_a_sequence() -> None:
    """What TVM 0.27's client sends for (1, True, 2.5, cpu(0)), and for float32 (2, 3) at handle 0x1000."""
    expected = bytes.fromhex(
        "04000000010000000100000000000000020000000100000000000000030000000000000000000440060000000100000000000000"
    )
    assert codec.encode_values([1, True, 2.5, Device(1)]) == expected
    tensor = Tensor(0x1000, Device(1), DataType(2, 32), (2, 3))
    assert codec.encode_values([tensor]) == bytes.fromhex(
        "01000000"
        "07000000"
        "0010000000000000"
        "0100000000000000"
        "02000000"
        "02200100"
        "0200000000000000"
        "0300000000000000"
        "0000000000000000"
    )


def test_sequences_of_older_releases_are_refused_by_name() -> None:
    old = struct.pack("<iiQ", 1, 11, 5) + b"hello"  # TVM 0.19: type code 11 was a string
    with pytest.raises(ProtocolError, match=r"0\.8\.0.*TVM 0\.19 and older"):
        Reader(old).values()


@pytest.mark.parametrize(
    "body",
    [
        struct.pack("<ii", 1, 42),  # no such type
        struct.pack("<iiQ", 1, 8, 1) + b"\xff",  # not UTF-8
        struct.pack("<iiQiiiBBH", 1, 7, 1, 1, 0, 1, 2, 32, 1) + struct.pack("<qQ", -1, 0),  # a negative extent
    ],
)
def test_malformed_values(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        Reader(body).values()


def test_left_over_bytes_are_an_error() -> None:
    reader = Reader(codec.encode_values([None]) + b"x")
    reader.values()
    with pytest.raises(ProtocolError, match="1 bytes are left over"):
        reader.end()


def test_nan_and_infinity_pass() -> None:
    decoded = Reader(codec.encode_values([math.nan, -math.inf])).values()
    assert math.isnan(decoded[0]) and decoded[1] == -math.inf  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["int8", "uint8", "int32", "int64", "uint16", "float16", "float32", "float64", "bool"])
def test_numpy_types_have_dlpack_types(name: str) -> None:
    dtype = np.dtype(name)
    assert DataType.of(dtype).numpy() == dtype
    assert DataType.of(dtype).nbytes == dtype.itemsize


@pytest.mark.parametrize(
    "dtype", [DataType(4, 16), DataType(0, 4), DataType(2, 32, 4), DataType(6, 16), DataType(3, 64)]
)
def test_dlpack_types_without_numpy_types_are_refused(dtype: DataType) -> None:
    with pytest.raises(InputError, match="not supported"):
        dtype.numpy()


def test_results_carry_their_type_index() -> None:
    assert Reader(codec.encode_result(5)).values() == [1, 5]
    assert Reader(codec.encode_result("x")).values() == [65, "x"]
    assert Reader(codec.encode_result(None)).values() == [0, None]
    assert Reader(codec.encode_result(FunctionHandle(9))).values() == [68, Pointer(9)]
    tensor = Tensor(4096, Device(1), DataType(2, 32), (1,))
    assert Reader(codec.encode_result(tensor, 4096)).values() == [70, tensor, Pointer(4096)]


def test_exceptions_are_one_raw_string_without_nul() -> None:
    assert codec.encode_exception("a\0b") == struct.pack("<iiQ", 1, 8, 2) + b"ab"
