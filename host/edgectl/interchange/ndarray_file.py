"""MXNet's binary file of named arrays (`.params`), read and written without MXNet.

Layout, little-endian, as MXNet's `NDArray::Save` and `NDArray::Load` define it:
    u64 0x112, u64 reserved, u64 count, `count` arrays, u64 count, `count` names (u64 length, bytes)
    array, MXNet 1.x (u32 0xF993FAC9) and 2.0 (u32 0xF993FACA):
        i32 storage type (0 dense), i32 rank, i64 dimensions, i32 device type, i32 device id, i32 dtype, data
    array, MXNet 0.11-0.12 (u32 0xF993FAC8): the same without the storage type
    array, older: u32 rank, u32 dimensions, i32 device type, i32 device id, i32 dtype, data
An array that was never initialised ends after its dimensions: rank 0, in 2.0 rank -1.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Mapping
from typing import BinaryIO

import numpy as np

from edgectl.errors import ModelError

LIST_MAGIC = 0x112
MAGIC_V1, MAGIC_V2, MAGIC_V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
STORAGE_NAMES = {0: "dense", 1: "row_sparse", 2: "csr"}
DTYPES = (
    "float32", "float64", "float16", "uint8", "int32", "int8", "int64", "bool", "int16", "uint16", "uint32", "uint64",
)  # fmt: skip
BFLOAT16 = 12
"""NumPy has no such type: it is read as float32, which holds every bfloat16 exactly."""
MAXIMUM_RANK = 32
CPU = 1


class _Source:
    """Reads fields from a file of known length; every shortage is a ModelError with name and offset."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.file, self.name = file, name
        self.size = file.seek(0, os.SEEK_END)
        file.seek(0)

    @property
    def remaining(self) -> int:
        return self.size - self.file.tell()

    def damaged(self, what: str, offset: int | None = None) -> ModelError:
        where = self.file.tell() if offset is None else offset
        return ModelError(
            f"{self.name} is damaged at byte {where} of {self.size}: {what}; download or export the file again"
        )

    def require(self, length: int, what: str) -> None:
        if length > self.remaining:
            raise self.damaged(f"{what} needs {length} bytes, {self.remaining} are left")

    def take(self, length: int, what: str) -> bytes:
        self.require(length, what)
        return self.file.read(length)

    def number(self, code: str, what: str) -> int:
        return struct.unpack("<" + code, self.take(struct.calcsize("<" + code), what))[0]

    def count(self, unit: int, what: str) -> int:
        """A u64 that says how many items of at least `unit` bytes follow."""
        value = self.number("Q", what)
        if value * unit > self.remaining:
            raise self.damaged(f"{what} is {value}, which {self.remaining} bytes cannot hold", self.file.tell() - 8)
        return value

    def dimensions(self, rank: int, code: str) -> tuple[int, ...]:
        if not 0 <= rank <= MAXIMUM_RANK:
            raise self.damaged(f"an array of rank {rank}")
        shape = struct.unpack(f"<{rank}{code}", self.take(rank * struct.calcsize("<" + code), "a shape"))
        if min(shape, default=0) < 0:
            raise self.damaged(f"an array of shape {list(shape)}")
        return shape

    def data(self, shape: tuple[int, ...]) -> np.ndarray:
        """Device, dtype and elements. The device is where the array once lived and means nothing here."""
        self.take(8, "an array's device")
        flag = self.number("i", "an array's dtype")
        if not (0 <= flag < len(DTYPES) or flag == BFLOAT16):
            raise self.damaged(f"unknown dtype number {flag}", self.file.tell() - 4)
        dtype = np.dtype("uint16" if flag == BFLOAT16 else DTYPES[flag]).newbyteorder("<")
        length = math.prod(shape) * dtype.itemsize
        self.require(length, f"an array of shape {list(shape)}")
        array = np.empty(shape, dtype)
        self.file.readinto(array.reshape(-1).view(np.uint8))  # type: ignore[attr-defined]
        if flag == BFLOAT16:
            return (array.astype(np.uint32) << np.uint32(16)).view(np.float32)
        return array

    def array(self, index: int) -> np.ndarray | None:
        """The next array; None where it was never initialised."""
        magic = self.number("I", "an array's header")
        if magic in (MAGIC_V2, MAGIC_V3):
            storage = self.number("i", "an array's storage type")
            if storage != 0:
                kind = STORAGE_NAMES.get(storage)
                if kind is None:
                    raise self.damaged(f"unknown storage type {storage}", self.file.tell() - 4)
                raise ModelError(
                    f"{self.name}: array {index} is stored as '{kind}', which is not supported; "
                    "save it dense (array.tostype('default'))"
                )
            rank = self.number("i", "an array's rank")
            if magic == MAGIC_V3 and rank == -1:
                return None
            shape = self.dimensions(rank, "q")
            return self.data(shape) if magic == MAGIC_V3 or (shape and 0 not in shape) else None
        if magic == MAGIC_V1:
            shape = self.dimensions(self.number("i", "an array's rank"), "q")
        else:
            shape = self.dimensions(magic, "I")
        return self.data(shape) if shape and 0 not in shape else None


