"""Tables of the data package: JSON files, one for each thing, which may refer to each other by `like`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.abc import Traversable

_SUFFIX = ".json"
_LIKE = "like"
_DEPTH = 8
"""So many tables may be like each other in a row."""


def _folder(name: str) -> Traversable:
    return resources.files("edge_bitstreams").joinpath(name)


def table_names(folder: str) -> list[str]:
    """The tables in a folder of the data package, sorted."""
    return sorted(
        entry.name.removesuffix(_SUFFIX) for entry in _folder(folder).iterdir() if entry.name.endswith(_SUFFIX)
    )


def read_table(folder: str, name: str) -> str:
    """The text of a table that `table_names` lists."""
    return _folder(folder).joinpath(f"{name}{_SUFFIX}").read_text(encoding="utf-8")


def resolve(folder: str, entries: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of a table with those of the table that it is like. Raises ValueError where there is none such."""
    found = dict(entries)
    for _ in range(_DEPTH):
        if _LIKE not in found:
            return found
        other = found.pop(_LIKE)
        if other not in table_names(folder):
            raise ValueError(f"it is like '{other}', which is none of {', '.join(table_names(folder))}")
        found = {**json.loads(read_table(folder, other)), **found}
    raise ValueError(f"more than {_DEPTH} tables are like each other in a row")
