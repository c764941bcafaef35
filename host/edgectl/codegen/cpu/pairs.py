"""x86's products of int16 pairs, summed into int32 lanes (PMADDWD): exact for operands that were int8.

A pair is carried as one int32, so that schedules handle it like any scalar. TVM vectorises the operator declared here
as it does its own, and then lowers it to the instruction.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import tirx
from tvm.ir import _ffi_api, register_op_attr

from edgectl.codegen.cpu.target import CpuTarget

_OPERATOR = "tirx.edgectl_dot_pairs"
_INSTRUCTIONS = {4: "llvm.x86.sse2.pmadd.wd", 8: "llvm.x86.avx2.pmadd.wd", 16: "llvm.x86.avx512.pmaddw.d.512"}
"""By lanes of int32."""
_PURE = 1  # tvm::tirx::CallEffectKind::kPure


def has_pairs(target: CpuTarget) -> bool:
    """Whether the processor multiplies and sums pairs; NEON multiplies int16 into int32 without."""
    return target.machine == "x86_64"


def pair(low: Any, high: Any) -> Any:
    """Two integer expressions as a pair of int16."""
    return (low.astype("int32") & tirx.const(0xFFFF, "int32")) | (high.astype("int32") << tirx.const(16, "int32"))


def pairs_of(array: np.ndarray) -> np.ndarray:
    """(..., 2) integers as int32 pairs (...). Little-endian, as all targets are."""
    return np.ascontiguousarray(array, "<i2").view("<i4")[..., 0]


def dot_pairs(a: Any, b: Any) -> Any:
    """int32: the sum of the products of two pairs."""
    return tirx.call_intrin("int32", _OPERATOR, a, b)


def _lower(call: Any) -> Any:
    dtype = str(call.ty.dtype)
    lanes = int(dtype.partition("x")[2] or 1)
    if lanes not in _INSTRUCTIONS:
        a, b = call.args
        sixteen = tirx.const(16, dtype)
        return ((a << sixteen) >> sixteen) * ((b << sixteen) >> sixteen) + (a >> sixteen) * (b >> sixteen)
    operands = (tirx.reinterpret(f"int16x{2 * lanes}", operand) for operand in call.args)
    return tirx.call_llvm_pure_intrin(dtype, _INSTRUCTIONS[lanes], *operands)


def _register() -> None:
    """TVM's registry is the process's; what is there already stays."""
    if _OPERATOR in _ffi_api.ListOpNames():
        return
    _ffi_api.RegisterOp(_OPERATOR, "The sum of the products of two pairs of int16.")
    register_op_attr(_OPERATOR, "TCallEffectKind", _PURE)
    register_op_attr(_OPERATOR, "TVectorizable", True)
    tirx.register_intrin_lowering(_OPERATOR, target="llvm", f=_lower, level=99)


_register()
