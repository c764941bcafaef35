"""Files that are either complete or absent."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import platformdirs

from edgectl.errors import EdgectlError

ZIP_MAGIC = b"PK\x03\x04"


def is_archive(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins as a ZIP archive does. (zipfile.is_zipfile looks at the end, where data can imitate one.)

    Raises OSError where the file cannot be read.
    """
    with open(path, "rb") as file:
        return file.read(len(ZIP_MAGIC)) == ZIP_MAGIC


def cache_folder() -> Path:
    """The folder of what can be had again: EDGECTL_CACHE, or the user's cache directory."""
    return Path(os.environ.get("EDGECTL_CACHE") or platformdirs.user_cache_dir("edgectl")).expanduser()


def _umask() -> int:
    """The process's file mode mask, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A binary file that takes the name `path` when the block ends, and leaves nothing behind when it raises.

    Creates missing folders. Raises EdgectlError, naming the file, where the disk is full or the folder unwritable.
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
        os.chmod(temporary, 0o666 & ~_umask())
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
