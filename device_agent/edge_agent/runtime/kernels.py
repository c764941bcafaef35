"""Kernels of a bundle's library, called through ctypes.

A kernel is a C function `int __tvm_ffi_NAME(void *, const TVMFFIAny *arguments, int32_t count, TVMFFIAny *result)`; its
arguments are DLTensor pointers. Structures: TVM FFI's c_api.h and DLPack's dlpack.h.
"""

from __future__ import annotations

import _ctypes
import contextlib
import ctypes
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from edge_agent.errors import AgentError, IncompatibleError
from edge_agent.runtime.cpu import kernel_threads, this_machine
from edge_agent.runtime.elf import machine_of, require_whole

_TENSOR_TYPE_INDEX = 7  # kTVMFFIDLTensorPtr
_CPU_DEVICE = 1  # kDLCPU
_DTYPE_CODES = {"i": 0, "u": 1, "f": 2, "b": 6}  # kDLInt, kDLUInt, kDLFloat, kDLBool


class _Tensor(ctypes.Structure):
    """DLTensor. Shape and strides count elements."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


class _Any(ctypes.Structure):
    """TVMFFIAny: a type index and eight bytes of value."""

    _fields_ = (("type_index", ctypes.c_int32), ("padding", ctypes.c_uint32), ("value", ctypes.c_uint64))


class KernelLibrary:
    """A loaded kernel library. `close` unloads it; calls bound to it must not be used afterwards."""

    def __init__(
        self, data: bytes, directory: Path | None = None, machine: str | None = None, threads: int | None = None
    ) -> None:
        """Load the ELF library `data` from a private file in `directory` (default: the system's temporary one).

        Kernels that are worth it compute on `threads` threads (default: `kernel_threads`); the attribute `threads` is
        how many it came to, 1 where the library was linked without them.

        Raises IncompatibleError where it is truncated, not for `machine` (default: this one) or no kernel library,
        before any of its code runs; AgentError where it cannot be loaded.
        """
        built_for, here = machine_of(data), machine or this_machine()
        if built_for != here:
            raise IncompatibleError(
                f"the kernel library is for {built_for}, this board is {here}; "
                "compile again for this board with `edgectl compile MODEL --board NAME`"
            )
        require_whole(data)
        self._library: ctypes.CDLL | None = _load(data, directory)
        try:
            self._last_error = self._library.edge_kernels_last_error
        except AttributeError:
            self.close()
            raise IncompatibleError(
                "the kernel library was not linked by edgectl: it does not report errors; "
                "compile again with `edgectl compile MODEL --board NAME`"
            ) from None
        self._last_error.restype = ctypes.c_char_p
        self._last_error.argtypes = ()
        self.threads = self._use_threads(kernel_threads() if threads is None else threads)

    def bind(self, kernel: str, tensors: Sequence[np.ndarray]) -> Callable[[], None]:
        """A call of `kernel` on these C-contiguous arrays: inputs first, the output last.

        The arrays are bound by address: the call keeps them alive. It raises AgentError where the kernel fails.
        Raises IncompatibleError where the library has no such kernel.
        """
        assert self._library is not None, "the library is closed"
        try:
            function = self._library[f"__tvm_ffi_{kernel}"]
        except AttributeError:
            raise IncompatibleError(
                f"the kernel library has no kernel '{kernel}', which the plan calls; "
                "compile again with `edgectl compile MODEL --board NAME`"
            ) from None
        function.restype = ctypes.c_int
        function.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int32, ctypes.c_void_p)
        described = [_describe(tensor) for tensor in tensors]
        arguments = (_Any * len(tensors))(*(_Any(_TENSOR_TYPE_INDEX, 0, ctypes.addressof(d)) for d in described))
        result = _Any()
        pointer, count, result_pointer = ctypes.byref(arguments), len(tensors), ctypes.byref(result)
        alive = (described, list(tensors), arguments)

        def call(_alive: object = alive) -> None:
            if function(None, pointer, count, result_pointer) != 0:
                message = (self._last_error() or b"").decode(errors="replace") or "it gave no reason"
                raise AgentError(f"kernel '{kernel}' failed: {message}")

        return call

    def _use_threads(self, count: int) -> int:
        try:
            use = self._library.edge_kernels_use_threads  # type: ignore[union-attr]
        except AttributeError:
            return 1
        use.restype, use.argtypes = ctypes.c_int, (ctypes.c_int,)
        return int(use(count))

    def close(self) -> None:
        """Unload the library. May be called again."""
        library, self._library = self._library, None
        if library is not None:
            _ctypes.dlclose(library._handle)


def _load(data: bytes, directory: Path | None) -> ctypes.CDLL:
    """The file is unlinked once it is mapped, so nothing is left behind and no other file takes its place."""
    try:
        descriptor, path = tempfile.mkstemp(prefix="edge-kernels-", suffix=".so", dir=directory)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            os.chmod(path, 0o700)
            return ctypes.CDLL(path)
        finally:
            with contextlib.suppress(OSError):
                os.unlink(path)
    except OSError as error:
        where = directory or tempfile.gettempdir()
        raise AgentError(
            f"cannot load the kernel library from {where}: {error}; the folder needs room and must allow "
            "execution (no `noexec` mount)"
        ) from error


def _describe(array: np.ndarray) -> _Tensor:
    """The DLTensor of an array; shape and strides live as long as it does."""
    extents = (ctypes.c_int64 * max(1, array.ndim))(*array.shape)
    strides = (ctypes.c_int64 * max(1, array.ndim))(*(stride // array.itemsize for stride in array.strides))
    return _Tensor(
        array.ctypes.data,
        _CPU_DEVICE,
        0,
        array.ndim,
        _DTYPE_CODES[array.dtype.kind],
        array.itemsize * 8,
        1,
        ctypes.cast(extents, ctypes.POINTER(ctypes.c_int64)),
        ctypes.cast(strides, ctypes.POINTER(ctypes.c_int64)),
        0,
    )
