"""Compiles graph segments for a CPU: fuse, lower, schedule, build once, link, and plan the memory."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tvm
from tvm import tirx

from edgectl.codegen.cpu.constants import ConstantPool
from edgectl.codegen.cpu.fragment import Fragment, plan_fragment
from edgectl.codegen.cpu.fusion import fuse
from edgectl.codegen.cpu.kernel import bind_group, build_function
from edgectl.codegen.cpu.layouts import choose_blocks
from edgectl.codegen.cpu.link import link_library
from edgectl.codegen.cpu.target import CpuTarget
from edgectl.errors import CompileError
from edgectl.graph import Model


@dataclass(frozen=True)
class CpuCode:
    """`library` is an ELF shared library for the target, `constants` the blob that constant buffers point into."""

    library: bytes
    constants: bytes
    fragments: tuple[Fragment, ...]


def compile_segments(segments: Sequence[Model], target: CpuTarget) -> CpuCode:
    """Compile every segment into one library. Raises CompileError, naming the layer, where that is not possible."""
    pool = ConstantPool()
    names: dict[object, str] = {}
    functions: dict[str, tirx.PrimFunc] = {}
    fragments = []
    for segment in segments:
        types = segment.types()
        groups = fuse(segment, types)
        blocks = choose_blocks(groups, types, segment.outputs)
        kernels = [bind_group(group, types, segment.parameters, target, blocks) for group in groups]
        for kernel in kernels:
            if kernel.key not in names:
                name = f"k{len(names):03d}_{kernel.kind}"
                names[kernel.key] = name
                functions[name] = build_function(kernel, name)
        fragments.append(plan_fragment(segment, kernels, [names[kernel.key] for kernel in kernels], pool))
    return CpuCode(link_library(_objects(functions, target), target), pool.blob(), tuple(fragments))


def _objects(functions: dict[str, tirx.PrimFunc], target: CpuTarget) -> list[bytes]:
    """TVM's relocatable object code for the functions."""
    if not functions:
        return []
    description = {"kind": "llvm", "mtriple": target.triple, "mcpu": target.processor, "mattr": list(target.attributes)}
    with tempfile.TemporaryDirectory(prefix="edgectl-cpu-") as folder:
        path = Path(folder, "kernels.o")
        try:
            module = tirx.build(tvm.IRModule(functions), target=tvm.target.Target(description))
            module.write_to_file(str(path), "o")
        except (RuntimeError, ValueError, TypeError) as error:
            raise CompileError(f"TVM cannot compile the kernels for {target.name}: {error}") from error
        return [path.read_bytes()]
