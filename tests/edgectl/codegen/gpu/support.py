"""A machine with a GPU, played by its CPU: a driver and an nvcc that stand in for NVIDIA's.

The stand-in nvcc compiles the CUDA source itself, as C++, for the CPU; the stand-in driver (driver.c) runs every thread
of the grid. Code generation, launch parameters, plan and memory are those of a real GPU.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from edgectl.codegen.gpu import driver

KERNEL = re.compile(r'extern "C" __global__ void __launch_bounds__\((\d+)\) (\w+)\([^;{]*\) \{')
_CUDA = """
#include <cmath>
#include <cstddef>
#include <utility>
struct Dimension { unsigned x; };
static Dimension blockIdx, threadIdx;
#define __global__
#define __launch_bounds__(threads)
template <class T> static T max(T a, T b) { return a > b ? a : b; }
template <class T> static T min(T a, T b) { return a < b ? a : b; }
"""
_GRID = """
template <class... A, std::size_t... I>
static void call(void (*kernel)(A...), void **parameters, std::index_sequence<I...>) {
    kernel(*static_cast<std::remove_reference_t<A> *>(parameters[I])...);
}
template <class... A>
static void grid(void (*kernel)(A...), unsigned limit, unsigned blocks, unsigned threads, void **parameters) {
    if (threads != limit) __builtin_trap();
    for (blockIdx.x = blocks; blockIdx.x-- > 0;)
        for (threadIdx.x = threads; threadIdx.x-- > 0;) call(kernel, parameters, std::index_sequence_for<A...>{});
}
"""


def compile_for_cpu(source: Path, output: Path) -> None:
    """What the stand-in nvcc does."""
    text = source.read_text()
    kernels = KERNEL.findall(text)
    wrappers = "".join(
        f'extern "C" void grid_{name}(unsigned blocks, unsigned threads, void **parameters) '
        f"{{ grid({name}, {limit}, blocks, threads, parameters); }}\n"
        for limit, name in kernels
    )
    unit, library = output.with_suffix(".cpp"), output.with_suffix(".so")
    unit.write_text(_CUDA + text + _GRID + wrappers)
    output.with_name("cuda.h").touch()
    command = [
        "g++",
        "-std=c++17",
        "-O1",
        "-fno-strict-aliasing",
        "-w",
        "-shared",
        "-fPIC",
        f"-I{output.parent}",
        "-o",
        str(library),
        str(unit),
    ]
    subprocess.run(command, check=True)
    data = library.read_bytes()
    output.write_bytes(b"STANDIN\0" + len(data).to_bytes(8, "little") + data)


@pytest.fixture(scope="session")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the stand-in's driver and nvcc."""
    if shutil.which("g++") is None or shutil.which("gcc") is None:
        pytest.skip("no g++ to compile the CUDA source with for the CPU; apt-get install g++")
    folder = tmp_path_factory.mktemp("gpu")
    source = Path(__file__).with_name("driver.c")
    subprocess.run(["gcc", "-O1", "-shared", "-fPIC", "-o", str(folder / "libcuda.so.1"), str(source)], check=True)
    nvcc = folder / "nvcc"
    nvcc.write_text(
        f"#!{sys.executable}\nimport sys\nfrom pathlib import Path\nsys.path[:0] = {sys.path!r}\n"
        f"from tests.edgectl.codegen.gpu.support import compile_for_cpu\n"
        "assert '-arch=sm_80' in sys.argv\n"
        "compile_for_cpu(Path(sys.argv[-1]), Path(sys.argv[sys.argv.index('-o') + 1]))\n"
    )
    nvcc.chmod(nvcc.stat().st_mode | stat.S_IXUSR)
    return folder


@pytest.fixture
def gpu(stand_in: Path, monkeypatch: pytest.MonkeyPatch) -> ctypes.CDLL:
    """This process has the stand-in's GPU. Gives its driver."""
    monkeypatch.setattr(driver, "LIBRARY", str(stand_in / "libcuda.so.1"))
    monkeypatch.setenv("PATH", f"{stand_in}{os.pathsep}{os.environ['PATH']}")
    return ctypes.CDLL(str(stand_in / "libcuda.so.1"))
