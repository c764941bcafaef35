"""The values of TVM's RPC on the wire: frames and packed sequences, little-endian; protocol "0.8.0" since TVM 0.20.

A frame is a u64 length of what follows, an i32 code and a body. Everything that is read here comes from a peer: each
read is bounded by its frame, and whatever does not parse is a ProtocolError. docs/rpc.md describes the format.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from edge_agent.errors import InputError, ProtocolError

PROTOCOL_VERSION = "0.8.0"
MAXIMUM_DIMENSIONS = 32
MAXIMUM_VALUES = 1024


class Code(IntEnum):
    """What a frame asks for or answers."""

    SHUTDOWN = 1
    INIT_SERVER = 2
    CALL_FUNCTION = 3
    RETURN = 4
    EXCEPTION = 5
    COPY_FROM_REMOTE = 6
    COPY_TO_REMOTE = 7
    COPY_ACKNOWLEDGE = 8
    GET_GLOBAL_FUNCTION = 9
    FREE_HANDLE = 10
    SET_DEVICE = 11
    GET_ATTRIBUTE = 12
    ALLOCATE = 13
    FREE = 14
    SYNCHRONIZE = 15
    COPY_AMONG_REMOTE = 16
    ALLOCATE_WITH_SCOPE = 17
    CREATE_STREAM = 18
    FREE_STREAM = 19
    SET_STREAM = 20
    GET_CURRENT_STREAM = 21


class TypeIndex(IntEnum):
    """The type of a value in a packed sequence."""

    NONE = 0
    INTEGER = 1
    BOOLEAN = 2
    FLOAT = 3
    POINTER = 4
    DATA_TYPE = 5
    DEVICE = 6
    TENSOR_POINTER = 7
    RAW_STRING = 8
    BYTE_ARRAY = 9
    SMALL_STRING = 11
    SMALL_BYTES = 12
    STRING = 65
    BYTES = 66
    FUNCTION = 68
    TENSOR = 70
    MODULE = 73
    REMOTE_OBJECT = 115


@dataclass(frozen=True)
class Pointer:
    """An opaque address or handle; 0 is null."""

    handle: int


@dataclass(frozen=True)
class FunctionHandle:
    """A function that lives at the endpoint which issued the handle."""

    handle: int


@dataclass(frozen=True)
class ModuleHandle:
    """A module that lives at the endpoint which issued the handle."""

    handle: int


@dataclass(frozen=True)
class ObjectHandle:
    """Any other object that lives at the endpoint which issued the handle."""

    handle: int


@dataclass(frozen=True)
class DataType:
    """A DLPack data type: `code` 0 signed, 1 unsigned, 2 float, 3 opaque, 4 bfloat, 6 boolean; `bits` of one lane."""

    code: int
    bits: int
    lanes: int = 1

    @property
    def nbytes(self) -> int:
        """Bytes of one element."""
        return (self.bits * self.lanes + 7) // 8

    @classmethod
    def of(cls, dtype: np.dtype) -> DataType:
        """The DLPack type of a NumPy type. Raises InputError where there is none."""
        if dtype.kind not in _KIND_CODES:
            raise InputError(f"tensors of dtype {dtype} have no place in TVM's RPC")
        return cls(_KIND_CODES[dtype.kind], dtype.itemsize * 8)

    def numpy(self) -> np.dtype:
        """The NumPy type. Raises InputError where there is none (several lanes, bfloat16, 4-bit integers)."""
        kind = _CODE_KINDS.get(self.code)
        if kind is None or self.lanes != 1 or self.bits not in _KIND_BITS[kind]:
            raise InputError(
                f"tensors of DLPack type code {self.code}, {self.bits} bits, {self.lanes} lanes are not supported"
            )
        return np.dtype(f"<{kind}{self.bits // 8}") if self.bits > 8 else np.dtype(f"{kind}1")


_KIND_CODES = {"i": 0, "u": 1, "f": 2, "b": 6}
_CODE_KINDS = {code: kind for kind, code in _KIND_CODES.items()}
_KIND_BITS = {"i": (8, 16, 32, 64), "u": (8, 16, 32, 64), "f": (16, 32, 64), "b": (8,)}


@dataclass(frozen=True)
class Device:
    """A DLPack device: kind 1 is the CPU, 12 an extension device (the accelerator)."""

    kind: int
    index: int = 0


@dataclass(frozen=True)
class Tensor:
    """A contiguous, row-major tensor that lives at the endpoint: `data` is the handle of its memory."""

    data: int
    device: Device
    dtype: DataType
    shape: tuple[int, ...]
    byte_offset: int = 0

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.nbytes


Value = (
    None
    | bool
    | int
    | float
    | str
    | bytes
    | Pointer
    | DataType
    | Device
    | Tensor
    | FunctionHandle
    | ModuleHandle
    | ObjectHandle
)

_HANDLES: dict[int, type[Pointer] | type[FunctionHandle] | type[ModuleHandle]] = {
    TypeIndex.POINTER: Pointer,
    TypeIndex.FUNCTION: FunctionHandle,
    TypeIndex.MODULE: ModuleHandle,
}


class Reader:
    """Reads the body of one frame. Every method raises ProtocolError where the frame ends too early or lies."""

    def __init__(self, body: bytes | bytearray | memoryview) -> None:
        self._body = memoryview(body)
        self._position = 0

    @property
    def remaining(self) -> int:
        return len(self._body) - self._position

    def take(self, count: int) -> memoryview:
        if count < 0 or count > self.remaining:
            raise ProtocolError(f"a frame announces {count} bytes where {self.remaining} are left")
        begin = self._position
        self._position += count
        return self._body[begin : begin + count]

    def _number(self, layout: struct.Struct) -> int:
        return int(layout.unpack(self.take(layout.size))[0])

    def i32(self) -> int:
        return self._number(_I32)

    def u32(self) -> int:
        return self._number(_U32)

    def i64(self) -> int:
        return self._number(_I64)

    def u64(self) -> int:
        return self._number(_U64)

    def text(self) -> str:
        """A u64 length and UTF-8."""
        try:
            return str(self.take(self.u64()), "utf-8")
        except UnicodeDecodeError as error:
            raise ProtocolError(f"a string is not UTF-8: {error.reason}") from error

    def device(self) -> Device:
        return Device(self.i32(), self.i32())

    def data_type(self) -> DataType:
        return DataType(*_DATA_TYPE.unpack(self.take(_DATA_TYPE.size)))

    def tensor(self) -> Tensor:
        data, device, dimensions, dtype = self.u64(), self.device(), self.i32(), self.data_type()
        if not 0 <= dimensions <= MAXIMUM_DIMENSIONS:
            raise ProtocolError(f"a tensor has {dimensions} dimensions, at most {MAXIMUM_DIMENSIONS} are allowed")
        shape = tuple(self.i64() for _ in range(dimensions))
        if any(extent < 0 for extent in shape):
            raise ProtocolError(f"a tensor's shape {shape} has a negative extent")
        return Tensor(data, device, dtype, shape, self.u64())

    def value(self) -> Value:
        """One value with its type index."""
        index = self.i32()
        if index == TypeIndex.NONE:
            return None
        if index == TypeIndex.INTEGER:
            return self.i64()
        if index == TypeIndex.BOOLEAN:
            return self.i64() != 0
        if index == TypeIndex.FLOAT:
            return float(_F64.unpack(self.take(_F64.size))[0])
        if index in _HANDLES:
            return _HANDLES[index](self.u64())
        if index == TypeIndex.DATA_TYPE:
            dtype = self.data_type()
            self.i32()  # padding
            return dtype
        if index == TypeIndex.DEVICE:
            return self.device()
        if index == TypeIndex.TENSOR_POINTER:
            return self.tensor()
        if index == TypeIndex.RAW_STRING:
            return self.text()
        if index == TypeIndex.BYTE_ARRAY:
            return bytes(self.take(self.u64()))
        if index in (TypeIndex.SMALL_STRING, TypeIndex.SMALL_BYTES) or index >= 64:
            return self._object(index)
        raise ProtocolError(
            f"a packed sequence holds type index {index}, which TVM's RPC {PROTOCOL_VERSION} does not have"
        )

    def _object(self, index: int) -> Value:
        repeated = self.u32()
        if repeated == TypeIndex.STRING:
            return self.text()
        if repeated == TypeIndex.BYTES:
            return bytes(self.take(self.u64()))
        if repeated == TypeIndex.REMOTE_OBJECT:
            return ObjectHandle(self.u64())
        raise ProtocolError(
            f"a packed sequence holds type index {index} where TVM's RPC {PROTOCOL_VERSION}, as TVM 0.20 and later "
            "encode it, has a string, bytes or a remote object; TVM 0.19 and older use other type codes: "
            "use a client of TVM 0.27"
        )

    def values(self) -> list[Value]:
        """A packed sequence."""
        count = self.i32()
        if not 0 <= count <= min(MAXIMUM_VALUES, self.remaining // 4):
            raise ProtocolError(
                f"a packed sequence announces {count} values in {self.remaining} bytes, "
                f"at most {MAXIMUM_VALUES} are allowed"
            )
        return [self.value() for _ in range(count)]

    def end(self) -> None:
        """Raise ProtocolError unless the whole frame has been read."""
        if self.remaining:
            raise ProtocolError(f"{self.remaining} bytes are left over at the end of a frame")


_I32, _U32, _I64, _U64, _F64 = (struct.Struct(layout) for layout in ("<i", "<I", "<q", "<Q", "<d"))
_DATA_TYPE = struct.Struct("<BBH")
FRAME_HEADER = struct.Struct("<Qi")
FRAME_LENGTH = _U64
FRAME_CODE = _I32


def encode_tensor(tensor: Tensor) -> bytes:
    """A tensor without a type index, as the copy frames carry it."""
    shape = struct.pack(f"<{len(tensor.shape)}q", *tensor.shape)
    return b"".join(
        [
            _U64.pack(tensor.data),
            struct.pack("<iii", tensor.device.kind, tensor.device.index, len(tensor.shape)),
            _DATA_TYPE.pack(tensor.dtype.code, tensor.dtype.bits, tensor.dtype.lanes),
            shape,
            _U64.pack(tensor.byte_offset),
        ]
    )


def _encode_object(index: TypeIndex, body: bytes) -> bytes:
    return struct.pack("<iIQ", index, index, len(body)) + body


def encode_value(value: Value) -> bytes:
    """One value with its type index. Strings and bytes go out in the object form, which every peer decodes."""
    if value is None:
        return _I32.pack(TypeIndex.NONE)
    if isinstance(value, bool):
        return struct.pack("<iq", TypeIndex.BOOLEAN, value)
    if isinstance(value, int):
        return struct.pack("<iq", TypeIndex.INTEGER, value)
    if isinstance(value, float):
        return struct.pack("<id", TypeIndex.FLOAT, value)
    if isinstance(value, str):
        return _encode_object(TypeIndex.STRING, value.encode())
    if isinstance(value, bytes):
        return _encode_object(TypeIndex.BYTES, value)
    if isinstance(value, DataType):
        return struct.pack("<iBBHi", TypeIndex.DATA_TYPE, value.code, value.bits, value.lanes, 0)
    if isinstance(value, Device):
        return struct.pack("<iii", TypeIndex.DEVICE, value.kind, value.index)
    if isinstance(value, Tensor):
        return _I32.pack(TypeIndex.TENSOR_POINTER) + encode_tensor(value)
    if isinstance(value, ObjectHandle):
        return struct.pack("<iIQ", TypeIndex.REMOTE_OBJECT, TypeIndex.REMOTE_OBJECT, value.handle)
    indices = {Pointer: TypeIndex.POINTER, FunctionHandle: TypeIndex.FUNCTION, ModuleHandle: TypeIndex.MODULE}
    return struct.pack("<iQ", indices[type(value)], value.handle)


def encode_values(values: Sequence[Value]) -> bytes:
    """A packed sequence."""
    return b"".join([_I32.pack(len(values)), *map(encode_value, values)])


def encode_text(text: str) -> bytes:
    """A u64 length and UTF-8."""
    encoded = text.encode()
    return _U64.pack(len(encoded)) + encoded


def encode_exception(message: str) -> bytes:
    """The body of an EXCEPTION: one raw string. A stock client reads any other form after having freed it."""
    encoded = message.replace("\0", "").encode(errors="replace")
    return struct.pack("<iiQ", 1, TypeIndex.RAW_STRING, len(encoded)) + encoded


def encode_result(value: Value, tensor_handle: int | None = None) -> bytes:
    """The body of a RETURN that answers a call: the value's type index as an integer, then the value.

    A function or module goes as its opaque handle. A tensor is followed by `tensor_handle`, which frees it.
    """
    if isinstance(value, Tensor):
        if tensor_handle is None:
            raise ValueError("a returned tensor needs the handle that frees it")
        return encode_values([int(TypeIndex.TENSOR), value, Pointer(tensor_handle)])
    if isinstance(value, FunctionHandle):
        return encode_values([int(TypeIndex.FUNCTION), Pointer(value.handle)])
    if isinstance(value, ModuleHandle):
        return encode_values([int(TypeIndex.MODULE), Pointer(value.handle)])
    index = _I32.unpack_from(encode_value(value))[0]
    return encode_values([index, value])
