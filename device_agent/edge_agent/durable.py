"""Files that are either whole or absent after a power cut: temporary name, fsync, rename, fsync of the folder."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from edge_agent.errors import AgentError

TEMPORARY_SUFFIX = ".temporary"
RESERVED_BYTES = 16 << 20
"""Disk space that uploads leave free, so that state can still be written."""


def require_space(folder: Path, nbytes: int, reserve: int | None = None) -> None:
    """Raise AgentError where writing `nbytes` into a folder would leave less than `reserve` free (default:
    RESERVED_BYTES)."""
    reserve = RESERVED_BYTES if reserve is None else reserve
    free = shutil.disk_usage(folder).free
    if nbytes > free - reserve:
        raise AgentError(
            f"{nbytes} bytes do not fit on the agent's disk: {free} are free in {folder}, {reserve} stay reserved; "
            "free some space and try again"
        )


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def publish(temporary: Path, target: Path) -> None:
    """Give a written file its final name, durably. Both lie in the same file system."""
    descriptor = os.open(temporary, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(temporary, target)
    sync_folder(target.parent)


def write(target: Path, data: bytes, mode: int = 0o644) -> None:
    """Write a file durably; `mode` are its permissions from the start. Raises OSError, leaving the old file."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}{TEMPORARY_SUFFIX}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        publish(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
