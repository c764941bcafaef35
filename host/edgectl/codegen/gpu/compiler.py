"""Compiles a model for a GPU: the CPU's fusion and expressions, a GPU's schedule, CUDA source, and nvcc."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import tvm
import tvm_ffi
from tvm import tirx

from edgectl.codegen.cpu.constants import ConstantPool
from edgectl.codegen.cpu.fragment import Fragment, plan_fragment
from edgectl.codegen.cpu.fusion import fuse
from edgectl.codegen.cpu.kernel import bind_group, unscheduled
from edgectl.codegen.cpu.target import CpuTarget
from edgectl.codegen.gpu.schedule import THREADS, schedule_for_gpu
from edgectl.errors import CompileError
from edgectl.graph import Model

_WARP = CpuTarget("cuda", "cuda", "", "", (), "", 0, vector_bytes=128, vector_registers=16)
"""A warp as the expressions see it, which pack weights for the lanes of a vector: 32 of 4 bytes."""
_COMPILE = "tvm_callback_cuda_compile"
_SUFFIX = "_kernel"
"""What TVM appends to a function's name for the part that runs on the GPU."""
_TIMEOUT_SECONDS = 1800


@dataclass(frozen=True)
class Launch:
    """How a kernel is launched: `function` of the code, on so many blocks of so many threads. Its parameters are those
    of the step's arguments (inputs first, the result last) that `parameters` index."""

    function: str
    blocks: int
    threads: int
    parameters: tuple[int, ...]


@dataclass(frozen=True)
class GpuSource:
    """CUDA source, the launches by the plan's names of kernels, the plan's fragment and its constants."""

    text: str
    launches: Mapping[str, Launch]
    fragment: Fragment
    constants: bytes


def generate(model: Model, capability: tuple[int, int]) -> GpuSource:
    """CUDA source for `model`; needs neither a GPU nor CUDA. Raises CompileError, naming the layer."""
    types, pool = model.types(), ConstantPool()
    kernels = [bind_group(group, types, model.parameters, _WARP, {}) for group in fuse(model, types)]
    names: dict[object, str] = {}
    functions: dict[str, tirx.PrimFunc] = {}
    grids: dict[str, int] = {}
    for kernel in kernels:
        if kernel.key not in names:
            name = names[kernel.key] = f"k{len(names):03d}_{kernel.kind}"
            functions[name] = schedule_for_gpu(unscheduled(kernel, name))
            grids[name] = -(-prod(kernel.type.shape) // THREADS)
    fragment = plan_fragment(model, kernels, [names[kernel.key] for kernel in kernels], pool)
    text, launches = _source(functions, grids, capability) if functions else ("", {})
    return GpuSource(text, launches, fragment, pool.blob())


def device_code(source: str, capability: tuple[int, int]) -> bytes:
    """The GPU's machine code, and PTX for later GPUs, by nvcc. Raises CompileError where it is missing or fails."""
    compiler = shutil.which("nvcc") or shutil.which("/usr/local/cuda/bin/nvcc")
    if compiler is None:
        raise CompileError("no nvcc on PATH: --target cuda compiles with NVIDIA's CUDA toolkit; install it")
    with tempfile.TemporaryDirectory(prefix="edgectl-gpu-") as folder:
        text, code = Path(folder, "kernels.cu"), Path(folder, "kernels.fatbin")
        text.write_text(source, encoding="utf-8")
        # Without --use_fast_math, which TVM would give: results equal the CPU's within rounding.
        command = [compiler, "-fatbin", "-O3", f"-arch=sm_{capability[0]}{capability[1]}", "-o", str(code), str(text)]
        try:
            result = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise CompileError(f"nvcc did not run: {error}") from error
        if result.returncode != 0:
            detail = (result.stderr or result.stdout).strip()[-2000:]
            raise CompileError(f"nvcc failed with exit code {result.returncode}: {detail}")
        return code.read_bytes()


def _source(
    functions: Mapping[str, tirx.PrimFunc], grids: Mapping[str, int], capability: tuple[int, int]
) -> tuple[str, dict[str, Launch]]:
    description = {"kind": "cuda", "arch": f"sm_{capability[0]}{capability[1]}", "max_num_threads": 1024}
    target = tvm.target.Target(description, host="llvm")
    pipeline, _, finalize = tirx.get_default_tir_pipeline(target)
    try:
        lowered = pipeline(tirx.transform.BindTarget(target)(tvm.IRModule(dict(functions))))
        device = finalize()(tirx.transform.Filter(_is_device_function)(lowered))
        with _no_compiler():
            text = tvm.get_global_func("target.build.cuda")(device, target).inspect_source()
    except (RuntimeError, ValueError, TypeError) as error:
        raise CompileError(f"TVM cannot generate CUDA source: {error}") from error
    launches = {}
    for variable, kernel in device.functions.items():
        name = variable.name_hint.removesuffix(_SUFFIX)
        last = len(functions[name].params) - 1
        order = {f"operand{index}_ptr": index for index in range(last)} | {"output_ptr": last}
        parameters = tuple(order[parameter.name] for parameter in kernel.params)
        launches[name] = Launch(variable.name_hint, grids[name], THREADS, parameters)
    return text, launches


def _is_device_function(function: tirx.PrimFunc) -> bool:
    return bool(function.attrs["target"].kind.name == "cuda")


@contextmanager
def _no_compiler() -> Iterator[None]:
    """TVM, where it finds a GPU, would compile what it generates; here `device_code` does."""
    before: Callable[..., Any] = tvm.get_global_func(_COMPILE)
    tvm_ffi.register_global_func(_COMPILE, lambda code: code.encode(), override=True)
    try:
        yield
    finally:
        tvm_ffi.register_global_func(_COMPILE, before, override=True)
