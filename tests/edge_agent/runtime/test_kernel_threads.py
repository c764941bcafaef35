"""Kernels on several threads: the same results, in forked children too, and no thread is left behind."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge_agent.runtime.cpu import THREADS_VARIABLE, kernel_threads
from edge_agent.runtime.kernels import KernelLibrary
from edgectl.codegen.cpu import compile_segments, cpu_target
from edgectl.graph import Model, Node
from edgectl.interpreter import interpret
from edgectl.operators.base import TensorType
from edgectl.operators.integer import IntegerConvolution

SHAPE = (1, 16, 40, 40)
_RANDOM = np.random.default_rng(0)
X = _RANDOM.integers(-127, 128, SHAPE).astype(np.int8)


def convolution() -> Model:
    """Large enough to be divided among threads."""
    parameters = {
        "w": _RANDOM.integers(-127, 128, (32, 16, 3, 3)).astype(np.int8),
        "b": _RANDOM.integers(-999, 999, 32).astype(np.int32),
    }
    node = Node("y", IntegerConvolution((1, 1), (1, 1, 1, 1), shift=9), ("x", "w", "b"))
    return Model("m", {"x": TensorType(SHAPE, "int8")}, (node,), parameters, ("y",))


@pytest.fixture(scope="module")
def compiled() -> tuple[bytes, str, list[np.ndarray], np.ndarray]:
    """A library, its kernel, the constants it reads after x, and what it must compute."""
    model = convolution()
    code = compile_segments([model], cpu_target("host"))
    (fragment,) = code.fragments
    (step,) = fragment.steps
    constants = []
    for index in step.arguments[1:-1]:
        buffer = fragment.buffers[index]
        raw = np.frombuffer(code.constants, np.uint8)[buffer.offset : buffer.offset + buffer.nbytes]
        aligned = _aligned(buffer.shape, buffer.dtype)
        aligned.view(np.uint8).reshape(-1)[:] = raw
        constants.append(aligned)
    return code.library, step.kernel, constants, interpret(model, {"x": X})["y"]


def _aligned(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = np.zeros(nbytes + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + nbytes].view(dtype).reshape(shape)


def bound(library: KernelLibrary, kernel: str, constants: list[np.ndarray]) -> tuple[Callable[[], None], np.ndarray]:
    x, y = _aligned(SHAPE, "int8"), _aligned((1, 32, 40, 40), "int8")
    x[...] = X
    return library.bind(kernel, [x, *constants, y]), y


def threads_of_process() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_any_number_of_threads_computes_the_same_and_none_is_left(compiled: tuple, threads: int) -> None:
    data, kernel, constants, expected = compiled
    before = threads_of_process()
    library = KernelLibrary(data, threads=threads)
    assert library.threads == threads
    call, y = bound(library, kernel, constants)
    for _ in range(50):
        y[...] = 99
        call()
        np.testing.assert_array_equal(y, expected)
    assert threads_of_process() == before + threads - 1
    library.close()
    assert threads_of_process() == before


def _child(call: Callable[[], None], y: np.ndarray, expected: np.ndarray) -> None:
    y[...] = 99
    for _ in range(5):
        call()
    os._exit(0 if np.array_equal(y, expected) else 1)


def test_a_forked_child_computes_too(compiled: tuple) -> None:
    data, kernel, constants, expected = compiled
    library = KernelLibrary(data, threads=3)
    call, y = bound(library, kernel, constants)
    call()
    child = multiprocessing.get_context("fork").Process(target=_child, args=(call, y, expected))
    child.start()
    child.join(60)
    assert child.exitcode == 0
    call()
    np.testing.assert_array_equal(y, expected)
    library.close()


def test_two_callers_at_once(compiled: tuple) -> None:
    data, kernel, constants, expected = compiled
    library = KernelLibrary(data, threads=2)
    calls = [bound(library, kernel, constants) for _ in range(3)]

    def repeat(call: Callable[[], None]) -> None:
        for _ in range(50):
            call()

    callers = [threading.Thread(target=repeat, args=(call,)) for call, _ in calls]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    for _, y in calls:
        np.testing.assert_array_equal(y, expected)
    library.close()


def test_the_environment_says_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(THREADS_VARIABLE, "5")
    assert kernel_threads() == 5
    for useless in ("", "0", "many"):
        monkeypatch.setenv(THREADS_VARIABLE, useless)
        assert kernel_threads() == len(os.sched_getaffinity(0))
