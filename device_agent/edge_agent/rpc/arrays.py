"""Named arrays with a JSON header in one byte string: what `edge.infer` takes and returns.

u32 header length, the header as JSON, then the arrays' bytes in order, row-major and little-endian. The header's
`tensors` lists their `name`, `dtype` and `shape`; its other keys are the caller's.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

from edge_agent.errors import InputError

_LENGTH = struct.Struct("<I")
_DTYPES = frozenset(
    ["bool", "float16", "float32", "float64"] + [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
)


def pack(arrays: Mapping[str, np.ndarray], header: Mapping[str, Any] | None = None) -> bytes:
    """Encode; `header` holds further JSON values."""
    little = {name: np.asarray(array, array.dtype.newbyteorder("<"), order="C") for name, array in arrays.items()}
    tensors = [{"name": name, "dtype": array.dtype.name, "shape": list(array.shape)} for name, array in little.items()]
    encoded = json.dumps({**(header or {}), "tensors": tensors}).encode()
    return b"".join([_LENGTH.pack(len(encoded)), encoded, *(array.tobytes() for array in little.values())])


def unpack(data: bytes) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Decode into read-only arrays and the header without `tensors`. Raises InputError where the bytes do not parse."""
    try:
        (length,) = _LENGTH.unpack_from(data)
        header = json.loads(data[_LENGTH.size : _LENGTH.size + length].decode())
        entries = header.pop("tensors")
        position, arrays = _LENGTH.size + length, {}
        for entry in entries:
            name, dtype, shape = entry["name"], entry["dtype"], tuple(entry["shape"])
            if not isinstance(name, str) or name in arrays or dtype not in _DTYPES:
                raise ValueError(f"tensor {name!r} of dtype {dtype!r}")
            if not all(type(extent) is int and extent >= 0 for extent in shape):
                raise ValueError(f"tensor {name!r} has shape {shape}")
            count = math.prod(shape)
            nbytes = count * np.dtype(dtype).itemsize
            if nbytes > len(data) - position:
                raise ValueError(f"tensor {name!r} needs {nbytes} bytes, {len(data) - position} are left")
            array = np.frombuffer(data, np.dtype(dtype).newbyteorder("<"), count, position)
            arrays[name] = array.reshape(shape)
            position += nbytes
        if position != len(data):
            raise ValueError(f"{len(data) - position} bytes are left over")
    except (struct.error, KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise InputError(f"the tensors of a request do not parse: {error}") from error
    return arrays, header
