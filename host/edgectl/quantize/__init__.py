"""Calibration, integer rewrite and accuracy evaluation. The package is also the API's function `edgectl.quantize`."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _Package(ModuleType):
    """Importing any module of the package puts the package where `edgectl.quantize` was the function: so it is one."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        from edgectl.quantize.quantizer import quantize

        return quantize(*arguments, **options)


sys.modules[__name__].__class__ = _Package
