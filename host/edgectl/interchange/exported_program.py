"""Programs that torch.export has saved (`.pt2`), read without PyTorch and without running code from the file.

The file is a ZIP archive: models/NAME.json is the graph of ATen operators, data/weights and data/constants hold the raw
storages of its tensors, with a table beside them. torch.export.load unpickles parts of it and evaluates expressions;
nothing of that is needed here, and what can only be unpickled is refused.
"""

from __future__ import annotations

import json
import math
import os
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from edgectl.errors import ModelError
from edgectl.interchange.torch_file import STORAGE_DTYPES, PendingTensor, Storage

SCHEMA = 8
"""The major version of the graph's format, that of PyTorch 2.5 and later."""
DTYPES = {
    1: "ByteStorage", 2: "CharStorage", 3: "ShortStorage", 4: "IntStorage", 5: "LongStorage", 6: "HalfStorage",
    7: "FloatStorage", 8: "DoubleStorage", 12: "BoolStorage", 13: "BFloat16Storage",
}  # fmt: skip
"""The format's numbers of dtypes -> torch's storages."""
FLOATS = frozenset({6, 7, 8, 13})
MAXIMUM_MEMBER = 8 << 30
SAVE_AGAIN = "save it again: torch.export.save(torch.export.export(net.eval(), (example,)), 'net.pt2')"


@dataclass(frozen=True)
class Reference:
    """An argument that is the result of another call, or an input."""

    name: str


@dataclass(frozen=True)
class Call:
    """One operator: `target` such as "aten.conv2d.default", arguments by the names of its schema (defaults left out),
    `results` its results' names. `module` is the path of the module that calls it, "" the whole; `module_class` its
    qualified class."""

    target: str
    arguments: Mapping[str, Any]
    results: tuple[str, ...]
    module: str
    module_class: str

    @property
    def operator(self) -> str:
        """The target without overload: "conv2d"; in-place forms end in "_"."""
        parts = self.target.split(".")
        return parts[1] if len(parts) > 2 or self.target.startswith("aten.") else parts[-1]


@dataclass(frozen=True)
class ExportedProgram:
    """A traced network. `tensors` are by their names in the state dict, `stored` says which value each is;
    `inputs` are values and their shapes (None: open)."""

    tensors: Mapping[str, np.ndarray]
    stored: Mapping[str, str]
    inputs: Mapping[str, tuple[int | None, ...]]
    calls: tuple[Call, ...]
    outputs: tuple[str, ...]


def read_exported_program(path: str | os.PathLike[str] | BinaryIO, name: str = "") -> ExportedProgram:
    """The program in a file. Raises ModelError, naming the file (or `name`), where it is missing, damaged or of another
    format, or holds what can only be unpickled."""
    where = name or os.fspath(path)  # type: ignore[arg-type]
    try:
        with zipfile.ZipFile(path) as archive:
            return _program(_Archive(archive))
    except ModelError as error:
        raise ModelError(f"cannot read {where}: {error}") from error
    except OSError as error:
        raise ModelError(f"cannot read {where}: {error.strerror or error}") from error
    except (
        zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, KeyError, TypeError, ValueError,
        AttributeError, IndexError, RecursionError,
    ) as error:  # fmt: skip
        raise ModelError(
            f"{where} is damaged or no exported program ({type(error).__name__}: {error}); {SAVE_AGAIN}"
        ) from error


