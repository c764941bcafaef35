"""PyTorch's saved tensors (`.pth`, `.pt`), read without PyTorch and without running code from the file.

Both formats of torch.save: the ZIP archive (since 1.6: NAME/data.pkl and one NAME/data/KEY per storage) and the older
sequence of pickles (magic number, protocol, system, content, storage keys) followed by each storage's u64 length and
elements. A pickle names what it calls; only the names listed here exist for it.
"""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from edgectl.errors import ModelError
from edgectl.files import is_archive

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
STORAGE_DTYPES = {
    "FloatStorage": "<f4", "DoubleStorage": "<f8", "HalfStorage": "<f2", "LongStorage": "<i8", "IntStorage": "<i4",
    "ShortStorage": "<i2", "CharStorage": "i1", "ByteStorage": "u1", "BoolStorage": "?", "BFloat16Storage": "<u2",
}  # fmt: skip


@dataclass(frozen=True)
class StorageType:
    """Stands for a torch storage class inside a pickle."""

    name: str


@dataclass
class Storage:
    """Elements of one storage; in the older format they come after the pickle that refers to them."""

    kind: str
    elements: np.ndarray | None = None


@dataclass(frozen=True)
class PendingTensor:
    """A view of a storage: offset, shape and strides count elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def array(self) -> np.ndarray:
        elements = self.storage.elements
        numbers = (self.offset, *self.shape, *self.strides)
        if elements is None or len(self.shape) != len(self.strides) or min(numbers) < 0:
            raise ModelError("a tensor's description is inconsistent")
        reach = self.offset + sum((n - 1) * step for n, step in zip(self.shape, self.strides, strict=True))
        if 0 in self.shape:
            return np.empty(self.shape, elements.dtype)
        if reach >= elements.size:
            raise ModelError(f"a tensor of shape {list(self.shape)} reaches beyond its {elements.size} stored elements")
        strides = tuple(step * elements.itemsize for step in self.strides)
        array = np.lib.stride_tricks.as_strided(elements[self.offset :], self.shape, strides).copy()
        if self.storage.kind == "BFloat16Storage":
            return (array.astype(np.uint32) << np.uint32(16)).view(np.float32)
        return array


NESTED = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "params", "ema")
"""Where training scripts put the state dict in what they save, the likeliest first."""


def _holds_tensors(content: Any) -> bool:
    return isinstance(content, Mapping) and any(isinstance(value, PendingTensor) for value in content.values())


def _rebuild_tensor(
    storage: Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any
) -> PendingTensor:
    return PendingTensor(storage, offset, tuple(shape), tuple(strides))


def _rebuild_parameter(tensor: PendingTensor, *_: Any) -> PendingTensor:
    return tensor


ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    **{("torch", name): StorageType(name) for name in STORAGE_DTYPES},
}


class _Unpickler(pickle.Unpickler):
    """Knows the names in ALLOWED and nothing else."""

    def __init__(self, file: BinaryIO, load_storage: Callable[[str, str, int], Storage]) -> None:
        super().__init__(file)
        self._load_storage = load_storage

    def find_class(self, module: str, name: str) -> Any:
        try:
            return ALLOWED[module, name]
        except KeyError:
            raise ModelError(
                f"it holds {module}.{name}, not only tensors; "
                "save a plain state dict: torch.save(net.state_dict(), PATH)"
            ) from None

    def persistent_load(self, identifier: Any) -> Storage:
        kind, storage_type, key, _, count, *_ = identifier
        if kind != "storage" or not isinstance(storage_type, StorageType):
            raise ModelError(f"it refers to '{kind}', not to a tensor's storage")
        return self._load_storage(storage_type.name, str(key), int(count))


def read_torch_tensors(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The tensors of a state dict, by name and in the file's order (an entry such as `state_dict` is found).

    Raises ModelError, naming the file, where it is missing or damaged or holds anything but tensors.
    """
    name = os.fspath(path)
    try:
        content = _read_archive(name) if is_archive(name) else _read_sequence(name)
        if not isinstance(content, Mapping):
            raise ModelError(f"it holds a {type(content).__name__}, not a state dict")
        if not _holds_tensors(content):
            content = next((content[key] for key in NESTED if _holds_tensors(content.get(key))), content)
        return {str(key): value.array() for key, value in content.items() if isinstance(value, PendingTensor)}
    except ModelError as error:
        raise ModelError(f"cannot read {name}: {error}") from error
    except OSError as error:
        raise ModelError(f"cannot read {name}: {error.strerror or error}") from error
    # A damaged pickle can make the unpickler raise almost anything.
    except Exception as error:
        raise ModelError(f"{name} is damaged or no PyTorch file ({error}); download or save it again") from error


def _read_archive(name: str) -> Any:
    with zipfile.ZipFile(name) as archive:
        members = [member for member in archive.namelist() if member.endswith("/data.pkl")]
        if len(members) != 1:
            raise ModelError("it has no data.pkl; save it with torch.save")
        folder = members[0][: -len("data.pkl")]
        storages: dict[str, Storage] = {}

        def load(kind: str, key: str, count: int) -> Storage:
            if key not in storages:
                raw = archive.read(f"{folder}data/{key}")
                storages[key] = Storage(kind, np.frombuffer(raw, STORAGE_DTYPES[kind], count))
            return storages[key]

        return _Unpickler(io.BytesIO(archive.read(members[0])), load).load()


def _read_sequence(name: str) -> Any:
    storages: dict[str, tuple[Storage, int]] = {}

    def load(kind: str, key: str, count: int) -> Storage:
        return storages.setdefault(key, (Storage(kind), count))[0]

    with open(name, "rb") as file:
        if _Unpickler(file, load).load() != LEGACY_MAGIC:
            raise ModelError("it is no PyTorch file; give one that torch.save wrote")
        for _ in ("protocol", "system"):
            _Unpickler(file, load).load()
        content = _Unpickler(file, load).load()
        for key in _Unpickler(file, load).load():
            storage, count = storages[key]
            dtype = np.dtype(STORAGE_DTYPES[storage.kind])
            stored = int.from_bytes(file.read(8), "little")
            if stored != count:
                raise ModelError(f"storage {key} has {stored} elements, its tensors expect {count}")
            raw = file.read(count * dtype.itemsize)
            storage.elements = np.frombuffer(raw, dtype, count)
    return content
