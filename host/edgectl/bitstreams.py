"""Bitstreams on the controller: from the catalogue's stores or a file, verified, and what is known of them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from edge_agent.boards import BoardProfile
from edge_agent.catalogue import Bitstream, catalogue, choose_bitstream, find_bitstream
from edge_agent.errors import AgentError
from edge_agent.errors import IncompatibleError as AgentIncompatibleError
from edge_agent.fpga.bitstream import MAXIMUM_BYTES, Image, read_image
from edge_agent.vta.config import Config
from edgectl.download import Downloader, Progress
from edgectl.errors import IncompatibleError, UnreachableError, UsageError, VerificationError
from edgectl.files import cache_folder


@dataclass(frozen=True, eq=False)
class Candidate:
    """A bitstream file that may be flashed. `config` and `isa` are what it implements; `assumed` names those of them
    that nothing but the board's own says. `entry` is the catalogue's, None of a file that is not in it."""

    name: str
    source: str
    data: bytes
    image: Image
    config: str
    isa: str
    entry: Bitstream | None
    assumed: tuple[str, ...] = ()

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


@dataclass(frozen=True)
class BitstreamStore:
    """The catalogue with a cache folder in front of its stores, or of a mirror with the stores' paths."""

    cache: Path
    mirror: str = ""
    entries: Sequence[Bitstream] = field(default_factory=catalogue)
    downloader: Downloader = field(default_factory=lambda: Downloader(resume=True))

    @staticmethod
    def from_environment() -> BitstreamStore:
        """EDGECTL_CACHE is the cache folder, EDGECTL_MIRROR a base URL."""
        return BitstreamStore(cache_folder() / "bitstreams", os.environ.get("EDGECTL_MIRROR", ""))

    def fetch(self, entry: Bitstream, progress: Progress | None = None) -> bytes:
        """A published bitstream's bytes, from the cache where they are there and right.

        Raises IncompatibleError where nobody knows its digest, UnreachableError, VerificationError.
        """
        if not entry.sha256:
            raise IncompatibleError(
                f"bitstream {entry.id} cannot be verified, as its digest is not known: download {entry.url} yourself, "
                "and give the file with --bitstream"
            )
        path = self.cache / entry.id / entry.name
        for _ in range(2):
            if path.is_file():
                data = path.read_bytes()
                if hashlib.sha256(data).hexdigest() == entry.sha256:
                    return data
            self._download(entry, path, progress)
        raise VerificationError(f"{path} changes while it is read; remove it and try again")

    def _download(self, entry: Bitstream, path: Path, progress: Progress | None) -> None:
        url = entry.url
        if self.mirror:
            url = f"{self.mirror.rstrip('/')}/{urlsplit(entry.url).path.lstrip('/')}"
        self.downloader.progress = progress
        try:
            self.downloader.fetch(url, path, "sha256", entry.sha256)
        except UnreachableError as error:
            raise UnreachableError(
                f"bitstream {entry.id} could not be downloaded: {error}; download it elsewhere and give the file: "
                "`edgectl flash BOARD --bitstream FILE`, or set EDGECTL_MIRROR to a copy of the store"
            ) from error


def candidate(
    board: BoardProfile,
    bitstream: str = "",
    config: str = "",
    isa: str = "",
    store: BitstreamStore | None = None,
    progress: Progress | None = None,
) -> Candidate:
    """The bitstream to flash a board with: an entry of the catalogue by its id, a file, or without `bitstream` the
    entry that serves the board. Of a file that is not in the catalogue, `config` and `isa` say what it implements.

    Raises IncompatibleError (nothing serves the board, no such entry), UsageError (no such file, or `config` or `isa`
    where they are known), VerificationError (damaged), UnreachableError.
    """
    store = store or BitstreamStore.from_environment()
    path = Path(bitstream)
    if bitstream and (os.sep in bitstream or path.suffix in (".bit", ".bin", ".rbf") or path.is_file()):
        data, source = _read(path), bitstream
        sha256 = hashlib.sha256(data).hexdigest()
        entry = next((entry for entry in store.entries if entry.sha256 == sha256), None)
    else:
        try:
            entry = find_bitstream(store.entries, bitstream) if bitstream else choose_bitstream(store.entries, board)
        except AgentIncompatibleError as error:
            raise IncompatibleError(str(error)) from error
        data, source = store.fetch(entry, progress), entry.url
    if entry is not None and (config or isa):
        raise UsageError(
            f"{source} is {entry.id} of the catalogue: {entry.config}, version {entry.isa}; leave out --config "
            "and --isa"
        )
    try:
        image = read_image(data)
    except AgentError as error:
        raise VerificationError(f"{source}: {error}") from error
    if entry is not None:
        return Candidate(entry.id, source, data, image, entry.config, entry.isa, entry)
    config = config or _config_of(path)
    assumed = tuple(what for what, given in (("configuration", config), ("instruction set", isa)) if not given)
    return Candidate(path.name, source, data, image, config or board.config, isa or board.isa, None, assumed)


def _config_of(path: Path) -> str:
    """The configuration that a file is named for, as the tools that build bitstreams name them; "" if it is not."""
    try:
        return Config.parse(path.stem).name
    except AgentError:
        return ""


def _read(path: Path) -> bytes:
    try:
        # A pipe may never end, and a device has no size.
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise UsageError(f"{path} is no file but a pipe or a device; give a .bit or .bin file")
        nbytes = path.stat().st_size
        if nbytes > MAXIMUM_BYTES:
            raise UsageError(f"{path} has {nbytes} bytes, no bitstream has more than {MAXIMUM_BYTES}")
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read bitstream {path}: {error.strerror}") from error
