"""Text that came over the network from whoever sent it: bounded, and harmless to a terminal."""

from __future__ import annotations

import re

_IDENTITY = re.compile(r"[0-9a-f]{32}")
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
SHOWN_CHARACTERS = 64


def printable(text: str, limit: int = SHOWN_CHARACTERS) -> str:
    """`text` of at most `limit` characters, everything in it replaced that could move a cursor, change a direction of
    writing or hide."""
    clean = "".join(character if character.isprintable() else REPLACEMENT for character in text[: limit + 1])
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"


def is_identity(text: str) -> bool:
    """Whether `text` can be the identity of an agent: 32 hexadecimal digits."""
    return _IDENTITY.fullmatch(text) is not None
