"""What a board knows of its FPGA: which bitstream it holds, which one before, and whether one is on its way.

It is written before the FPGA is touched and after it has been tested, each time to a temporary name that then replaces
the old one. So after a power cut it says either that all is well, or that the FPGA may hold anything.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from edge_agent import durable
from edge_agent.errors import AgentError

_SCHEMA = 1


@dataclass(frozen=True)
class Loaded:
    """A bitstream as people know it: `id` is the catalogue's, or the name of the file it came from."""

    sha256: str
    id: str
    config: str
    isa: str
    part: str = ""
    built: str = ""

    @classmethod
    def parse(cls, entries: Any) -> Loaded | None:
        """Raises ValueError, TypeError."""
        if entries is None:
            return None
        if set(entries) != {field.name for field in fields(cls)} or any(type(v) is not str for v in entries.values()):
            raise ValueError(f"{entries} is no bitstream")
        return cls(**entries)


@dataclass(frozen=True)
class Record:
    """`current` is the last bitstream that passed its self-test, in the start of the system with the identity `boot`;
    `previous` the one before. `pending` is being programmed: until then, the FPGA may hold anything."""

    current: Loaded | None = None
    previous: Loaded | None = None
    pending: Loaded | None = None
    boot: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def kept(self) -> set[str]:
        """The SHA-256 of what may be needed again."""
        return {loaded.sha256 for loaded in (self.current, self.previous, self.pending) if loaded is not None}

    def write(self, path: Path) -> None:
        """Durably. Raises AgentError."""
        try:
            durable.write(path, json.dumps({"schema": _SCHEMA, **self.as_dict()}).encode())
        except OSError as error:
            raise AgentError(
                f"what the FPGA holds could not be recorded in {path}: {error.strerror}; free some space"
            ) from error

    @classmethod
    def read(cls, path: Path) -> Record:
        """An empty one where there is none, or it does not parse."""
        try:
            document: Mapping[str, Any] = json.loads(path.read_text())
            if document["schema"] != _SCHEMA:
                raise ValueError(f"schema {document['schema']}")
            current, previous, pending = (Loaded.parse(document[name]) for name in ("current", "previous", "pending"))
            return cls(current, previous, pending, str(document["boot"]))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return cls()