class _Archive:
    """Members below the archive's root folder, whatever that is called."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        formats = [name for name in archive.namelist() if name.split("/")[1:] == ["archive_format"]]
        if len(formats) != 1 or archive.read(formats[0]).strip() != b"pt2":
            names = {name.rpartition("/")[2] for name in archive.namelist()}
            if "constants.pkl" in names:
                raise ModelError(f"it is TorchScript, which holds code; export the module instead: {SAVE_AGAIN}")
            if "serialized_exported_program.json" in names:
                raise ModelError(
                    f"PyTorch 2.7 or older wrote it, in a format that is not read; with a newer one, {SAVE_AGAIN}"
                )
            if "data.pkl" in names:
                raise ModelError(
                    "torch.save wrote it: a state dict has no layers, and a pickled module is code; export the module "
                    f"({SAVE_AGAIN}), or give its factory: package.module:factory --weights STATE.pth"
                )
            raise ModelError(f"it is no program that torch.export.save wrote; {SAVE_AGAIN}")
        self._root = formats[0].split("/")[0]

    def names(self, folder: str) -> list[str]:
        start = f"{self._root}/{folder}/"
        return sorted(name[len(start) :] for name in self._archive.namelist() if name.startswith(start))

    def read(self, member: str) -> bytes:
        info = self._archive.getinfo(f"{self._root}/{member}")
        if info.file_size > MAXIMUM_MEMBER:
            raise ModelError(f"{member} claims to be larger than {MAXIMUM_MEMBER} bytes")
        return self._archive.read(info)

    def document(self, member: str) -> Any:
        return json.loads(self.read(member))


def _program(archive: _Archive) -> ExportedProgram:
    models = [name for name in archive.names("models") if name.endswith(".json")]
    if len(models) != 1:
        raise ModelError(f"it holds {len(models)} programs, {', '.join(models) or 'none'}; save one alone")
    document = archive.document(f"models/{models[0]}")
    version = document["schema_version"]
    if version["major"] != SCHEMA:
        raise ModelError(
            f"its format has version {version['major']}.{version['minor']}, known is {SCHEMA}; {SAVE_AGAIN}"
        )
    stem = models[0][: -len(".json")]
    tensors = {
        **_tensors(archive, "weights", f"{stem}_weights_config.json"),
        **_tensors(archive, "constants", f"{stem}_constants_config.json"),
    }
    module = document["graph_module"]
    graph, signature = module["graph"], module["signature"]
    stored, inputs = _inputs(graph, signature["input_specs"])
    outputs = tuple(
        spec["user_output"]["arg"]["as_tensor"]["name"]
        for spec in signature["output_specs"]
        if "as_tensor" in spec.get("user_output", {}).get("arg", {})
    )
    calls = tuple(_call(node) for node in graph["nodes"])
    return ExportedProgram(tensors, stored, inputs, calls, outputs)


def _inputs(graph: Any, specs: Sequence[Any]) -> tuple[dict[str, str], dict[str, tuple[int | None, ...]]]:
    stored: dict[str, str] = {}
    inputs: dict[str, tuple[int | None, ...]] = {}
    for spec in specs:
        ((kind, content),) = spec.items()
        field = {"parameter": "parameter_name", "buffer": "buffer_name", "tensor_constant": "tensor_constant_name"}
        if kind in field:
            stored[content["arg"]["name"]] = content[field[kind]]
        elif kind == "user_input" and "as_tensor" in content["arg"]:
            name = content["arg"]["as_tensor"]["name"]
            declared = graph["tensor_values"][name]
            if declared["dtype"] not in FLOATS:
                raise ModelError(f"input '{name}' is no tensor of floating point; only those are supported")
            inputs[name] = tuple(size.get("as_int") for size in declared["sizes"])
        elif kind not in ("constant_input", "user_input"):
            raise ModelError(f"it has an input of kind '{kind}', which is not supported")
    return stored, inputs


def _tensors(archive: _Archive, kind: str, table: str) -> dict[str, np.ndarray]:
    if table not in archive.names(f"data/{kind}"):
        return {}
    tensors: dict[str, np.ndarray] = {}
    storages: dict[str, bytes] = {}
    for name, entry in archive.document(f"data/{kind}/{table}")["config"].items():
        meta, member = entry["tensor_meta"], entry["path_name"]
        if entry["use_pickle"] or meta is None:
            raise ModelError(f"'{name}' is pickled, which could run code; keep plain tensors only and save it again")
        if meta["dtype"] not in DTYPES or meta["layout"] != 7:
            raise ModelError(f"'{name}' has a dtype or layout that is not supported (dtype {meta['dtype']})")
        shape = tuple(int(size["as_int"]) for size in meta["sizes"])
        if not math.prod(shape):
            continue
        if member not in storages:
            storages[member] = archive.read(f"data/{kind}/{member}")
        dtype = DTYPES[meta["dtype"]]
        storage = Storage(dtype, np.frombuffer(storages[member], STORAGE_DTYPES[dtype]))
        strides = tuple(int(step["as_int"]) for step in meta["strides"])
        tensors[name] = PendingTensor(storage, int(meta["storage_offset"]["as_int"]), shape, strides).array()
    return tensors


def _call(node: Any) -> Call:
    target = node["target"].removeprefix("torch.ops.")
    arguments = {entry["name"]: _argument(entry["arg"]) for entry in node["inputs"]}
    results: list[str] = []
    for output in node["outputs"]:
        ((kind, content),) = output.items()
        if kind == "as_tensor":
            results.append(content["name"])
        elif kind == "as_tensors":
            results += [item["name"] for item in content]
        elif kind in ("as_sym_int", "as_sym_bool", "as_sym_float"):
            results.append(content["as_name"])
    path, qualified = _module(node["metadata"].get("nn_module_stack", ""))
    return Call(target, arguments, tuple(results), path, qualified)


def _module(stack: str) -> tuple[str, str]:
    """Path and class of the innermost module, of "key,path,class;key,path,class"."""
    parts = stack.rpartition(";")[2].split(",")
    if len(parts) < 3:
        return "", ""
    # The second call of one module is written "path@1".
    return ",".join(parts[1:-1]).partition("@")[0], parts[-1]


def _argument(argument: Any) -> Any:
    """A serialized argument as Python's value, references to values as Reference."""
    ((kind, content),) = argument.items()
    if kind == "as_none":
        return None
    if kind == "as_tensor":
        return Reference(content["name"])
    if kind == "as_tensors":
        return [Reference(item["name"]) for item in content]
    if kind in ("as_optional_tensor", "as_sym_int", "as_sym_float", "as_sym_bool"):
        return _symbol(content)
    if kind in ("as_optional_tensors", "as_sym_ints", "as_sym_floats", "as_sym_bools"):
        return [_symbol(item) for item in content]
    # Infinity is written as text.
    return float(content) if kind == "as_float" else content


def _symbol(item: Any) -> Any:
    ((kind, content),) = item.items()
    if kind == "as_name":
        return Reference(content)
    return _argument(item)
