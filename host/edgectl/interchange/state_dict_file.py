"""Writes PyTorch's state dicts (`.pth`) without PyTorch: the ZIP archive that torch.save makes, tensors only.

data.pkl is an OrderedDict of name -> torch._utils._rebuild_tensor_v2(storage, offset, shape, strides, ...), which
torch.load reads with weights_only=True; data/N holds the elements of storage N.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Mapping
from typing import BinaryIO

import numpy as np

from edgectl.errors import ModelError
from edgectl.interchange.torch_file import STORAGE_DTYPES

STORAGES = {np.dtype(dtype): name for name, dtype in STORAGE_DTYPES.items() if name != "BFloat16Storage"}
FOLDER = "archive"
ALIGNMENT = 64
"""Of elements in the file, so that torch.load can map it into memory."""
PADDING_FIELD = 0x4246
"""Kind of the ZIP header field that torch.save pads with."""
LOCAL_HEADER = 30
"""Bytes of a ZIP member's header before its name."""


def write_state_dict(file: BinaryIO, arrays: Mapping[str, np.ndarray]) -> None:
    """Write named arrays, in their order. Raises ModelError where a dtype has no counterpart."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        _member(archive, file, "data.pkl", _pickled(arrays))
        _member(archive, file, "byteorder", b"little")
        for key, array in enumerate(arrays.values()):
            _member(archive, file, f"data/{key}", np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes())
        _member(archive, file, "version", b"3\n")


def _member(archive: zipfile.ZipFile, file: BinaryIO, name: str, content: bytes) -> None:
    info = zipfile.ZipInfo(f"{FOLDER}/{name}", (1980, 1, 1, 0, 0, 0))
    head = file.tell() + LOCAL_HEADER + len(info.filename)
    room = -(head + 4) % ALIGNMENT
    info.extra = struct.pack("<HH", PADDING_FIELD, room) + bytes(room)
    archive.writestr(info, content)


class _Pickle:
    """Assembles a pickle of protocol 2 from the few operations that a state dict needs."""

    def __init__(self) -> None:
        self._out = io.BytesIO()
        self._out.write(b"\x80\x02")

    def raw(self, code: bytes) -> _Pickle:
        self._out.write(code)
        return self

    def name(self, module: str, attribute: str) -> _Pickle:
        return self.raw(f"c{module}\n{attribute}\n".encode())

    def text(self, value: str) -> _Pickle:
        encoded = value.encode()
        return self.raw(b"X" + struct.pack("<I", len(encoded)) + encoded)

    def integer(self, value: int) -> _Pickle:
        if value < 1 << 31:
            return self.raw(b"J" + struct.pack("<i", value))
        return self.raw(b"\x8a\x08" + struct.pack("<q", value))

    def integers(self, values: tuple[int, ...]) -> _Pickle:
        self.raw(b"(")
        for value in values:
            self.integer(value)
        return self.raw(b"t")

    def ordered_dict(self) -> _Pickle:
        return self.name("collections", "OrderedDict").raw(b")R")

    def bytes(self) -> bytes:
        return self._out.getvalue() + b"."


def _pickled(arrays: Mapping[str, np.ndarray]) -> bytes:
    pickle = _Pickle()
    pickle.ordered_dict().raw(b"(")
    for key, (name, array) in enumerate(arrays.items()):
        storage = STORAGES.get(array.dtype.newbyteorder("<"))
        if storage is None:
            raise ModelError(f"array '{name}' is {array.dtype}; PyTorch's files hold {', '.join(map(str, STORAGES))}")
        strides = tuple(int(step) for step in np.cumprod((1, *array.shape[:0:-1]))[::-1]) if array.ndim else ()
        pickle.text(name).name("torch._utils", "_rebuild_tensor_v2").raw(b"(")
        pickle.raw(b"(").text("storage").name("torch", storage).text(str(key)).text("cpu").integer(array.size)
        pickle.raw(b"tQ").integer(0).integers(array.shape).integers(strides).raw(b"\x89").ordered_dict()
        pickle.raw(b"tR")
    return pickle.raw(b"u").bytes()
