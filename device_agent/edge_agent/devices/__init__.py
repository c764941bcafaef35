"""Accelerators, one file for each kind. The folder is the registry: devices/KIND.py has a function `open_device`."""

from __future__ import annotations

import pkgutil
from importlib import import_module

from edge_agent.boards import BoardProfile
from edge_agent.devices.base import Accelerator
from edge_agent.errors import IncompatibleError


def accelerator_kinds() -> list[str]:
    """The kinds of accelerator that this agent drives, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name != "base")


def open_accelerator(kind: str, profile: BoardProfile) -> Accelerator:
    """Open the accelerator of a board. Raises IncompatibleError where there is no such kind."""
    if kind not in accelerator_kinds():
        raise IncompatibleError(
            f"this agent drives no accelerator of kind '{kind}'; it drives {', '.join(accelerator_kinds())}"
        )
    accelerator: Accelerator = import_module(f"{__name__}.{kind}").open_device(profile)
    return accelerator
