"""Resumable uploads: begin, chunks, commit. A client that lost its connection begins again and goes on."""

from __future__ import annotations

import hashlib
import re
import secrets
import shutil
import threading
import time
from pathlib import Path
from typing import Protocol

from edge_agent import durable
from edge_agent.errors import AgentError, BusyError, InputError, VerificationError

MAXIMUM_UPLOADS = 4
STALE_SECONDS = 600.0
"""An unfinished upload that nobody touched for so long makes way for another."""
REMEMBERED = 16
"""Finished uploads that are known by their SHA-256, so that sending the same file again costs nothing."""


class Target(Protocol):
    """Where files go once they are whole: the store of bundles, the shelf of bitstreams."""

    what: str
    maximum_bytes: int

    @property
    def incoming(self) -> Path:
        """The folder for files that will be given to `add`."""

    def path(self, digest: str) -> Path:
        """Where a file that is kept lies, as it was given to `add`."""

    def add(self, file: Path) -> str:
        """Check a file and keep it; its digest."""


class _Upload:
    """A file on its way, or arrived: then `digest` is what the target calls it by."""

    def __init__(self, path: Path, nbytes: int) -> None:
        self.path = path
        self.nbytes = nbytes
        self.received = 0
        self.digest: str | None = None
        self.touched = time.monotonic()
        self.lock = threading.Lock()


class Uploads:
    """Uploads by the SHA-256 of the whole file. Thread-safe; several clients may send the same file at once."""

    def __init__(self, target: Target, stale_seconds: float = STALE_SECONDS) -> None:
        self._target = target
        self._stale_seconds = stale_seconds
        self._uploads: dict[str, _Upload] = {}
        self._lock = threading.Lock()

    def begin(self, nbytes: int, sha256: str) -> int:
        """Start or resume; returns how many bytes the agent already has: all of them where the file is there.

        Raises InputError (size, digest), BusyError (too many uploads) or AgentError (the disk is too small).
        """
        if not re.fullmatch("[0-9a-f]{64}", sha256):
            raise InputError(f"{sha256[:80]!r} is not a SHA-256: 64 hexadecimal digits")
        if not 0 < nbytes <= self._target.maximum_bytes:
            raise InputError(
                f"a {self._target.what} of {nbytes} bytes cannot be; 1 to {self._target.maximum_bytes} are accepted"
            )
        with self._lock:
            upload = self._uploads.get(sha256)
            if upload is not None and upload.nbytes == nbytes and self._is_usable(sha256, upload):
                upload.touched = time.monotonic()
                return upload.received
            self._make_room()
            durable.require_space(self._target.incoming, nbytes)
            path = self._target.incoming / f"{sha256}.{secrets.token_hex(4)}.part"
            path.write_bytes(b"")
            self._uploads[sha256] = _Upload(path, nbytes)
            return 0

    def _is_usable(self, sha256: str, upload: _Upload) -> bool:
        if upload.digest is None:
            return True
        try:
            # A file that was damaged on the disk is sent again: that is what its errors ask for.
            return _digest(self._target.path(upload.digest)) == sha256
        except OSError:
            return False

    def _make_room(self) -> None:
        now = time.monotonic()
        unfinished = {sha256: upload for sha256, upload in self._uploads.items() if upload.digest is None}
        for sha256, upload in list(unfinished.items()):
            if now - upload.touched > self._stale_seconds:
                upload.path.unlink(missing_ok=True)
                del self._uploads[sha256], unfinished[sha256]
        if len(unfinished) >= MAXIMUM_UPLOADS:
            raise BusyError(f"{MAXIMUM_UPLOADS} unfinished uploads are already there; try again in a few minutes")
        finished = [sha256 for sha256, upload in self._uploads.items() if upload.digest is not None]
        for sha256 in finished[:-REMEMBERED]:
            del self._uploads[sha256]

    def _find(self, sha256: str) -> _Upload:
        with self._lock:
            if sha256 not in self._uploads:
                raise InputError(f"no upload of {sha256[:12]} has begun; begin it again")
            return self._uploads[sha256]

    def chunk(self, sha256: str, offset: int, data: bytes) -> int:
        """Append; returns how many bytes the agent has now, where the next chunk begins.

        A chunk that begins elsewhere is dropped: another client, or an earlier attempt, has sent those bytes. Raises
        InputError where it would go beyond the end, AgentError where it cannot be written.
        """
        upload = self._find(sha256)
        with upload.lock:
            if offset < 0 or offset + len(data) > upload.nbytes:
                raise InputError(f"a chunk covers bytes {offset} to {offset + len(data)} of {upload.nbytes}")
            if offset == upload.received and upload.digest is None:
                self._append(upload, data)
            return upload.received

    def _append(self, upload: _Upload, data: bytes) -> None:
        try:
            with upload.path.open("r+b") as file:
                file.seek(upload.received)
                file.write(data)
        except OSError as error:
            free = shutil.disk_usage(upload.path.parent).free
            raise AgentError(f"the upload could not be written: {error.strerror}, {free} bytes are free") from error
        upload.received += len(data)
        upload.touched = time.monotonic()

    def commit(self, sha256: str) -> str:
        """Verify the whole file and keep it; returns what the target calls it by. May be called again.

        Raises InputError where bytes are missing (the upload goes on then), VerificationError or IncompatibleError
        where the file is wrong (it ends then).
        """
        upload = self._find(sha256)
        with upload.lock:
            if upload.digest is not None:
                return upload.digest
            if upload.received != upload.nbytes:
                raise InputError(f"{upload.received} of {upload.nbytes} bytes have arrived; begin again to resume")
            try:
                found = _digest(upload.path)
                if found != sha256:
                    raise VerificationError(
                        f"the uploaded file has SHA-256 {found}, {sha256} was announced; upload it again"
                    )
                upload.digest = self._target.add(upload.path)
            except BaseException:
                upload.path.unlink(missing_ok=True)
                with self._lock:
                    self._uploads.pop(sha256, None)
                raise
            return upload.digest


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
