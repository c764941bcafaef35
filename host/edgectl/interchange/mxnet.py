"""MXNet checkpoints: PREFIX-symbol.json and PREFIX-EPOCH.params."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgectl.errors import ModelError
from edgectl.files import atomic_file, is_archive
from edgectl.interchange.ndarray_file import read_arrays, write_arrays
from edgectl.interchange.symbol_file import parse_symbol

SYMBOL_SUFFIX = "-symbol.json"


@dataclass(frozen=True)
class CheckpointPaths:
    """The two files of a checkpoint."""

    symbol: Path
    parameters: Path

    @property
    def prefix(self) -> str:
        return str(self.symbol)[: -len(SYMBOL_SUFFIX)] if str(self.symbol).endswith(SYMBOL_SUFFIX) else str(self.symbol)

    @classmethod
    def of(cls, path: str | os.PathLike[str], epoch: int = 0) -> CheckpointPaths:
        """From a prefix or from the path of either file (a .params path brings its own epoch)."""
        text = os.fspath(path)
        if text.endswith(SYMBOL_SUFFIX):
            text = text[: -len(SYMBOL_SUFFIX)]
        elif match := re.fullmatch(r"(.+)-(\d{4})\.params", text):
            text, epoch = match[1], int(match[2])
        return cls(Path(text + SYMBOL_SUFFIX), Path(f"{text}-{epoch:04d}.params"))


def read_parameters(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The arrays of a .params file (any MXNet version; also .npz) by name, without `arg:` and `aux:`.

    Raises ModelError, naming file and byte offset, where it is missing or damaged or holds what is not supported.
    """
    name = os.fspath(path)
    try:
        if is_archive(name):
            arrays = _read_npz(name)
        else:
            with open(name, "rb") as file:
                arrays = read_arrays(file, name)
    except OSError as error:
        raise ModelError(f"cannot read {name}: {error.strerror or error}; give the path of a .params file") from error
    bare: dict[str, np.ndarray] = {}
    for key, array in arrays.items():
        short = bare_name(key)
        if short in bare:
            raise ModelError(f"{name} holds '{short}' twice, under arg: and aux:; export the network again")
        bare[short] = array
    return bare


def bare_name(name: str) -> str:
    """A parameter's name without MXNet's `arg:` or `aux:`."""
    return name[4:] if name.startswith(("arg:", "aux:")) else name


def _read_npz(name: str) -> dict[str, np.ndarray]:
    try:
        with np.load(name, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ModelError(f"{name} is a ZIP archive but not a sound .npz file ({error}); export it again") from error


def read_symbol_text(path: str | os.PathLike[str]) -> str:
    """The text of a symbol file. Raises ModelError where it is missing or not text."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        reason = error.strerror or error
        raise ModelError(f"cannot read {os.fspath(path)}: {reason}; give a checkpoint's prefix") from error
    except UnicodeDecodeError:
        raise ModelError(f"{os.fspath(path)} is not text; give the -symbol.json file that net.export wrote") from None


def write_checkpoint(
    prefix: str | os.PathLike[str], symbol_json: str, arrays: Mapping[str, np.ndarray], epoch: int = 0
) -> CheckpointPaths:
    """Write PREFIX-symbol.json and PREFIX-EPOCH.params as MXNet 1.x does; each file appears whole or not at all.

    `arrays` may carry `arg:`/`aux:` or not: the symbol decides. Raises ModelError where the symbol is malformed or an
    array cannot be stored, EdgectlError where the files cannot be written.
    """
    paths = CheckpointPaths.of(os.fspath(prefix) + SYMBOL_SUFFIX, epoch)
    auxiliary = parse_symbol(symbol_json, paths.symbol.name).auxiliary_names()
    prefixed = {}
    for key, array in arrays.items():
        name = bare_name(key)
        prefixed[f"{'aux' if name in auxiliary else 'arg'}:{name}"] = np.asarray(array)
    with atomic_file(paths.parameters) as file:
        write_arrays(file, prefixed)
    with atomic_file(paths.symbol) as file:
        file.write(symbol_json.encode())
    return paths
