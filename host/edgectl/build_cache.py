"""Bundles of earlier builds, found again by a digest of everything that they depend on."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime
from enum import Enum
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.boards import BoardProfile
from edge_agent.runtime.cpu import processor_flags, this_machine
from edge_agent.version import VERSION
from edgectl.errors import EdgectlError
from edgectl.files import atomic_file, cache_folder
from edgectl.graph import Model

MAXIMUM_BYTES = 2 << 30
"""All entries together: about 200 of ResNet-18's bundles (10 MB), more than one works with, and little of a disk."""
STALE_SECONDS = 24 * 3600.0
"""Unfinished files that are older were left by a process that was killed: nobody writes a bundle for a day."""
PACKAGES = ("edgectl", "edge_agent", "edge_bitstreams")
SOURCE_SUFFIXES = (".py", ".c", ".json")
TOOLS = ("apache-tvm", "apache-tvm-ffi", "ziglang", "numpy")
"""The distributions that take part in a build: code generation, linking, arithmetic."""
SUFFIX = ".bundle"
DIGEST_BYTES = hashlib.sha256().digest_size
"""An entry is the digest of a bundle, and the bundle."""
NOT_KEPT = "the bundle was not kept in the cache of builds"


def build_key(
    model: Model,
    calibration: np.ndarray | None,
    board: BoardProfile,
    origin: Mapping[str, Any],
    options: Mapping[str, Any],
) -> str:
    """The SHA-256, in hexadecimal, of all that a bundle is a function of: the arguments of `edgectl.build`, this
    processor (which kernels may be made for), the tools' versions and the compiler's own source files."""
    processor = (this_machine(), processor_flags())
    compiler = (VERSION, _tool_versions(), SOURCES_DIGEST)
    return content_digest((model, calibration, board, origin, options, processor, compiler))


def content_digest(value: Any) -> str:
    """SHA-256 of a value made of dataclasses, mappings, sequences, sets, arrays and scalars; different values of
    these have different encodings. Mappings and sequences count in their order. Raises TypeError for anything else."""
    digest = hashlib.sha256()
    for part in _encoded(value):
        digest.update(part)
    return digest.hexdigest()


def _encoded(value: Any) -> Iterator[bytes | memoryview]:
    """An encoding in parts that no other value has: each is led by its type, and its length where that varies."""
    if isinstance(value, np.ndarray):
        yield f"array {value.dtype.str} {value.shape}\n".encode()
        # A view, for parameters are hundreds of megabytes; arrays of no elements cannot be cast.
        yield np.ascontiguousarray(value).data.cast("B") if value.size else b""
    elif is_dataclass(value) and not isinstance(value, type):
        yield f"{type(value).__module__}.{type(value).__qualname__} {len(fields(value))}\n".encode()
        for field in fields(value):
            yield from _encoded(field.name)
            yield from _encoded(getattr(value, field.name))
    elif isinstance(value, Mapping):
        yield f"mapping {len(value)}\n".encode()
        for key, item in value.items():
            yield from _encoded(key)
            yield from _encoded(item)
    elif isinstance(value, (tuple, list)):
        yield f"sequence {len(value)}\n".encode()
        for item in value:
            yield from _encoded(item)
    elif isinstance(value, (set, frozenset)):
        yield f"set {len(value)}\n".encode()
        yield from sorted(b"".join(_encoded(item)) for item in value)
    elif isinstance(value, (str, bytes)):
        raw = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
        yield f"{type(value).__name__} {len(raw)}\n".encode() + raw
    elif isinstance(value, Enum):
        yield f"{type(value).__qualname__}.{value.name}\n".encode()
    elif value is None or isinstance(value, (bool, int, float, np.generic)):
        yield f"{type(value).__name__} {value!r}\n".encode()
    else:
        raise TypeError(f"cannot digest {type(value).__name__} {value!r}")


