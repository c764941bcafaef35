"""CPU code generation: graph segments become kernels in one shared library. The only place that knows TVM."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from edgectl.codegen.cpu.target import TARGETS, CpuTarget, cpu_target

if TYPE_CHECKING:
    from edgectl.codegen.cpu.compiler import CpuCode, compile_segments
    from edgectl.codegen.cpu.fragment import CONSTANTS_MEMBER, Fragment

__all__ = ["CONSTANTS_MEMBER", "TARGETS", "CpuCode", "CpuTarget", "Fragment", "compile_segments", "cpu_target"]

_COMPILING = {
    "CONSTANTS_MEMBER": "fragment",
    "CpuCode": "compiler",
    "Fragment": "fragment",
    "compile_segments": "compiler",
}


def __getattr__(name: str) -> Any:
    """What compiles is imported when it is asked for: it brings TVM, whose seconds a target need not cost."""
    if name not in _COMPILING:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(f"{__name__}.{_COMPILING[name]}"), name)
