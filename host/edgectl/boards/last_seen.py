"""When boards of the inventory last answered, by their identity: a file that edgectl writes for itself."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping

from edgectl.boards.untrusted import is_identity
from edgectl.errors import EdgectlError
from edgectl.files import atomic_file, state_directory

MAXIMUM_ENTRIES = 1000


def last_seen() -> dict[str, float]:
    """Seconds since 1970 by identity; nothing where there is no file or it is damaged: it can be had again."""
    try:
        document = json.loads((state_directory() / "seen.json").read_bytes())
        return {name: float(when) for name, when in document.items() if is_identity(name)}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


def remember(answered: Mapping[str, float]) -> None:
    """When these boards answered, by identity. Where it cannot be written, it is not."""
    entries = {**last_seen(), **{identity: when for identity, when in answered.items() if is_identity(identity)}}
    latest = sorted(entries.items(), key=lambda item: item[1], reverse=True)[:MAXIMUM_ENTRIES]
    try:
        with atomic_file(state_directory() / "seen.json", mode=0o600) as file:
            file.write(json.dumps(dict(latest)).encode())
    except EdgectlError:
        pass


def in_words(when: float | None) -> str:
    """`now`, `5 min ago`; `-` where it is not known or, after a clock was set, lies in the future."""
    if when is None:
        return "-"
    seconds = time.time() - when
    if seconds < -60:
        return "-"
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return "now"
