"""Downloads with deadlines: a machine without a network learns so within seconds, once per host."""

from __future__ import annotations

import hashlib
import http
import http.client
import os
import shutil
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

from edgectl.errors import EdgectlError, UnreachableError, VerificationError
from edgectl.files import atomic_file

CHUNK = 1 << 18
USER_AGENT = "edgectl"
Progress = Callable[[int, int], None]
"""Called with (bytes received, bytes expected or 0)."""


@dataclass
class Downloader:
    """Fetches files over HTTP(S) and remembers which hosts did not answer.

    Times are seconds: `connect_timeout` for name lookup and connection together, `stall_timeout` without a byte.
    A transfer slower than `minimum_rate` bytes per second over `stall_timeout` counts as stalled. With `resume`, what
    has come of a file whose whole digest is known is kept beside it, and the next attempt, or the next run, goes on.
    """

    connect_timeout: float = 4.0
    stall_timeout: float = 15.0
    minimum_rate: float = 2048.0
    attempts: int = 3
    pause: float = 0.5
    progress: Progress | None = None
    resume: bool = False
    _dead: dict[str, str] = field(default_factory=dict)

    def fetch(self, url: str, target: Path, algorithm: str = "", digest: str = "") -> None:
        """Download `url` to `target`, whole or not at all; its digest by `algorithm` must begin with `digest`.

        Raises UnreachableError where the source does not answer or has no such file, VerificationError where the
        content is another, EdgectlError where the file cannot be written.
        """
        for attempt in range(1, self.attempts + 1):
            try:
                self._fetch_once(url, target, algorithm, digest)
                return
            except (_Transient, VerificationError) as error:
                if attempt == self.attempts:
                    if isinstance(error, _Transient):
                        raise UnreachableError(f"{url}: {error} ({self.attempts} attempts)") from error
                    raise
                time.sleep(self.pause * attempt)

    def _fetch_once(self, url: str, target: Path, algorithm: str, digest: str) -> None:
        self._require_alive(url)
        partial = target.with_name(f".{target.name}.{digest}.partial") if self.resume and digest else None
        had = partial.stat().st_size if partial is not None and partial.exists() else 0
        headers = {"User-Agent": USER_AGENT, **({"Range": f"bytes={had}-"} if had else {})}
        try:
            response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=self.stall_timeout)
        except urllib.error.HTTPError as error:
            if had and partial is not None and error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                partial.unlink()
                raise _Transient("the server has less of the file than was received before") from error
            if error.code >= 500 or error.code == 429:
                raise _Transient(f"the server answers {error.code} {error.reason}") from error
            raise UnreachableError(f"{url}: the server answers {error.code} {error.reason}") from error
        except (OSError, http.client.HTTPException) as error:
            raise _Transient(_reason(error)) from error
        with response:
            had = had if response.headers.get("Content-Range", "").startswith(f"bytes {had}-") else 0
            expected = _content_length(response)
            _require_space(target, expected)
            if partial is None:
                with atomic_file(target) as file:
                    self._receive(response, file, 0, expected)
                    _check_digest(url, file, algorithm, digest)
                return
            try:
                partial.parent.mkdir(parents=True, exist_ok=True)
                with partial.open("r+b" if had else "w+b") as file:
                    file.seek(had)
                    self._receive(response, file, had, had + expected if expected else 0)
                    _check_digest(url, file, algorithm, digest)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(partial, target)
            except VerificationError:
                partial.unlink()
                raise
            except OSError as error:
                raise EdgectlError(
                    f"cannot write {target}: {error.strerror or error}; make room or choose a folder you can write to"
                ) from error

    def _receive(self, response: http.client.HTTPResponse, file: BinaryIO, had: int, expected: int) -> None:
        """Write the rest of a file of which `had` bytes are there; `expected` in all, 0 where that is not known."""
        received, begin = had, time.monotonic()
        while chunk := self._read(response):
            file.write(chunk)
            received += len(chunk)
            if self.progress is not None:
                self.progress(received, expected)
            elapsed = time.monotonic() - begin
            if elapsed > self.stall_timeout and received - had < elapsed * self.minimum_rate:
                raise _Transient(f"only {received - had} bytes came in {elapsed:.0f} s")
        if received < expected:
            raise _Transient(f"the transfer ended after {received} of {expected} bytes")

    @staticmethod
    def _read(response: http.client.HTTPResponse) -> bytes:
        try:
            return response.read1(CHUNK)
        except (OSError, http.client.HTTPException) as error:
            raise _Transient(_reason(error)) from error

    def _require_alive(self, url: str) -> None:
        """Raise UnreachableError at once for a host known to be dead, and within `connect_timeout` for a new one."""
        endpoint = _endpoint(url)
        if endpoint is None:
            return
        host, port = endpoint
        key = f"{host}:{port}"
        if key not in self._dead and (failure := _probe(host, port, self.connect_timeout)):
            self._dead[key] = failure
        if key in self._dead:
            raise UnreachableError(f"{key} cannot be reached: {self._dead[key]}")


def _check_digest(url: str, file: BinaryIO, algorithm: str, digest: str) -> None:
    """Raises VerificationError where a whole file, open for reading, has another digest."""
    if not algorithm:
        return
    checksum = hashlib.new(algorithm)
    file.flush()
    file.seek(0)
    while chunk := file.read(CHUNK):
        checksum.update(chunk)
    if not checksum.hexdigest().startswith(digest):
        raise VerificationError(
            f"{url} has {algorithm} {checksum.hexdigest()[: len(digest)]}, expected {digest}; "
            "the file or the network changes it: try again or set EDGECTL_MIRROR"
        )


def _content_length(response: http.client.HTTPResponse) -> int:
    """What the server announces; 0 where it announces nothing or nonsense."""
    text = response.headers.get("Content-Length", "")
    return int(text) if text.isdecimal() else 0


class _Transient(Exception):
    """A failure that a second attempt may not meet."""


def _reason(error: BaseException) -> str:
    inner = getattr(error, "reason", None) or error
    return str(inner) or type(inner).__name__


def _endpoint(url: str) -> tuple[str, int] | None:
    """The (host, port) to connect to: the proxy's where one is set; None for URLs without a host."""
    parts = urlsplit(url)
    if not parts.hostname:
        return None
    proxy = urllib.request.getproxies().get(parts.scheme)
    if proxy and not urllib.request.proxy_bypass(parts.hostname):
        parts = urlsplit(proxy if "//" in proxy else f"http://{proxy}")
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def _probe(host: str, port: int, timeout: float) -> str:
    """Why `host` does not accept connections within `timeout`, or "".

    In a thread, because name lookup has no deadline of its own and a name can have many dead addresses.
    """
    failure = [f"no answer within {timeout:g} s"]

    def connect() -> None:
        try:
            socket.create_connection((host, port), timeout).close()
            failure[0] = ""
        except OSError as error:
            failure[0] = error.strerror or str(error)

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(timeout)
    return failure[0]


def _require_space(target: Path, needed: int) -> None:
    folder = target.parent
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise EdgectlError(
            f"{target} needs {needed} bytes, {free} are free; make room or set EDGECTL_CACHE to another folder"
        )