def _tool_versions() -> dict[str, str]:
    """The version of each tool; empty for one that is not installed as a distribution."""
    versions = dict.fromkeys(TOOLS, "")
    for name in TOOLS:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


def sources_digest() -> str:
    """SHA-256 over the names and contents of the compiler's source files, as they are on disk now."""
    digest = hashlib.sha256()
    for package in PACKAGES:
        folder = Path(str(resources.files(package)))
        for path in sorted(path for path in folder.rglob("*") if path.suffix in SOURCE_SUFFIXES and path.is_file()):
            content = path.read_bytes()
            digest.update(f"{package}/{path.relative_to(folder)} {len(content)}\n".encode() + content)
    return digest.hexdigest()


SOURCES_DIGEST = sources_digest()
"""Of the sources that this process runs, taken as they are imported: a later edit is not what it compiles with."""


@dataclass(frozen=True)
class Entry:
    """A bundle that was built before, and when."""

    data: bytes
    built: datetime


@dataclass(frozen=True)
class BuildCache:
    """A folder of bundles by key, which processes may share. A bundle's time of modification is when it was built, its
    time of access when it was last used: the least recently used go where all would take more than `maximum_bytes`."""

    folder: Path
    maximum_bytes: int = MAXIMUM_BYTES

    @staticmethod
    def from_environment() -> BuildCache:
        """In EDGECTL_CACHE (default: the user's cache directory)."""
        return BuildCache(cache_folder() / "builds")

    def find(self, key: str) -> tuple[Entry | None, str]:
        """The entry of `key`, if there is a sound one; and a notice for the user, if there is a damaged one.

        Of a folder that cannot be used, `keep` tells.
        """
        path = self._path(key)
        try:
            self._require_own()
            with path.open("rb") as file:
                content, built = file.read(), os.fstat(file.fileno()).st_mtime_ns
        except (OSError, EdgectlError):
            return None, ""
        digest, data = content[:DIGEST_BYTES], content[DIGEST_BYTES:]
        if hashlib.sha256(data).digest() != digest:
            return None, f"the cached bundle {path} is damaged: compiled again, and replaced"
        # Another process may have removed it since.
        with contextlib.suppress(OSError):
            os.utime(path, ns=(time.time_ns(), built))
        return Entry(data, datetime.fromtimestamp(built / 1e9)), ""

    def keep(self, key: str, data: bytes) -> str:
        """Store a bundle; returns a notice for the user where it could not be.

        Nothing is stored where the sources have changed since this process began: it may have imported some before.
        """
        if sources_digest() != SOURCES_DIGEST:
            return f"{NOT_KEPT}: edgectl's sources changed while it ran"
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._require_own()
            with atomic_file(self._path(key)) as file:
                file.write(hashlib.sha256(data).digest())
                file.write(data)
            self._evict()
        except OSError as error:
            return f"{NOT_KEPT}: {self.folder}: {error.strerror or error}; set EDGECTL_CACHE to a folder of your own"
        except EdgectlError as error:
            return f"{NOT_KEPT}: {error}"
        return ""

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}{SUFFIX}"

    def _require_own(self) -> None:
        """Raise EdgectlError where somebody else could put code into the folder, which boards would run."""
        status = self.folder.stat()
        if status.st_uid != os.getuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise EdgectlError(
                f"others can write to {self.folder}; run `chmod go-w {self.folder}` if it is yours, or set "
                "EDGECTL_CACHE to a folder of your own"
            )

    def _evict(self) -> None:
        """Remove what is too much, the least recently used first, and what killed processes left."""
        found: list[tuple[int, int, Path]] = []
        for path in self.folder.iterdir():
            # Another process may remove it at the same time.
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                if path.suffix == SUFFIX and not path.name.startswith("."):
                    found.append((status.st_atime_ns, status.st_size, path))
                elif time.time() - status.st_mtime > STALE_SECONDS:
                    path.unlink()
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= self.maximum_bytes:
                break
            path.unlink(missing_ok=True)
            total -= size
