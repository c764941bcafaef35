"""The binary file of arrays: what is written is read again, and damage is named."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgectl.errors import ModelError
from edgectl.interchange.ndarray_file import DTYPES, read_arrays, write_arrays

DIMENSIONS = hnp.array_shapes(min_dims=1, max_dims=5, max_side=4)
ARRAYS = st.sampled_from(DTYPES).flatmap(lambda dtype: hnp.arrays(dtype, DIMENSIONS))


def written(arrays: dict[str, np.ndarray]) -> bytes:
    file = io.BytesIO()
    write_arrays(file, arrays)
    return file.getvalue()


def read(content: bytes) -> dict[str, np.ndarray]:
    return read_arrays(io.BytesIO(content), "net.params")


@settings(max_examples=100)
@given(st.dictionaries(st.text(max_size=20), ARRAYS, max_size=4))
def test_roundtrip_keeps_names_order_dtypes_and_bits(arrays: dict[str, np.ndarray]) -> None:
    result = read(written(arrays))
    assert list(result) == list(arrays)
    for name, array in arrays.items():
        assert result[name].dtype == array.dtype
        assert result[name].shape == array.shape
        assert result[name].tobytes() == array.tobytes()


def test_bytes_are_those_of_mxnet() -> None:
    content = written({"arg:w": np.array([[1, 2]], np.float32)})
    expected = struct.pack("<QQQ", 0x112, 0, 1) + struct.pack("<Iii2qiii", 0xF993FAC9, 0, 2, 1, 2, 1, 0, 0)
    expected += struct.pack("<2f", 1, 2) + struct.pack("<QQ", 1, 5) + b"arg:w"
    assert content == expected


SAMPLE = written({"arg:weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4), "aux:mean": np.ones(3, np.float16)})


@pytest.mark.parametrize("length", range(len(SAMPLE)))
def test_truncation_anywhere_is_refused(length: int) -> None:
    with pytest.raises(ModelError, match=r"net\.params"):
        read(SAMPLE[:length])


@settings(max_examples=300)
@given(st.integers(0, len(SAMPLE) - 1), st.integers(1, 255))
def test_damage_is_an_error_or_other_values_never_a_crash(position: int, change: int) -> None:
    damaged = bytearray(SAMPLE)
    damaged[position] ^= change
    try:
        arrays = read(bytes(damaged))
    except ModelError as error:
        assert "net.params" in str(error)
    else:
        assert sum(array.nbytes for array in arrays.values()) <= len(SAMPLE)


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_garbage_is_refused(content: bytes) -> None:
    with pytest.raises(ModelError):
        read(content)
    with pytest.raises(ModelError):
        read(struct.pack("<QQQ", 0x112, 0, 1) + content + b"\x01")


def file_with(array: bytes, name: bytes = b"w") -> bytes:
    tail = struct.pack("<QQ", 1, len(name)) + name
    return struct.pack("<QQQ", 0x112, 0, 1) + array + tail


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (struct.pack("<Iii1qiii", 0xF993FAC9, 0, 1, 1 << 60, 1, 0, 0), "needs 4611686018427387904 bytes"),
        (struct.pack("<Iii1qiii", 0xF993FAC9, 0, 1, -4, 1, 0, 0), r"shape \[-4\]"),
        (struct.pack("<Iii", 0xF993FAC9, 0, 99), "rank 99"),
        (struct.pack("<Iii", 0xF993FAC9, 7, 1), "unknown storage type 7"),
        (struct.pack("<Iii1qiii4x", 0xF993FAC9, 0, 1, 1, 1, 0, 42), "unknown dtype number 42"),
        (struct.pack("<Iii1qiii", 0xF993FAC9, 1, 1, 4, 1, 0, 0), "'row_sparse', which is not supported"),
        (struct.pack("<Iii1qiii", 0xF993FAC9, 2, 1, 4, 1, 0, 0), "'csr', which is not supported"),
        (struct.pack("<Iii", 0xF993FAC9, 0, 0), "'w' was never initialised"),
        (struct.pack("<Iii", 0xF993FACA, 0, -1), "'w' was never initialised"),
    ],
)
def test_lies_and_unsupported_arrays_are_named(array: bytes, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        read(file_with(array))


def test_a_count_that_the_file_cannot_hold_is_refused() -> None:
    with pytest.raises(ModelError, match="the number of arrays is 1099511627776"):
        read(struct.pack("<QQQ", 0x112, 0, 1 << 40))


def test_a_repeated_name_and_trailing_bytes_are_refused() -> None:
    one = struct.pack("<Iii1qiiif", 0xF993FAC9, 0, 1, 1, 1, 0, 0, 1.0)
    names = struct.pack("<QQ", 2, 1) + b"w" + struct.pack("<Q", 1) + b"w"
    with pytest.raises(ModelError, match="'w' occurs twice"):
        read(struct.pack("<QQQ", 0x112, 0, 2) + one + one + names)
    with pytest.raises(ModelError, match="3 bytes follow"):
        read(SAMPLE + b"abc")


def test_bfloat16_becomes_float32() -> None:
    values = np.array([1.5, -2.0, 3.0e38], np.float32)
    halves = (values.view(np.uint32) >> 16).astype("<u2")
    array = struct.pack("<Iii1qiii", 0xF993FAC9, 0, 1, 3, 1, 0, 12) + halves.tobytes()
    result = read(file_with(array))["w"]
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, (halves.astype(np.uint32) << np.uint32(16)).view(np.float32))


def test_scalars_and_empty_arrays_of_version_2() -> None:
    scalar = struct.pack("<Iiiiiif", 0xF993FACA, 0, 0, 1, 0, 0, 2.5)
    assert read(file_with(scalar))["w"].shape == ()
    empty = struct.pack("<Iii2qiii", 0xF993FACA, 0, 2, 3, 0, 1, 0, 0)
    assert read(file_with(empty))["w"].shape == (3, 0)


@pytest.mark.parametrize("array", [np.zeros((), np.float32), np.zeros((0, 2), np.float32), np.zeros(2, complex)])
def test_what_the_format_cannot_hold_is_refused(array: np.ndarray) -> None:
    with pytest.raises(ModelError, match="'w'"):
        written({"w": array})
