"""The graph's operators, one concept per file. Importing this package registers every operator by its `kind`."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

from edgectl.operators.base import Operator, Padding, TensorType

__all__ = ["OPERATORS", "Operator", "Padding", "TensorType"]


def _discover() -> dict[str, type[Operator]]:
    found: dict[str, type[Operator]] = {}
    for module in pkgutil.iter_modules(__path__):
        for _, cls in inspect.getmembers(importlib.import_module(f"{__name__}.{module.name}"), inspect.isclass):
            if issubclass(cls, Operator) and not inspect.isabstract(cls) and "kind" in cls.__dict__:
                found[cls.kind] = cls
    return found


OPERATORS: dict[str, type[Operator]] = _discover()
"""Every operator class by its kind."""
