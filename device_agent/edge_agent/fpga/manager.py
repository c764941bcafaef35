"""The kernel's FPGA manager: it programs an image that lies in /lib/firmware when its name is written to a file."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from edge_agent import durable
from edge_agent.boards import Fpga
from edge_agent.errors import AgentError, HardwareError
from edge_agent.hardware.system import System, read_text

logger = logging.getLogger(__name__)

OPERATING = "operating"
FIRMWARE = "edge-vta.bin"
"""The image's name in /lib/firmware."""
_WHOLE_IMAGE = "0"
_DEADLINE_SECONDS = 20.0
_POLL_SECONDS = 0.01


class FpgaManager:
    """A system's only FPGA manager, for an FPGA of this kind."""

    def __init__(self, system: System, fpga: Fpga, deadline: float = _DEADLINE_SECONDS) -> None:
        """The kernel is given `deadline` seconds to program."""
        self._system = system
        self._fpga = fpga
        self._deadline = deadline
        self._folder = system.kernel_class("fpga_manager") / "fpga0"
        self._firmware = system.root / "lib" / "firmware"

    def state(self) -> str:
        """What the kernel says of the FPGA: "operating" once it is programmed. Raises HardwareError."""
        if not self._folder.exists():
            raise HardwareError(
                f"the kernel has no FPGA manager ({self._folder}); use an image of the board's maker, whose kernel has "
                f"'{self._fpga.manager}'"
            )
        return read_text(self._folder / "state")

    def require_usable(self) -> None:
        """Raise HardwareError where the FPGA is of another kind, or this kernel cannot be told to program it."""
        self.state()
        name = self._folder / "name"
        if name.exists() and (found := read_text(name)) != self._fpga.manager:
            raise HardwareError(
                f"the kernel's FPGA manager is '{found}', a {self._fpga.part} has '{self._fpga.manager}': this is "
                "another kind of board; start its agent with the right --board"
            )
        if self._fpga.method != "fpga_manager":
            raise HardwareError(
                f"programming a {self._fpga.part} by {self._fpga.method} is not implemented; program it with the "
                "maker's tool"
            )
        if not (self._folder / "firmware").exists():
            raise HardwareError(
                f"this kernel's FPGA manager has no file {self._folder / 'firmware'}: it programs by device tree "
                "overlays only; use an image with the kernel of the FPGA's maker, such as PYNQ's"
            )

    def program(self, data: bytes) -> float:
        """Program an image, its words as the kernel takes them; returns the seconds that the kernel took.

        Raises HardwareError with the kernel's own words, AgentError where the disk is full.
        """
        self.require_usable()
        self._place(data)
        began = time.monotonic()
        try:
            (self._folder / "flags").write_text(_WHOLE_IMAGE)
            (self._folder / "firmware").write_text(FIRMWARE)
        except OSError as error:
            raise HardwareError(
                f"the kernel refuses the bitstream: {error.strerror}; its state is '{self.state()}'; see its log on "
                "the board: dmesg"
            ) from error
        self._await_operating(began)
        return time.monotonic() - began

    def _place(self, data: bytes) -> None:
        """Put the image where the kernel looks for it, whole or not at all."""
        try:
            self._firmware.mkdir(parents=True, exist_ok=True)
            for leftover in self._firmware.glob(f".{FIRMWARE}.*{durable.TEMPORARY_SUFFIX}"):
                leftover.unlink()
            durable.require_space(self._firmware, len(data), reserve=0)
            durable.write(self._firmware / FIRMWARE, data)
        except OSError as error:
            raise AgentError(
                f"the bitstream cannot be written to {self._firmware}: {error.strerror}; free some space there"
            ) from error

    def _await_operating(self, began: float) -> None:
        while True:
            state = self.state()
            taken = not _is_waiting(self._folder / "firmware")
            if taken and state == OPERATING:
                return
            if taken and state.endswith("error"):
                raise HardwareError(
                    f"the kernel could not program the FPGA: its state is '{state}'; see its log on the board: dmesg"
                )
            if time.monotonic() - began > self._deadline:
                raise HardwareError(
                    f"the FPGA is not programmed after {self._deadline:g} s: the kernel's state is '{state}', not "
                    f"'{OPERATING}'; see its log on the board: dmesg"
                )
            time.sleep(_POLL_SECONDS)


def _is_waiting(firmware: Path) -> bool:
    """Whether the name that was written has not been taken yet. The kernel takes it while it is written, and lets
    nobody read it; where it can be read, it is there until it is taken."""
    try:
        return bool(firmware.read_text().strip())
    except OSError:
        return False
