"""What the kernel's FPGA manager does with an image, as far as its files show it: the states of fpga-mgr.c.

The drivers want the sync word with its bytes reversed; an FPGA that is given another one's image never gets ready.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path

from edge_agent.boards import Fpga

logger = logging.getLogger(__name__)

OPERATING = "operating"
_SYNC, _WRITE_IDCODE = bytes.fromhex("665599AA"), bytes.fromhex("01800130")
_BEGIN = 4096
_IDCODE_MASK = 0x0FFFFFFF


class ModelledManager:
    """The manager whose files are in `folder`; images are looked for in `firmware`."""

    def __init__(
        self,
        folder: Path,
        firmware: Path,
        fpga: Fpga | None,
        programmed: Callable[[], None] = lambda: None,
        takes_images: Callable[[], bool] = lambda: True,
    ) -> None:
        """`programmed` is called when the FPGA has taken an image, before anybody is told; `takes_images` is asked
        before each one."""
        self._programmed = programmed
        self._folder = folder
        self._images = firmware
        self._fpga = fpga
        self._takes_images = takes_images
        self.loaded = ""
        """SHA-256 of the image that the FPGA holds, "" before the first one."""

    def step(self) -> None:
        """Look once whether an image's name has been written, and program it."""
        request = self._folder / "firmware"
        name = request.read_text().strip()
        if not name:
            return
        state = self._program(name)
        if state == OPERATING:
            self._programmed()
        self._say(state)
        # Only now, so that whoever has written the name sees when it was taken.
        request.write_text("")
        logger.info("image %s: %s", name, state)

    def _program(self, name: str) -> str:
        self._say("firmware request")
        try:
            data = (self._images / Path(name).name).read_bytes()
        except OSError:
            return "firmware request error"
        self._say("write init")
        begin = data[:_BEGIN]
        if len(data) % 4 or _SYNC not in begin or begin.index(_SYNC) % 4:
            return "write init error"
        self._say("write")
        if self._fpga is not None:
            place = begin.find(_WRITE_IDCODE)
            idcode = int.from_bytes(begin[place + 4 : place + 8], "little") if place >= 0 else self._fpga.idcode
            short = self._fpga.bitstream_bytes and len(data) != self._fpga.bitstream_bytes
            if short or (idcode ^ self._fpga.idcode) & _IDCODE_MASK:
                return "write complete error"
        if not self._takes_images():
            return "write complete error"
        self.loaded = hashlib.sha256(data).hexdigest()
        return OPERATING

    def _say(self, state: str) -> None:
        (self._folder / "state").write_text(f"{state}\n")
