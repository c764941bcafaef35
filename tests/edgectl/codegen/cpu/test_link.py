"""Linked libraries: for the right machine, self-contained, offline, and clear errors where linking fails."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from edge_agent.runtime.cpu import this_machine
from edge_agent.runtime.elf import read_elf
from edge_agent.runtime.kernels import KernelLibrary
from edgectl.codegen.cpu import TARGETS, CpuTarget, compile_segments, link
from edgectl.codegen.cpu.link import ALLOWED_UNDEFINED, link_library
from edgectl.errors import CompileError
from edgectl.operators.activation import Softmax
from edgectl.operators.convolution import Convolution
from edgectl.operators.pooling import AveragePool
from tests.edgectl.codegen.cpu.support import one_operator
from tests.edgectl.codegen.cpu.test_compiler import back, front, residual_network


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_library_is_for_its_machine_and_needs_at_most_libc(target: CpuTarget) -> None:
    wide = np.ones((1, 3, 20, 50), np.float32)
    others = [
        one_operator(Softmax(), [np.ones((1, 7), np.float32)]),
        one_operator(AveragePool((3, 3), (2, 2), (1, 1, 1, 1)), [wide]),
        one_operator(Convolution((1, 1), (1, 1, 1, 1)), [wide], [np.ones((5, 3, 3, 3), np.float32)]),
    ]
    code = compile_segments([front(224), back(), residual_network(), *others], target)
    elf = read_elf(code.library)
    assert (elf.machine_name, elf.bits) == (target.machine, 32 if target.name == "armv7" else 64)
    assert elf.needed == ()
    assert elf.undefined <= ALLOWED_UNDEFINED
    kernels = {step.kernel for fragment in code.fragments for step in fragment.steps}
    assert {f"__tvm_ffi_{kernel}" for kernel in kernels} <= elf.defined


def test_cache_folder_is_used_and_an_unwritable_one_is_survived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGECTL_CACHE", str(tmp_path / "cache"))
    library = link_library([], TARGETS["aarch64"])
    shims = list((tmp_path / "cache" / "cpu").glob("shim-aarch64-*.o"))
    assert len(shims) == 1 and read_elf(library).defined >= {"edge_kernels_last_error"}
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("EDGECTL_CACHE", str(tmp_path / "file"))
    assert link_library([], TARGETS["aarch64"]) == library


@pytest.mark.parametrize("foreign", ["edgectl", "edgectl/cpu"])
def test_a_cache_that_somebody_else_can_exchange_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, foreign: str
) -> None:
    monkeypatch.setenv("EDGECTL_CACHE", str(tmp_path / "edgectl"))
    monkeypatch.setattr(link.tempfile, "gettempdir", lambda: str(tmp_path / "temporary"))
    own = Path.stat

    def stat(path: Path, **options: bool) -> os.stat_result:
        fields = list(own(path, **options))
        fields[4] += path == tmp_path / foreign
        return os.stat_result(fields)

    monkeypatch.setattr(Path, "stat", stat)
    assert link.cache_folder() == tmp_path / "temporary" / f"edgectl-{os.getuid()}" / "cpu"


def test_no_writable_folder_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("EDGECTL_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(link.tempfile, "gettempdir", lambda: str(tmp_path / "file"))
    with pytest.raises(CompileError, match="set EDGECTL_CACHE"):
        link.cache_folder()


def test_garbage_object_is_a_clear_error() -> None:
    with pytest.raises(CompileError, match=r"`ziglang ld\.lld` failed"):
        link_library([b"this is no object file"], TARGETS["x86_64"])


def test_foreign_symbols_are_refused(tmp_path: Path) -> None:
    source, output = tmp_path / "foreign.c", tmp_path / "foreign.o"
    source.write_text("int elsewhere(void); int kernel(void) { return elsewhere(); }")
    link._zig("cc", "-c", "-fPIC", "-target", TARGETS["x86_64"].zig, "-o", os.fspath(output), os.fspath(source))
    with pytest.raises(CompileError, match=r"symbols \['elsewhere'\]"):
        link_library([output.read_bytes()], TARGETS["x86_64"])
    with pytest.raises(CompileError, match=r"ld\.lld"):
        link_library([output.read_bytes()], TARGETS["armv7"])


@pytest.fixture
def no_ziglang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(link.importlib.util, "find_spec", lambda name: None if name == "ziglang" else find(name))
    monkeypatch.setenv("EDGECTL_CACHE", str(tmp_path))


@pytest.mark.parametrize("name", ["x86_64", "armv7", "aarch64"])
def test_a_system_gcc_links_where_ziglang_is_missing(name: str, no_ziglang: None) -> None:
    target = TARGETS[name]
    if shutil.which(f"{target.zig}-gcc") is None:
        pytest.skip(f"{target.zig}-gcc is not installed (Debian: gcc-{target.zig})")
    code = compile_segments([residual_network()], target)
    elf = read_elf(code.library)
    assert (elf.machine_name, elf.needed) == (target.machine, ()) and elf.undefined <= ALLOWED_UNDEFINED
    assert {f"__tvm_ffi_{step.kernel}" for step in code.fragments[0].steps} <= elf.defined
    if name == "armv7":  # else glibc finds no such file: e_flags must have ABI_FLOAT_HARD, not ABI_FLOAT_SOFT
        assert int.from_bytes(code.library[36:40], "little") & 0x600 == 0x400
    if target.machine == this_machine():
        library = KernelLibrary(code.library, threads=2)
        assert library.threads == 2
        library.close()


def test_neither_ziglang_nor_gcc(no_ziglang: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(CompileError, match=r"ziglang or arm-linux-gnueabihf-gcc; install it with `pip install"):
        link_library([], TARGETS["armv7"])


def test_missing_linker_names_the_repair(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(CompileError, match="pip install"):
        link._zig("version")
