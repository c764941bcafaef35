"""CPU code generation: graph segments become kernels in one shared library. The only place that knows TVM."""

from __future__ import annotations

from edgectl.codegen.cpu.compiler import CpuCode, compile_segments
from edgectl.codegen.cpu.fragment import CONSTANTS_MEMBER, Fragment
from edgectl.codegen.cpu.target import TARGETS, CpuTarget, cpu_target

__all__ = ["CONSTANTS_MEMBER", "TARGETS", "CpuCode", "CpuTarget", "Fragment", "compile_segments", "cpu_target"]
