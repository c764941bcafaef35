"""NVIDIA's driver through its C interface: memory, code and launches on the machine's first GPU."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from edgectl.errors import IncompatibleError

LIBRARY = "libcuda.so.1"
_CAPABILITY = (75, 76)
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR."""
_NAME_BYTES = 256


@dataclass
class Gpu:
    """The first GPU. `close` frees what was allocated and loaded. Addresses are the GPU's."""

    library: ctypes.CDLL
    context: ctypes.c_void_p
    device: int
    name: str
    capability: tuple[int, int]
    _memory: list[int] = field(default_factory=list)
    _modules: list[ctypes.c_void_p] = field(default_factory=list)

    @staticmethod
    def first() -> Gpu:
        """Raises IncompatibleError where the machine has no NVIDIA GPU, or its driver is missing or fails."""
        try:
            library = ctypes.CDLL(LIBRARY)
        except OSError as error:
            raise _absent(f"NVIDIA's driver is not installed ({error})") from error
        device, count = ctypes.c_int(), ctypes.c_int()
        name, context = ctypes.create_string_buffer(_NAME_BYTES), ctypes.c_void_p()
        numbers = [ctypes.c_int(), ctypes.c_int()]
        try:
            _check(library, "cuInit", 0)
            _check(library, "cuDeviceGetCount", ctypes.byref(count))
            _check(library, "cuDeviceGet", ctypes.byref(device), 0)
            _check(library, "cuDeviceGetName", name, _NAME_BYTES, device)
            for number, attribute in zip(numbers, _CAPABILITY, strict=True):
                _check(library, "cuDeviceGetAttribute", ctypes.byref(number), attribute, device)
            _check(library, "cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        except IncompatibleError as error:
            raise _absent(str(error)) from error
        gpu = Gpu(library, context, device.value, name.value.decode(), (numbers[0].value, numbers[1].value))
        gpu.enter()
        return gpu

    def enter(self) -> None:
        """Make the calling thread one that may use the GPU."""
        _check(self.library, "cuCtxSetCurrent", self.context)

    def allocate(self, nbytes: int) -> int:
        """The address of so many bytes of zeros. Raises IncompatibleError where there is not enough memory."""
        address = ctypes.c_uint64()
        _check(self.library, "cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(max(nbytes, 1)))
        self._memory.append(address.value)
        _check(self.library, "cuMemsetD8_v2", address, ctypes.c_ubyte(0), ctypes.c_size_t(max(nbytes, 1)))
        return address.value

    def write(self, address: int, data: np.ndarray) -> None:
        data = np.ascontiguousarray(data)
        size = ctypes.c_size_t(data.nbytes)
        _check(self.library, "cuMemcpyHtoD_v2", ctypes.c_uint64(address), ctypes.c_void_p(data.ctypes.data), size)

    def read(self, address: int, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        """Waits for all launches before."""
        data = np.empty(shape, dtype)
        size = ctypes.c_size_t(data.nbytes)
        _check(self.library, "cuMemcpyDtoH_v2", ctypes.c_void_p(data.ctypes.data), ctypes.c_uint64(address), size)
        return data

    def load(self, code: bytes) -> ctypes.c_void_p:
        """A module of functions from nvcc's code. Raises IncompatibleError where it is not for this GPU."""
        module = ctypes.c_void_p()
        _check(self.library, "cuModuleLoadData", ctypes.byref(module), code)
        self._modules.append(module)
        return module

    def function(self, module: ctypes.c_void_p, name: str) -> ctypes.c_void_p:
        function = ctypes.c_void_p()
        _check(self.library, "cuModuleGetFunction", ctypes.byref(function), module, name.encode())
        return function

    def launch(self, function: ctypes.c_void_p, blocks: int, threads: int, addresses: Sequence[int]) -> None:
        """Launch on a grid of one axis with addresses as parameters; launches run one after the other."""
        values = (ctypes.c_uint64 * len(addresses))(*addresses)
        places = [ctypes.byref(values, index * ctypes.sizeof(ctypes.c_uint64)) for index in range(len(addresses))]
        pointers = (ctypes.c_void_p * len(addresses))(*(ctypes.cast(place, ctypes.c_void_p) for place in places))
        extents = [ctypes.c_uint(extent) for extent in (blocks, 1, 1, threads, 1, 1, 0)]
        _check(self.library, "cuLaunchKernel", function, *extents, None, pointers, None)

    def close(self) -> None:
        """May be called again."""
        if self.device >= 0:
            self.enter()
        while self._modules:
            self.library.cuModuleUnload(self._modules.pop())
        while self._memory:
            self.library.cuMemFree_v2(ctypes.c_uint64(self._memory.pop()))
        if self.device >= 0:
            self.library.cuDevicePrimaryCtxRelease_v2(self.device)
            self.device = -1


def _check(library: ctypes.CDLL, call: str, *arguments: object) -> None:
    """Raises IncompatibleError with the driver's words where a call fails."""
    status = getattr(library, call)(*arguments)
    if status:
        words = ctypes.c_char_p()
        library.cuGetErrorString(status, ctypes.byref(words))
        raise IncompatibleError(f"{call}: {(words.value or b'unknown error').decode()} (CUDA error {status})")


def _absent(why: str) -> IncompatibleError:
    return IncompatibleError(
        f"--target cuda: this machine has no NVIDIA GPU that can be used: {why}; compile for its CPU (--target llvm), "
        "or for a board (--board NAME)"
    )
