"""A kernel's FPGA manager in a folder that stands for /, for tests; it works in a thread, as the real one elsewhere."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from edge_agent.boards import Fpga, profile
from edge_agent.hardware.system import System
from edge_agent.register_model.fpga_manager import OPERATING, ModelledManager


class RecordingManager(ModelledManager):
    """Keeps the images that the FPGA has taken."""

    def __init__(self, folder: Path, firmware: Path, fpga: Fpga) -> None:
        super().__init__(folder, firmware, fpga)
        self.programmed: list[str] = []

    def _say(self, state: str) -> None:
        if state == OPERATING:
            self.programmed.append(self.loaded)
        super()._say(state)


@dataclass
class Kernel:
    """`programmed` are the images that the FPGA has taken, the last one last."""

    system: System
    manager: RecordingManager

    @property
    def programmed(self) -> list[str]:
        return self.manager.programmed

    @property
    def folder(self) -> Path:
        return self.system.kernel_class("fpga_manager") / "fpga0"

    @property
    def firmware(self) -> Path:
        return self.system.root / "lib" / "firmware"

    def restart(self) -> None:
        """The system is switched off and on: the FPGA is empty."""
        random = self.system.root / "proc" / "sys" / "kernel" / "random"
        random.mkdir(parents=True, exist_ok=True)
        (random / "boot_id").write_text(f"{uuid.uuid4()}\n")
        (self.folder / "state").write_text("unknown\n")
        (self.folder / "firmware").write_text("")
        self.manager.loaded = ""


def make_kernel(root: Path, board: str = "pynq") -> Kernel:
    fpga = profile(board).fpga
    assert isinstance(fpga, Fpga)
    system = System(root)
    folder = system.kernel_class("fpga_manager") / "fpga0"
    for path in (folder, root / "lib" / "firmware", root / "dev"):
        path.mkdir(parents=True)
    for name, value in {"name": fpga.manager, "flags": "0", "firmware": "", "state": "unknown"}.items():
        (folder / name).write_text(f"{value}\n" if value else "")
    kernel = Kernel(system, RecordingManager(folder, root / "lib" / "firmware", fpga))
    kernel.restart()
    return kernel


@contextmanager
def running_kernel(root: Path, board: str = "pynq") -> Iterator[Kernel]:
    kernel = make_kernel(root, board)
    ended = threading.Event()

    def work() -> None:
        while not ended.wait(0.002):
            with suppress(OSError):  # a test takes a file away
                kernel.manager.step()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield kernel
    finally:
        ended.set()
        thread.join()
