"""Class names: those that ship with the package, and those in users' files."""

from __future__ import annotations

import ast
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgectl.errors import ModelError, UsageError

FOLDER = Path(__file__).parent / "data" / "labels"
MAXIMUM_BYTES = 32 << 20
MAXIMUM_CLASSES = 1 << 20
IDENTIFIER = re.compile(r"n\d{8}")
"""A class in WordNet, as ImageNet numbers them."""


def read_labels(name: str) -> tuple[str, ...]:
    """The class names of `name` (cifar10, imagenet1k), in the order of the outputs. Raises ModelError."""
    path = FOLDER / f"{name}.txt"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in FOLDER.glob("*.txt")))
        raise ModelError(f"no labels are called '{name}'; known are {known}")
    return tuple(path.read_text(encoding="utf-8").splitlines())


def read_label_file(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """The class names in a file of one of the common formats; see `parse_labels`. Raises UsageError."""
    name = os.fspath(path)
    try:
        with open(name, "rb") as file:
            raw = file.read(MAXIMUM_BYTES + 1)
        if len(raw) > MAXIMUM_BYTES:
            raise UsageError(f"{name} is larger than {MAXIMUM_BYTES >> 20} MiB: it is no list of class names")
        return parse_labels(raw.decode("utf-8-sig"), name)
    except (OSError, UnicodeDecodeError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise UsageError(f"cannot read --labels {name}: {reason}") from error


def parse_labels(text: str, where: str) -> tuple[str, ...]:
    """Class names in the order of the outputs, from a synset file's text:

    - lines, one a class: "tench, Tinca tinca", or "n01440764 tench, Tinca tinca", whose first word is left out;
    - a list, of Python's or JSON: ["tench, Tinca tinca", ...];
    - a table by index, of Python's or JSON: {0: "tench", ...}, {"0": ["n01440764", "tench"], ...}.

    Raises UsageError, naming `where`, where it is none of these, or a table lacks an index.
    """
    if not text.strip():
        raise UsageError(f"--labels {where} is empty; give one class name a line")
    if text.lstrip()[0] in "[{":
        found = _literal(text, where)
        entries = _by_index(found, where) if isinstance(found, Mapping) else list(found)
        return tuple(_name(entry, where) for entry in entries)
    lines = text.splitlines()
    numbered = all(IDENTIFIER.match(line) for line in lines if line.strip())
    return tuple(re.sub(r"^n\d{8}[\s,:]*", "", line).strip() or line.strip() if numbered else line for line in lines)


def _literal(text: str, where: str) -> Any:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        try:
            found = ast.literal_eval(text.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError) as error:
            raise UsageError(
                f"--labels {where} begins as a list or a table but is neither in JSON nor in Python ({error})"
            ) from None
    if not isinstance(found, (Mapping, list, tuple)) or not found:
        raise UsageError(f"--labels {where} holds no class names")
    return found


def _by_index(table: Mapping[Any, Any], where: str) -> list[Any]:
    indices: dict[int, Any] = {}
    for key, entry in table.items():
        try:
            indices[int(key)] = entry
        except (ValueError, TypeError):
            raise UsageError(f"--labels {where}: {key!r} is not the index of a class") from None
    missing = next((index for index in range(len(table)) if index not in indices), None)
    if missing is not None or len(indices) > MAXIMUM_CLASSES:
        raise UsageError(f"--labels {where} has {len(table)} classes, but none with the index {missing}")
    return [indices[index] for index in range(len(table))]


def _name(entry: Any, where: str) -> str:
    """A class's name, which may follow its identifier: ["n01440764", "tench"] or "n01440764 tench"."""
    if isinstance(entry, (list, tuple)) and entry and all(isinstance(part, str) for part in entry):
        parts = [part for part in entry if not IDENTIFIER.fullmatch(part)]
        return (parts or list(entry))[0].replace("_", " ")
    if isinstance(entry, str):
        return re.sub(r"^n\d{8}\s+", "", entry).strip()
    raise UsageError(f"--labels {where}: {entry!r} is not a class's name")
