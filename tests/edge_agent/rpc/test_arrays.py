"""Named arrays in one byte string."""

from __future__ import annotations

import contextlib
import json
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edge_agent.errors import InputError
from edge_agent.rpc.arrays import pack, unpack

ARRAYS = hnp.arrays(
    st.sampled_from(["int8", "uint8", "int32", "int64", "float16", "float32", "float64", "bool"]),
    hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
)


@given(st.dictionaries(st.text(), ARRAYS, max_size=4), st.dictionaries(st.sampled_from("abc"), st.integers()))
def test_arrays_and_header_come_back(arrays: dict[str, np.ndarray], header: dict[str, int]) -> None:
    found, found_header = unpack(pack(arrays, header))
    assert found_header == header
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape
        assert found[name].tobytes() == array.tobytes()


def test_byte_order_and_strides_do_not_matter() -> None:
    array = np.arange(12, dtype=">i4").reshape(3, 4).T
    found, _ = unpack(pack({"x": array}))
    assert (found["x"] == array).all() and found["x"].dtype == np.dtype("<i4")


@given(st.binary(max_size=120))
def test_garbage_is_an_input_error(data: bytes) -> None:
    with contextlib.suppress(InputError):
        unpack(data)


def _request(tensors: object, body: bytes = b"") -> bytes:
    header = json.dumps({"tensors": tensors}).encode()
    return struct.pack("<I", len(header)) + header + body


@pytest.mark.parametrize(
    "request_bytes",
    [
        _request([{"name": "x", "dtype": "float32", "shape": [2**40, 2**40]}]),
        _request([{"name": "x", "dtype": "float32", "shape": [-1]}], bytes(4)),
        _request([{"name": "x", "dtype": "float32", "shape": [1.0]}], bytes(4)),
        _request([{"name": "x", "dtype": "object", "shape": [1]}], bytes(8)),
        _request([{"name": "x", "dtype": "int8", "shape": [1]}], bytes(2)),
        _request([{"name": "x", "dtype": "int8", "shape": [1]}] * 2, bytes(2)),
        _request([{"name": 1, "dtype": "int8", "shape": [1]}], bytes(1)),
        _request({"name": "x"}),
        _request(None),
        struct.pack("<I", 100_000) + b"[" * 100_000,
        struct.pack("<I", 2**32 - 1),
        b"",
    ],
)
def test_lies_are_input_errors(request_bytes: bytes) -> None:
    with pytest.raises(InputError, match="do not parse"):
        unpack(request_bytes)
