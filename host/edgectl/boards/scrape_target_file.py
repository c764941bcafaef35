"""Keeps what to scrape in a file that Prometheus watches."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from edgectl.boards.scrape_targets import ScrapeTarget, as_json
from edgectl.errors import UsageError
from edgectl.files import atomic_file


def check_name(path: Path) -> Path:
    """`path`, if Prometheus reads a file of that name. Raises UsageError."""
    if path.suffix != ".json":
        raise UsageError(f"Prometheus takes the format of a file from its name: give {path.name}.json, not {path.name}")
    return path


def write_targets(path: Path, targets: Iterable[ScrapeTarget]) -> bool:
    """Bring the file up to date in one step; whether it had to change. Raises EdgectlError where it cannot be
    written."""
    wanted = as_json(targets)
    try:
        if path.read_bytes() == wanted:
            return False
    except OSError:
        pass  # not there yet, or in a way in which writing says what is wrong
    with atomic_file(path, mode=0o644) as file:
        file.write(wanted)
    return True
