"""Files that are either complete or absent."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import platformdirs

from edgectl.errors import BusyError, EdgectlError

ZIP_MAGIC = b"PK\x03\x04"
_POLL_SECONDS = 0.02


def is_archive(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins as a ZIP archive does. (zipfile.is_zipfile looks at the end, where data can imitate one.)

    Raises OSError where the file cannot be read.
    """
    with open(path, "rb") as file:
        return file.read(len(ZIP_MAGIC)) == ZIP_MAGIC


def cache_folder() -> Path:
    """The folder of what can be had again: EDGECTL_CACHE, or the user's cache directory."""
    return Path(os.environ.get("EDGECTL_CACHE") or platformdirs.user_cache_dir("edgectl")).expanduser()


def state_directory() -> Path:
    """Where the controller keeps state: $EDGECTL_STATE, or the user's state directory."""
    if chosen := os.environ.get("EDGECTL_STATE"):
        return Path(chosen).expanduser()
    return platformdirs.user_state_path("edgectl")


def _umask() -> int:
    """The process's file mode mask, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike[str], mode: int = 0o666) -> Iterator[BinaryIO]:
    """A binary file that takes the name `path` when the block ends, and leaves nothing behind when it raises.

    Creates missing folders. `mode` are the file's permissions, less the process's mask. Raises EdgectlError, naming the
    file, where the disk is full or the folder unwritable.
    """
    target = Path(path)
    temporary: str | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        with os.fdopen(descriptor, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, mode & ~_umask())
        os.replace(temporary, target)
        temporary = None
    except OSError as error:
        raise EdgectlError(
            f"cannot write {target}: {error.strerror or error}; make room or choose a folder you can write to"
        ) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


@contextlib.contextmanager
def exclusive(path: Path, seconds: float, busy: str) -> Iterator[None]:
    """One process at a time is inside the block, by a lock on the file `path`, which goes with its holder.

    Raises BusyError with the message `busy` after so many seconds, OSError where the file cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + seconds
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise BusyError(busy) from None
                time.sleep(_POLL_SECONDS)
        yield
    finally:
        os.close(descriptor)
