"""Bitstream files that a board keeps: the one in use, the one before it, and what is on its way."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from edge_agent import durable
from edge_agent.boards import BoardProfile
from edge_agent.errors import AgentError, InputError
from edge_agent.fpga.bitstream import MAXIMUM_BYTES, checked_image
from edge_agent.fpga.programmer import fpga_of

_SUFFIX = ".bitstream"


class Shelf:
    """Bitstreams by the SHA-256 of their files, in a folder that it owns alone. Uploads end here."""

    maximum_bytes = MAXIMUM_BYTES
    what = "bitstream"

    def __init__(self, folder: Path, board: BoardProfile) -> None:
        """Raises AgentError where the folder is unusable."""
        self._folder = folder
        self._board = board
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise AgentError(f"bitstreams cannot be kept in {folder}: {error.strerror}") from error

    @property
    def incoming(self) -> Path:
        """The folder for files that will be given to `add`."""
        return self._folder

    def path(self, sha256: str) -> Path:
        """Where a bitstream lies, or would. Raises InputError where it is no SHA-256."""
        if not re.fullmatch("[0-9a-f]{64}", sha256):
            raise InputError(f"{sha256[:80]!r} is not a SHA-256: 64 hexadecimal digits")
        return self._folder / f"{sha256}{_SUFFIX}"

    def has(self, sha256: str) -> bool:
        return self.path(sha256).is_file()

    def add(self, file: Path) -> str:
        """Check that a file in `incoming` is a bitstream for this board and keep it; returns its SHA-256. The file is
        moved, or removed.

        Raises VerificationError (damaged), IncompatibleError (another device).
        """
        try:
            data = file.read_bytes()
            checked_image(data, fpga_of(self._board), self._board.name)
            sha256 = hashlib.sha256(data).hexdigest()
            durable.publish(file, self.path(sha256))
        except OSError as error:
            raise AgentError(f"the bitstream could not be stored: {error.strerror}") from error
        finally:
            file.unlink(missing_ok=True)
        return sha256

    def sweep(self, kept: set[str], uploads: bool = False) -> None:
        """Remove all bitstreams but these; with `uploads`, also what interrupted uploads have left."""
        names = {self.path(sha256).name for sha256 in kept}
        for path in self._folder.iterdir():
            if path.name not in names and (uploads or path.suffix == _SUFFIX):
                path.unlink()
