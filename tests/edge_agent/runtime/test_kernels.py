"""Kernel libraries: refused before their code runs where they cannot be right, gone when closed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_agent.errors import AgentError, IncompatibleError
from edge_agent.runtime.cpu import this_machine
from edge_agent.runtime.kernels import KernelLibrary
from edgectl.codegen.cpu import TARGETS, compile_segments, cpu_target, link
from edgectl.codegen.cpu.link import link_library
from edgectl.graph import Model, Node
from edgectl.operators.activation import Relu
from edgectl.operators.base import TensorType
from edgectl.operators.convolution import Convolution


def relu_library() -> bytes:
    model = Model("m", {"x": TensorType((2, 3))}, (Node("y", Relu(), ("x",)),), {}, ("y",))
    return compile_segments([model], cpu_target("host")).library


def test_library_for_another_machine_is_refused() -> None:
    other = next(t for t in TARGETS.values() if t.machine != this_machine())
    message = f"is for {other.machine}, this board is {this_machine()}.*edgectl compile"
    with pytest.raises(IncompatibleError, match=message):
        KernelLibrary(link_library([], other))


@pytest.mark.parametrize("data", [b"", b"\x7fELF", b"MZ" + bytes(100), b"\x7fELF\x02\x02" + bytes(100)])
def test_other_files_are_refused(data: bytes) -> None:
    with pytest.raises(IncompatibleError, match="not a little-endian ELF"):
        KernelLibrary(data)


@pytest.mark.parametrize("part", [0.01, 0.1, 0.3, 0.5])
def test_truncated_library_is_refused_before_it_is_loaded(part: float, tmp_path: Path) -> None:
    """The loader would map what is not there, and the process would be killed where it reads that."""
    library = relu_library()
    with pytest.raises(IncompatibleError, match="the ELF library is damaged"):
        KernelLibrary(library[: int(len(library) * part)], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_library_that_the_loader_refuses_leaves_no_file(tmp_path: Path) -> None:
    relocatable = bytearray(relu_library())
    relocatable[16:18] = (1).to_bytes(2, "little")  # e_type: an object file
    with pytest.raises(AgentError, match=f"cannot load the kernel library from {tmp_path}"):
        KernelLibrary(bytes(relocatable), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_library_without_the_shim_is_refused(tmp_path: Path) -> None:
    source, output = tmp_path / "plain.c", tmp_path / "plain.so"
    source.write_text("int nothing(void) { return 0; }")
    host = cpu_target("host")
    link._zig("cc", "-shared", "-nostdlib", "-fPIC", "-target", host.zig, "-o", str(output), str(source))
    with pytest.raises(IncompatibleError, match="not linked by edgectl"):
        KernelLibrary(output.read_bytes())


def test_unwritable_directory_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(AgentError, match="noexec"):
        KernelLibrary(relu_library(), tmp_path / "missing")


def test_kernels_are_called_on_the_arrays_given(tmp_path: Path) -> None:
    library = KernelLibrary(relu_library(), tmp_path)
    assert list(tmp_path.iterdir()) == []  # unlinked once loaded
    memory = np.zeros(64, np.float32)
    start = -memory.ctypes.data % 64 // 4
    x, y = memory[start : start + 6].reshape(2, 3), memory[start + 16 : start + 22].reshape(2, 3)
    call = library.bind("k000_relu", [x, y])
    for sign in (1, -1):
        x[...] = sign * np.arange(-3, 3).reshape(2, 3)
        call()
        np.testing.assert_array_equal(y, np.maximum(x, 0))
    with pytest.raises(IncompatibleError, match="no kernel 'k999'"):
        library.bind("k999", [x, y])
    wrong = library.bind("k000_relu", [x, y[:1]])
    with pytest.raises(AgentError, match=r"kernel 'k000_relu' failed: \w+Error"):
        wrong()
    library.close()
    library.close()


def test_libraries_are_independent_of_each_other() -> None:
    """Two loaded libraries with a kernel of the same name; workspaces come and go."""
    x = np.random.default_rng(0).normal(0, 1, (1, 4, 9, 64)).astype(np.float32)
    results = []
    libraries = []
    for factor in (1.0, 2.0):
        weight = {"w": np.full((8, 4, 1, 1), factor, np.float32)}
        node = Node("y", Convolution(padding=(0, 0, 0, 0), strides=(1, 2)), ("x", "w"))
        code = compile_segments([Model("m", {"x": TensorType(x.shape)}, (node,), weight, ("y",))], cpu_target("host"))
        libraries.append(KernelLibrary(code.library))
        (step,) = code.fragments[0].steps
        memory = np.zeros(1 << 20, np.uint8)
        base = -memory.ctypes.data % 64
        sizes = [x.nbytes, len(code.constants), 8 * 9 * 32 * 4]
        parts = []
        for nbytes in sizes:
            parts.append(memory[base : base + nbytes])
            base += -(-nbytes // 64) * 64
        parts[0][:] = x.view(np.uint8).reshape(-1)
        parts[1][:] = np.frombuffer(code.constants, np.uint8)
        shape = next(b.shape for b in code.fragments[0].buffers if b.constant)
        packed = parts[1].view(np.float32)[: int(np.prod(shape))].reshape(shape)
        out = parts[2].view(np.float32).reshape(1, 8, 9, 32)
        for _ in range(50):
            libraries[-1].bind(step.kernel, [parts[0].view(np.float32).reshape(x.shape), packed, out])()
        results.append(out.copy())
    np.testing.assert_allclose(results[1], 2 * results[0], rtol=1e-6)
    np.testing.assert_allclose(results[0][0, 0], x[0].sum(axis=0)[:, ::2], rtol=1e-5, atol=1e-6)
    for library in libraries:
        library.close()
