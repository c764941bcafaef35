"""One lowering per operator, grouped by file. Each file's `LOWERINGS` maps operator classes to theirs."""

from __future__ import annotations

import importlib
import pkgutil

from edgectl.codegen.cpu.lowering import Lowering
from edgectl.operators.base import Operator

__all__ = ["LOWERINGS"]


def _discover() -> dict[type[Operator], Lowering]:
    found: dict[type[Operator], Lowering] = {}
    for module in pkgutil.iter_modules(__path__):
        found.update(getattr(importlib.import_module(f"{__name__}.{module.name}"), "LOWERINGS", {}))
    return found


LOWERINGS: dict[type[Operator], Lowering] = _discover()
"""Every operator's lowering."""
