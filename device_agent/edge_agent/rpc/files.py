"""A session's folder: what a stock client uploads, under plain names only."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from edge_agent import durable
from edge_agent.errors import AgentError, InputError

MAXIMUM_FILES = 256
MAXIMUM_NAME_BYTES = 255


class Files:
    """A folder that is made with the first file and removed with the session."""

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder = folder
        self._limit = limit

    def path(self, name: str) -> Path:
        """Where a file of this name lies. Raises InputError unless the name is one plain path component."""
        if not name or name in (".", "..") or "/" in name or "\\" in name or not name.isprintable():
            raise InputError(f"{name[:64]!r} is not a file name here: no folders, '..' or control characters")
        if len(name.encode()) > MAXIMUM_NAME_BYTES:
            raise InputError(f"a file name of {len(name.encode())} bytes is too long, {MAXIMUM_NAME_BYTES} are allowed")
        return self._folder / name

    def names(self) -> list[str]:
        return sorted(os.listdir(self._folder)) if self._folder.is_dir() else []

    def write(self, name: str, data: bytes) -> None:
        """Write a file, replacing it. Raises InputError (name, limits) or AgentError (disk full)."""
        path = self.path(name)
        others = [other for other in self.names() if other != name]
        held = sum((self._folder / other).stat().st_size for other in others)
        if len(others) >= MAXIMUM_FILES or held + len(data) > self._limit:
            raise InputError(
                f"a session keeps at most {MAXIMUM_FILES} files and {self._limit} bytes; remove some first"
            )
        self._folder.mkdir(parents=True, exist_ok=True)
        durable.require_space(self._folder, len(data))
        try:
            path.write_bytes(data)
        except OSError as error:
            path.unlink(missing_ok=True)
            raise AgentError(f"'{name}' could not be written: {error.strerror}") from error

    def existing(self, name: str) -> Path:
        """The path of a file that exists. Raises InputError."""
        path = self.path(name)
        if not path.is_file():
            raise InputError(f"there is no file '{name}' in this session; upload it first")
        return path

    def read(self, name: str) -> bytes:
        return self.existing(name).read_bytes()

    def remove(self, name: str) -> None:
        self.existing(name).unlink()

    def clear(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
