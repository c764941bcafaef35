"""The bitstreams that are published, as data: bitstreams/edge_bitstreams/catalogue, one file for each."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from edge_agent.boards import BoardProfile, profile_names
from edge_agent.errors import IncompatibleError
from edge_agent.tables import read_table, table_names
from edge_agent.vta.config import Config
from edge_agent.vta.features import FEATURES

_FOLDER = "catalogue"


@dataclass(frozen=True)
class Bitstream:
    """A published bitstream. `id` is its name in the catalogue.

    `boards` are the profiles that it is for; `config`, `isa` and `features` are what it implements, as in a profile.
    `bytes` and `sha256` are the whole file's, 0 and "" where nobody has looked; `part`, `built` and `tool` are what its
    header says, "" where it has none. `limits` are known deviations, in words.
    """

    id: str
    boards: tuple[str, ...]
    config: str
    isa: str
    features: frozenset[str]
    url: str
    bytes: int
    sha256: str
    part: str
    built: str
    tool: str
    limits: tuple[str, ...]

    @property
    def name(self) -> str:
        """The file's own name."""
        return self.url.rpartition("/")[2]

    def serves(self, board: BoardProfile) -> bool:
        """Whether it implements what programs for this board need."""
        return (
            board.name in self.boards
            and (self.config, self.isa) == (board.config, board.isa)
            and board.features <= self.features
        )


def catalogue() -> list[Bitstream]:
    """Every entry, by id."""
    return [parse_bitstream(name, read_table(_FOLDER, name)) for name in table_names(_FOLDER)]


def find_bitstream(entries: Sequence[Bitstream], name: str) -> Bitstream:
    """The entry with this id. Raises IncompatibleError, listing the known ones."""
    for entry in entries:
        if entry.id == name:
            return entry
    raise IncompatibleError(
        f"there is no bitstream '{name}' in the catalogue; it has {', '.join(entry.id for entry in entries)}; a file "
        "is named by its path"
    )


def choose_bitstream(entries: Sequence[Bitstream], board: BoardProfile) -> Bitstream:
    """The entry for a board. Raises IncompatibleError, saying what is published and what is missing, without one."""
    for entry in reversed(entries):
        if entry.serves(board):
            return entry
    others = [f"{entry.id} ({entry.config}, version {entry.isa})" for entry in entries if board.name in entry.boards]
    raise IncompatibleError(
        f"no bitstream is published for board '{board.name}' with configuration {board.config} and instruction set "
        f"{board.isa}; published are {', '.join(others) or 'none'}. Build one from the sources of VTA, and give it: "
        "`edgectl flash BOARD --bitstream FILE.bit`"
    )


def parse_bitstream(name: str, text: str) -> Bitstream:
    """An entry from its JSON text. Raises IncompatibleError on missing, unknown or wrong entries."""
    try:
        entries: dict[str, Any] = json.loads(text)
        wanted = {field.name for field in fields(Bitstream)} - {"id"}
        if set(entries) != wanted:
            raise ValueError(f"it must have exactly the entries {sorted(wanted)}, it has {sorted(entries)}")
        for key, kind in (("bytes", int), *((key, list) for key in ("boards", "features", "limits"))):
            if type(entries[key]) is not kind:
                raise ValueError(f"{key} is {entries[key]!r}, not of type {kind.__name__}")
        made = Bitstream(
            id=name,
            boards=tuple(entries.pop("boards")),
            features=frozenset(entries.pop("features")),
            limits=tuple(entries.pop("limits")),
            **entries,
        )
        if unknown := set(made.boards) - set(profile_names()):
            raise ValueError(f"there are no boards {sorted(unknown)}")
        if not made.features <= FEATURES:
            raise ValueError(f"there are no features {sorted(made.features - FEATURES)}")
        if made.bytes < 0 or not re.fullmatch("([0-9a-f]{64})?", made.sha256):
            raise ValueError(f"{made.bytes} bytes with SHA-256 {made.sha256!r} cannot be")
    except (ValueError, TypeError, AttributeError) as error:
        raise IncompatibleError(f"the catalogue's entry '{name}' is malformed: {error}") from error
    Config.parse(made.config)
    return made
