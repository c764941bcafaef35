"""RPC keys: from the file that the inventory names, or from the environment; never from the command line."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from edgectl.errors import UsageError

MAXIMUM_KEY_CHARACTERS = 200
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def key_from_environment() -> str:
    """$EDGECTL_KEY, or nothing."""
    return os.environ.get("EDGECTL_KEY", "")


def read_key(path: str | os.PathLike[str]) -> str:
    """The key TYPE:TOKEN in a file that its owner alone can read.

    Raises UsageError where the file is missing, open to others, or holds no key.
    """
    file = Path(path).expanduser()
    try:
        with file.open("rb") as opened:
            mode = stat.S_IMODE(os.fstat(opened.fileno()).st_mode)
            text = opened.read(MAXIMUM_KEY_CHARACTERS + 2)
    except OSError as error:
        raise UsageError(f"the key file {file} cannot be read: {error.strerror or error}") from error
    if mode & _OTHERS:
        raise UsageError(f"the key file {file} has mode {mode:04o}, others can use it; repair with: chmod 600 {file}")
    key = text.decode(errors="replace").strip()
    if not key or len(key) > MAXIMUM_KEY_CHARACTERS or not key.isprintable() or not key.isascii() or " " in key:
        raise UsageError(f"the key file {file} must hold one line TYPE:TOKEN, as the agent's key file does")
    return key
