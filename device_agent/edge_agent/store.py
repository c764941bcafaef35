"""Bundles on disk, by digest, and which of them is live. Survives a power cut at every step.

`bundles/DIGEST.bundle` are whole and verified files; `active.json` names the live bundle and the one before it.
Whatever else lies there is left over from an interrupted operation and is swept at start.
"""

from __future__ import annotations

import json
import re
import threading
from dataclasses import dataclass
from pathlib import Path

from edge_agent import durable
from edge_agent.bundle import MAXIMUM_BYTES, Bundle, read_bundle
from edge_agent.errors import AgentError, InputError, VerificationError

SCHEMA_VERSION = 1
KEPT_BUNDLES = 4
"""Bundles that stay on disk, the live and the previous one among them."""

_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Active:
    """Digests of the live bundle and of the one that was live before it."""

    current: str | None = None
    previous: str | None = None


class Store:
    """The bundles under a state directory, which it owns alone. Thread-safe."""

    what = "bundle"

    def __init__(self, directory: Path, maximum_bytes: int = MAXIMUM_BYTES) -> None:
        """Open, creating what is missing, and sweep leftovers. Bundles of more than `maximum_bytes` are not accepted:
        the board could not hold them in memory. Raises AgentError where the directory is unusable."""
        self.maximum_bytes = maximum_bytes
        self._bundles = directory / "bundles"
        self._active_file = directory / "active.json"
        self._lock = threading.RLock()
        try:
            self._bundles.mkdir(parents=True, exist_ok=True)
            self._active = self._read_active()
            self._sweep(directory)
        except OSError as error:
            raise AgentError(
                f"the state directory {directory} cannot be used: {error.strerror}; choose one with --state-dir"
            ) from error

    @property
    def active(self) -> Active:
        return self._active

    @property
    def incoming(self) -> Path:
        """The folder for files that will be given to `add`: the same file system."""
        return self._bundles

    def _read_active(self) -> Active:
        try:
            document = json.loads(self._active_file.read_text())
            if document["schema"] != SCHEMA_VERSION:
                raise ValueError(f"schema {document['schema']}")
            digests = [document["current"], document["previous"]]
            if any(digest is not None and not _DIGEST.fullmatch(digest) for digest in digests):
                raise ValueError(f"digests {digests}")
            # A digest whose file is gone (an fsck, a careless hand) must not stop the other one.
            return Active(*(digest if digest and self.path(digest).is_file() else None for digest in digests))
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return Active()

    def _sweep(self, directory: Path) -> None:
        for leftover in directory.glob(f".*{durable.TEMPORARY_SUFFIX}"):
            leftover.unlink()
        kept = {self.path(digest) for digest in (self._active.current, self._active.previous) if digest}
        for path in self._bundles.iterdir():
            if path not in kept:
                path.unlink()

    def path(self, digest: str) -> Path:
        """Where a bundle lies, or would. Raises InputError where it is no digest."""
        if not _DIGEST.fullmatch(digest):
            raise InputError(f"{digest[:80]!r} is not a bundle's digest: 64 hexadecimal digits")
        return self._bundles / f"{digest}.bundle"

    def add(self, file: Path) -> str:
        """Verify a bundle file lying in `incoming` and keep it; returns its digest. The file is moved, or removed.

        Raises VerificationError or IncompatibleError where it is not a good bundle.
        """
        try:
            digest = read_bundle(file, self.maximum_bytes).digest
            with self._lock:
                durable.publish(file, self.path(digest))
                self._prune(digest)
        except OSError as error:
            raise AgentError(f"the bundle could not be stored: {error.strerror}") from error
        finally:
            file.unlink(missing_ok=True)
        return digest

    def _prune(self, newest: str) -> None:
        protected = {self.path(digest) for digest in (self._active.current, self._active.previous, newest) if digest}
        others = [path for path in self._bundles.glob("*.bundle") if path not in protected]
        others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        for path in others[max(0, KEPT_BUNDLES - len(protected)) :]:
            path.unlink()

    def read(self, digest: str) -> Bundle:
        """A stored bundle, verified again. Raises InputError (there is none) or VerificationError (damaged)."""
        path = self.path(digest)
        if not path.is_file():
            raise InputError(f"there is no bundle {digest[:12]} on this board; upload it first")
        bundle = read_bundle(path, self.maximum_bytes)
        if bundle.digest != digest:
            raise VerificationError(f"bundle {digest[:12]} on disk has digest {bundle.digest[:12]}; upload it again")
        return bundle

    def activate(self, digest: str) -> Active:
        """Make a stored bundle the live one, atomically; the one that was live becomes the previous."""
        with self._lock:
            if not self.path(digest).is_file():
                raise InputError(f"there is no bundle {digest[:12]} on this board; upload it first")
            if digest != self._active.current:
                self._write_active(Active(digest, self._active.current))
            return self._active

    def roll_back(self) -> Active:
        """Make the previous bundle the live one, forgetting the one that failed."""
        with self._lock:
            self._write_active(Active(self._active.previous, None))
            return self._active

    def _write_active(self, active: Active) -> None:
        document = {"schema": SCHEMA_VERSION, "current": active.current, "previous": active.previous}
        try:
            durable.write(self._active_file, json.dumps(document).encode())
        except OSError as error:
            raise AgentError(
                f"the activation could not be recorded: {error.strerror}; the previous version stays"
            ) from error
        self._active = active
