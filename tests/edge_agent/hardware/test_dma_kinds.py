"""DMA memory of every kind: found, bounded, maintained where the port is not coherent, and given back."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from edge_agent.errors import BusyError, HardwareError
from edge_agent.hardware.dma import DmaMemory, RegionMemory
from edge_agent.hardware.dma_kinds import open_dma_memory
from edge_agent.hardware.system import System
from tests.edge_agent.hardware.systems import add_device, add_udmabuf

LIMIT = 1 << 30

LIBCMA = """
#include <stdint.h>
#include <stdlib.h>
static char pool[1 << 20] __attribute__((aligned(4096)));
static uint32_t used, calls[4];
static unsigned long base = 0x10000000;
void *cma_alloc(uint32_t n, uint32_t cacheable) {
    n = (n + 4095) & ~4095u;
    if (!cacheable || used + n > sizeof pool) return 0;
    used += n; calls[0]++;
    return pool + used - n;
}
unsigned long cma_get_phy_addr(void *p) { return base + ((char *)p - pool); }
void cma_free(void *p) { calls[1]++; }
void cma_flush_cache(void *p, unsigned phys, int n) { calls[2] += n; if (phys != cma_get_phy_addr(p)) abort(); }
void cma_invalidate_cache(void *p, unsigned phys, int n) { calls[3] += n; if (phys != cma_get_phy_addr(p)) abort(); }
void _xlnk_reset(void) { used = 0; }
uint32_t fake_calls(int i) { return calls[i]; }
uint32_t fake_used(void) { return used; }
void fake_base(unsigned long b) { base = b; }
"""


def opened(system: System, coherent: bool = True) -> DmaMemory:
    return open_dma_memory(system, LIMIT, coherent, system.root)


def test_a_system_without_any_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(HardwareError, match=r"modprobe u-dma-buf udmabuf0=.*cma=128M"):
        opened(System(tmp_path))


@pytest.mark.parametrize("kind", ["u-dma-buf", "udmabuf"])
def test_u_dma_buf(tmp_path: Path, kind: str) -> None:
    system = System(tmp_path)
    add_udmabuf(system, "udmabuf0", 0x10000000, 4096, kind)
    device = add_udmabuf(system, "udmabuf1", 0x12000000, 8192, kind)
    memory = opened(system)
    assert memory.kind == str(device)
    first, second = memory.allocate(300), memory.allocate(1)
    assert (first.physical, second.physical) == (0x12000100, 0x12000300)
    first.array[:] = 7
    assert device.read_bytes()[0x100:0x22C] == b"\7" * 300
    found = memory.at(first.physical + 299, 1)
    assert found is not None and found.array[0] == 7
    assert memory.at(0x12000000, 8) is None and memory.at(0x12002000 - 4, 8) is None
    with pytest.raises(HardwareError, match=r"needs 8000 bytes of contiguous DMA memory, .* has 7168 of 7936 free"):
        memory.allocate(8000)
    memory.free(first)
    memory.free(second)
    assert memory.allocate(7936).physical == 0x12000100
    memory.close()


def test_what_is_written_is_there_for_the_next_process(tmp_path: Path) -> None:
    system = System(tmp_path)
    add_udmabuf(system, "udmabuf0", 0x10000000, 8192)
    first = opened(system)
    assert first.journal is not None
    first.journal[:3] = (1, 2, 3)
    first.allocate(7000)
    with pytest.raises(BusyError, match="another process uses"):
        opened(system)
    first.close()
    second = opened(system)
    assert second.journal is not None and second.journal[:3].tolist() == [1, 2, 3]
    assert second.allocate(7000).physical == 0x10000100  # nothing has leaked


def test_u_dma_buf_syncs_only_where_the_port_is_not_coherent(tmp_path: Path) -> None:
    system = System(tmp_path)
    add_udmabuf(system, "udmabuf0", 0x10000000, 1 << 16)
    attributes = system.kernel_class("u-dma-buf") / "udmabuf0"

    def synced(name: str) -> tuple[int, ...]:
        names = ("sync_offset", "sync_size", "sync_direction", name)
        return tuple(int((attributes / entry).read_text().split("\n")[0]) for entry in names)

    memory = opened(system)
    buffer = memory.allocate(1000)
    memory.to_device(buffer, 0, 1000)
    memory.to_cpu(buffer, 0, 1000)
    assert synced("sync_for_device") == synced("sync_for_cpu") == (0, 0, 0, 0)
    memory.close()
    memory = opened(system, coherent=False)
    memory.allocate(256)
    buffer = memory.allocate(1000)
    memory.to_device(buffer, 70, 200)
    assert synced("sync_for_device") == (256 + 256 + 64, 192, 1, 1)  # whole cache lines
    assert int((attributes / "sync_for_cpu").read_text()) == 0
    memory.to_cpu(buffer, 0, 1000)
    assert synced("sync_for_cpu") == (512, 1024, 2, 1)
    memory.close()


def test_memory_out_of_reach(tmp_path: Path) -> None:
    system = System(tmp_path)
    add_udmabuf(system, "udmabuf0", 0x3FFFF000, 8192)
    with pytest.raises(HardwareError, match=r"memory at 0x3ffff000 to 0x40001000; .* below 0x40000000 .*memory-region"):
        opened(system)
    add_udmabuf(system, "udmabuf1", 0x20000000, 4096)
    assert opened(system).kind.endswith("udmabuf1")


def test_misaligned_memory_is_refused(tmp_path: Path) -> None:
    system = System(tmp_path)
    add_udmabuf(system, "udmabuf0", 0x10000080, 8192)
    with pytest.raises(HardwareError, match="needs multiples of 256"):
        opened(system)


def test_a_device_that_cannot_be_opened(tmp_path: Path) -> None:
    system = System(tmp_path)
    device = add_udmabuf(system, "udmabuf0", 0x10000000, 8192)
    device.unlink()
    with pytest.raises(HardwareError, match=r"udmabuf0 cannot be opened: No such file.*udev rule"):
        opened(system)


@pytest.fixture(scope="module")
def libcma(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library with libcma's functions over ordinary memory."""
    folder = tmp_path_factory.mktemp("libcma")
    (folder / "cma.c").write_text(LIBCMA)
    compiler = ["cc"] if shutil.which("cc") else [sys.executable, "-m", "ziglang", "cc"]
    command = [*compiler, "-shared", "-fPIC", "-O1", "cma.c", "-o", "libcma.so"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder / "libcma.so"


@pytest.fixture
def cma_system(tmp_path: Path, libcma: Path) -> System:
    system = System(tmp_path)
    add_device(system, "xlnk", 0)
    (tmp_path / "usr" / "lib").mkdir(parents=True)
    # A copy: each has memory and counters of its own.
    (tmp_path / "usr" / "lib" / "libcma.so").write_bytes(libcma.read_bytes())
    return system


def test_libcma(cma_system: System) -> None:
    library = ctypes.CDLL(str(cma_system.root / "usr" / "lib" / "libcma.so"))
    memory = opened(cma_system, coherent=False)
    assert memory.kind == "libcma" and memory.journal is None
    first, second = memory.allocate(5000), memory.allocate(100)
    assert (first.physical, second.physical) == (0x10000000, 0x10002000)
    first.array[:] = 9
    assert ctypes.string_at(first.handle, 5000) == b"\x09" * 5000
    memory.to_device(first, 100, 300)
    memory.to_cpu(second, 0, 64)
    assert [library.fake_calls(i) for i in range(4)] == [2, 0, 200, 64]
    with pytest.raises(HardwareError, match=r"2000000 bytes of contiguous memory are not free.*cma=256M"):
        memory.allocate(2_000_000)
    memory.free(first)
    memory.close()
    assert library.fake_calls(1) == 2 and list(cma_system.root.glob("cma*")) == []
    coherent = opened(cma_system)
    coherent.to_device(coherent.allocate(4096), 0, 4096)
    assert library.fake_calls(2) == 200


def test_what_a_killed_process_held_in_cma_is_given_back(cma_system: System) -> None:
    """Without close, as a kill leaves it."""
    library = ctypes.CDLL(str(cma_system.root / "usr" / "lib" / "libcma.so"))
    opened(cma_system).allocate(1 << 20)
    assert library.fake_used() == 1 << 20
    memory = opened(cma_system)
    assert library.fake_used() == 0
    memory.allocate(1 << 20)
    memory.close()


def test_cma_out_of_reach_is_given_back(cma_system: System) -> None:
    library = ctypes.CDLL(str(cma_system.root / "usr" / "lib" / "libcma.so"))
    library.fake_base(ctypes.c_ulong(LIMIT))
    memory = opened(cma_system)
    with pytest.raises(HardwareError, match="libcma has its memory at 0x40000000"):
        memory.allocate(4096)
    assert library.fake_calls(0) == library.fake_calls(1) == 1


def test_a_library_that_is_none(tmp_path: Path) -> None:
    system = System(tmp_path)
    add_device(system, "xlnk", 0)
    (tmp_path / "usr" / "lib").mkdir(parents=True)
    (tmp_path / "usr" / "lib" / "libcma.so").write_bytes(b"not a library")
    with pytest.raises(HardwareError, match=r"libcma\.so cannot be used"):
        opened(system)


class _Buffer(np.ndarray):
    physical_address: int
    calls: list[str]

    def flush(self) -> None:
        self.calls.append("flush")

    def invalidate(self) -> None:
        self.calls.append("invalidate")

    def freebuffer(self) -> None:
        self.calls.append("free")


@pytest.fixture
def pynq(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A package `pynq` whose allocator notes what is called; its second buffer lies too high."""
    calls: list[str] = []
    addresses = iter((0x18000000, LIMIT))

    def allocate(shape: tuple[int], dtype: type) -> _Buffer:
        if shape[0] > 1 << 20:
            raise RuntimeError("bad allocation")
        buffer = np.zeros(shape, dtype).view(_Buffer)
        buffer.physical_address, buffer.calls = next(addresses), calls
        return buffer

    package = tmp_path / "packages" / "pynq"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(package.parent))
    module = types.ModuleType("pynq")
    module.allocate = allocate  # type: ignore[attr-defined]
    module.__spec__ = types.SimpleNamespace()  # type: ignore[assignment]
    monkeypatch.setitem(sys.modules, "pynq", module)
    return calls


def test_pynqs_allocator(tmp_path: Path, pynq: list[str]) -> None:
    memory = opened(System(tmp_path), coherent=False)
    buffer = memory.allocate(512)
    assert memory.kind == "pynq.allocate" and (buffer.physical, buffer.nbytes) == (0x18000000, 512)
    assert type(buffer.array) is np.ndarray
    memory.to_device(buffer, 0, 256)
    memory.to_cpu(buffer, 256, 512)
    memory.free(buffer)
    assert pynq == ["flush", "invalidate", "free"]
    with pytest.raises(HardwareError, match="below 0x40000000"):
        memory.allocate(512)
    assert pynq[-1] == "free"
    with pytest.raises(HardwareError, match=r"cannot allocate 2097152 bytes.*bad allocation"):
        memory.allocate(1 << 21)


def test_a_region_is_bounded(tmp_path: Path) -> None:
    memory = RegionMemory("memory", 0x1000, np.zeros(1024, np.uint8))
    assert memory.allocate(1024).physical == 0x1000
    with pytest.raises(HardwareError, match="has 0 of 1024 free"):
        memory.allocate(1)
