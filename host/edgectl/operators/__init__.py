"""The graph's operators, one concept per file. Importing this package registers every operator by its `kind`."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from abc import ABCMeta

from edgectl.operators.base import Operator, Padding, TensorType

__all__ = ["OPERATORS", "Operator", "Padding", "TensorType"]


def _discover() -> dict[str, type[Operator]]:
    found: dict[str, type[Operator]] = {}
    for module in pkgutil.iter_modules(__path__):
        members = vars(importlib.import_module(f"{__name__}.{module.name}")).values()
        # Not inspect.isclass, for which a type alias such as tuple[int, int] is a class on Python 3.10.
        for cls in (member for member in members if isinstance(member, ABCMeta)):
            if issubclass(cls, Operator) and not inspect.isabstract(cls) and "kind" in cls.__dict__:
                found[cls.kind] = cls
    return found


OPERATORS: dict[str, type[Operator]] = _discover()
"""Every operator class by its kind."""
