"""Where a system keeps its devices and the kernel's files."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from edge_agent.errors import HardwareError


@dataclass(frozen=True)
class System:
    """Paths below `root`: / on a board, another folder for the register-level model."""

    root: Path = Path("/")

    @classmethod
    def here(cls) -> System:
        """The system that this process runs on: / or $EDGE_AGENT_ROOT."""
        return cls(Path(os.environ.get("EDGE_AGENT_ROOT", "/")))

    @property
    def devices(self) -> Path:
        return self.root / "dev"

    def kernel_class(self, name: str) -> Path:
        """The folder in which the kernel lists the devices of a class."""
        return self.root / "sys" / "class" / name

    def boot_id(self) -> str:
        """Another one after each start of the system; "" where the kernel does not tell."""
        try:
            return (self.root / "proc" / "sys" / "kernel" / "random" / "boot_id").read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            return ""


def read_text(path: Path) -> str:
    """A kernel attribute without its newline. Raises HardwareError."""
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise HardwareError(f"the kernel's file {path} cannot be read: {error}") from error


def read_number(path: Path) -> int:
    """A kernel attribute that is a number, decimal or 0x.... Raises HardwareError."""
    text = read_text(path)
    try:
        return int(text, 0)
    except ValueError as error:
        raise HardwareError(f"the kernel's file {path} holds {text[:40]!r}, not a number") from error
