"""Writes what torch.save writes, without PyTorch, for tests."""

from __future__ import annotations

import io
import pickle
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

STORAGES = {"float32": "FloatStorage", "float64": "DoubleStorage", "float16": "HalfStorage", "int64": "LongStorage"}
Wrap = Callable[[Mapping[str, Any]], Any]


class _Tensor:
    """Pickles as torch's tensors do: a call of torch._utils._rebuild_tensor_v2 on a storage."""

    def __init__(self, key: str, array: np.ndarray, shape: tuple[int, ...] | None) -> None:
        self.key, self.array, self.shape = key, array, array.shape if shape is None else shape

    def __reduce__(self) -> tuple[Any, ...]:
        strides = np.cumprod((1, *self.shape[:0:-1]))[::-1] if self.shape else ()
        size = tuple(int(step) for step in strides)
        rebuild = sys.modules["torch._utils"]._rebuild_tensor_v2  # type: ignore[attr-defined]
        return rebuild, (_Storage(self.key, self.array), 0, self.shape, size, False, OrderedDict())


class _Storage:
    def __init__(self, key: str, array: np.ndarray) -> None:
        self.key, self.array = key, array


class _Pickler(pickle.Pickler):
    archive = True

    def persistent_id(self, item: Any) -> Any:
        if not isinstance(item, _Storage):
            return None
        storage_type = getattr(sys.modules["torch"], STORAGES[str(item.array.dtype)])
        identifier = ("storage", storage_type, item.key, "cpu", item.array.size)
        return identifier if self.archive else (*identifier, None)


@contextmanager
def _torch_names() -> Iterator[None]:
    """Modules under torch's names, so that pickles refer to them."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for name in STORAGES.values():
        setattr(torch, name, type(name, (), {"__module__": "torch"}))

    def _rebuild_tensor_v2() -> None: ...

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2  # type: ignore[attr-defined]
    torch._utils = utils  # type: ignore[attr-defined]
    before = {name: sys.modules.get(name) for name in ("torch", "torch._utils")}
    sys.modules.update({"torch": torch, "torch._utils": utils})
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def _pickled(content: Any, archive: bool) -> bytes:
    stream = io.BytesIO()
    pickler = _Pickler(stream, protocol=2)
    pickler.archive = archive
    pickler.dump(content)
    return stream.getvalue()


def save_archive(
    path: Path, arrays: Mapping[str, np.ndarray], wrap: Wrap = OrderedDict, shape: tuple[int, ...] | None = None
) -> None:
    """torch.save of a state dict. `shape` lies about the tensors' shapes."""
    with _torch_names(), zipfile.ZipFile(path, "w") as file:
        tensors = {name: _Tensor(str(key), array, shape) for key, (name, array) in enumerate(arrays.items())}
        file.writestr("net/data.pkl", _pickled(wrap(tensors), archive=True))
        for key, array in enumerate(arrays.values()):
            file.writestr(f"net/data/{key}", array.tobytes())
        file.writestr("net/version", "3\n")


def save_sequence(path: Path, arrays: Mapping[str, np.ndarray], wrap: Wrap = OrderedDict) -> None:
    """torch.save(..., _use_new_zipfile_serialization=False) of a state dict."""
    with _torch_names(), path.open("wb") as file:
        for head in (0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True}):
            file.write(pickle.dumps(head, protocol=2))
        tensors = {name: _Tensor(str(key), array, None) for key, (name, array) in enumerate(arrays.items())}
        file.write(_pickled(wrap(tensors), archive=False))
        file.write(pickle.dumps([str(key) for key in range(len(arrays))], protocol=2))
        for array in arrays.values():
            file.write(array.size.to_bytes(8, "little") + array.tobytes())
