"""Accelerators, one file for each kind. The folder is the registry: devices/KIND.py has a function `open_device`."""

from __future__ import annotations

import os
import pkgutil
import tempfile
from importlib import import_module
from pathlib import Path

from edge_agent.boards import BoardProfile
from edge_agent.devices.base import Accelerator
from edge_agent.errors import BusyError, IncompatibleError
from edge_agent.hardware.system import System


def accelerator_kinds() -> list[str]:
    """The kinds of accelerator that this agent drives, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name != "base")


def open_accelerator(kind: str, profile: BoardProfile, directory: Path | None = None) -> Accelerator:
    """Open the accelerator of a board.

    `directory` is where a driver may keep files from one process to the next (default: one of this user's among the
    system's temporary ones).
    Raises IncompatibleError where there is no such kind, HardwareError where the board lacks what its driver needs,
    BusyError where another process drives it.
    """
    if kind not in accelerator_kinds():
        raise IncompatibleError(
            f"this agent drives no accelerator of kind '{kind}'; it drives {', '.join(accelerator_kinds())}"
        )
    module = import_module(f"{__name__}.{kind}")
    accelerator: Accelerator = module.open_device(profile, directory or _own_directory())
    return accelerator


def system_of(kind: str, directory: Path) -> System:
    """Where the devices and kernel files of a board are: this machine's, but those of a modelled board."""
    module = import_module(f"{__name__}.{kind}")
    return module.system(directory) if hasattr(module, "system") else System.here()


def _own_directory() -> Path:
    directory = Path(tempfile.gettempdir()) / f"edge-agent-{os.getuid()}"
    directory.mkdir(mode=0o700, exist_ok=True)
    if directory.stat().st_uid != os.getuid():
        raise BusyError(f"{directory} belongs to another user; name another directory")
    return directory
