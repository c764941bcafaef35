"""The boards that this machine knows: kinds of board, and simulated ones that run."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from edge_agent.boards import profile, profile_names
from edgectl.errors import EdgectlError
from edgectl.simulated_board import SimulatedBoard


@dataclass(frozen=True)
class BoardEntry:
    """A board or a kind of board. `state` is running, stopped, not answering or compile only."""

    name: str
    description: str
    config: str
    state: str
    address: str = ""
    model: str = ""
    metrics_url: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def list_boards() -> list[BoardEntry]:
    """Every profile, with the state of the simulated boards."""
    return [_entry(name) for name in profile_names()]


def _entry(name: str) -> BoardEntry:
    kind = profile(name)
    if not kind.simulated:
        return BoardEntry(name, kind.description, kind.config, "compile only")
    try:
        running = SimulatedBoard(name).find()
        if running is None:
            return BoardEntry(name, kind.description, kind.config, "stopped")
        with running.connect() as connection:
            live = connection.status()["live"]
    except EdgectlError:
        return BoardEntry(name, kind.description, kind.config, "not answering")
    model = live["model"] if live else ""
    return BoardEntry(name, kind.description, kind.config, "running", str(running.address), model, running.metrics_url)