def read_arrays(file: BinaryIO, name: str) -> dict[str, np.ndarray]:
    """The arrays of an open `.params` file by the names in it; `name` is the file's name in errors.

    Raises ModelError where the file is no such file, is damaged, has unnamed or uninitialised or sparse arrays.
    """
    source = _Source(file, name)
    if source.size < 24 or source.number("Q", "the header") != LIST_MAGIC:
        file.seek(0)
        raise ModelError(
            f"{name} is not an MXNet parameter file: it begins with {file.read(8)!r}; give the .params file that "
            "net.export or save_parameters wrote"
        )
    source.take(8, "the header")
    arrays = [source.array(index) for index in range(source.count(8, "the number of arrays"))]
    count = source.count(8, "the number of names")
    if count != len(arrays):
        raise source.damaged(f"{len(arrays)} arrays but {count} names", file.tell() - 8)
    named: dict[str, np.ndarray] = {}
    for array in arrays:
        raw = source.take(source.count(1, "the length of a name"), "a name")
        try:
            key = raw.decode()
        except UnicodeDecodeError:
            raise source.damaged(f"the name {raw[:40]!r} is not UTF-8") from None
        if array is None:
            raise ModelError(f"{name}: array '{key}' was never initialised; initialise the network before saving it")
        if key in named:
            raise source.damaged(f"the name '{key}' occurs twice")
        named[key] = array
    if source.remaining:
        raise source.damaged(f"{source.remaining} bytes follow the last name")
    return named


def write_arrays(file: BinaryIO, arrays: Mapping[str, np.ndarray]) -> None:
    """Write named arrays in the format of MXNet 1.x. Raises ModelError where the format cannot hold an array."""
    file.write(struct.pack("<QQQ", LIST_MAGIC, 0, len(arrays)))
    for name, array in arrays.items():
        if str(array.dtype) not in DTYPES:
            raise ModelError(f"array '{name}' is {array.dtype}; MXNet's format holds {', '.join(DTYPES)}")
        if array.size == 0 or array.ndim == 0:
            shape = list(array.shape)
            raise ModelError(f"array '{name}' has shape {shape}; MXNet 1.x cannot store empty or scalar arrays")
        file.write(struct.pack("<Iii", MAGIC_V2, 0, array.ndim))
        file.write(struct.pack(f"<{array.ndim}q", *array.shape))
        file.write(struct.pack("<iii", CPU, 0, DTYPES.index(str(array.dtype))))
        file.write(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).data)
    file.write(struct.pack("<Q", len(arrays)))
    for name in arrays:
        encoded = name.encode()
        file.write(struct.pack("<Q", len(encoded)))
        file.write(encoded)
