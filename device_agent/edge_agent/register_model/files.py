"""Where a model's process keeps what others look for, in its directory."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

from edge_agent import durable
from edge_agent.state_file import start_ticks

ROOT = "root"
"""The folder that stands for / on the modelled board."""
OWNER = "owner"
"""Locked by the agent that drives the model."""
QUIRKS = "quirks.json"
"""How the next runs behave: `Quirks.write` replaces it at any time."""
LOG = "model.log"


@dataclass(frozen=True)
class ModelState:
    """A running model's process."""

    NAME: ClassVar[str] = "model.json"

    pid: int
    start_ticks: int

    def write(self, path: Path) -> None:
        durable.write(path, json.dumps(asdict(self)).encode(), mode=0o600)

    @classmethod
    def read(cls, path: Path) -> ModelState | None:
        """The model that runs; None where there is none."""
        try:
            state = cls(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            return None
        return state if state.is_running() else None

    def is_running(self) -> bool:
        return start_ticks(self.pid) == self.start_ticks
