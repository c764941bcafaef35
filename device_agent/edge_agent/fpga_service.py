"""The FPGA as clients see it: uploads of bitstreams, flashing (requests wait meanwhile), and what it holds."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from edge_agent.boards import BoardProfile
from edge_agent.catalogue import catalogue
from edge_agent.devices.base import Accelerator
from edge_agent.errors import AgentError, BusyError, InputError
from edge_agent.fpga.bitstream import read_image
from edge_agent.fpga.flashing import Flasher
from edge_agent.fpga.programmer import fpga_of
from edge_agent.fpga.record import Loaded
from edge_agent.self_test.running import SelfTest, self_test
from edge_agent.service import Service
from edge_agent.uploads import Uploads

logger = logging.getLogger(__name__)

_NAME_LENGTH = 200
RECOVERY_SECONDS = 60.0
"""Between two attempts to bring a degraded accelerator back."""


class FpgaService:
    """Owns the board's Flasher. Thread-safe."""

    def __init__(
        self, board: BoardProfile, flasher: Flasher | None, service: Service, accelerator: Accelerator
    ) -> None:
        """`flasher` is None where the board has no FPGA."""
        self._board = board
        self._flasher = flasher
        self._service = service
        self._accelerator = accelerator
        self._uploads = None if flasher is None else Uploads(flasher.shelf)
        self._flashing = threading.Lock()
        self._not_before = 0.0

    @property
    def uploads(self) -> Uploads:
        """Raises IncompatibleError where the board has no FPGA."""
        if self._uploads is None:
            fpga_of(self._board)
        assert self._uploads is not None
        return self._uploads

    def restore(self) -> None:
        """When the agent starts: see Flasher.restore."""
        if self._flasher is not None:
            flasher = self._flasher
            self._service.exclusively(lambda: flasher.restore(self._test))

    def recover(self) -> None:
        """Called now and then: an accelerator that no reset brings back, or whose FPGA could not be programmed, is
        programmed again, at most once a minute."""
        flasher, now = self._flasher, time.monotonic()
        if flasher is None or now < self._not_before:
            return
        reason = self._accelerator.condition() or flasher.problem
        if not reason or not self._flashing.acquire(blocking=False):
            return
        try:
            self._not_before = now + RECOVERY_SECONDS
            logger.warning("programming the FPGA again: %s", reason)
            if self._service.exclusively(lambda: flasher.again(self._test)) and not flasher.problem:
                self._service.reprogrammed()
        except AgentError as error:
            logger.error("the FPGA could not be programmed again: %s", error)
        finally:
            self._flashing.release()

    def status(self) -> dict[str, Any] | None:
        """None where the board has no FPGA."""
        return None if self._flasher is None else self._flasher.status()

    def flash(self, sha256: str, name: str, config: str, isa: str) -> dict[str, Any]:
        """Program an uploaded bitstream, self-test it, and keep it, or bring back the one before; see Flasher.flash.

        `name`, `config` and `isa` are the client's word for what it is; of what is published, the catalogue's counts.
        Raises BusyError where another flash is under way.
        """
        fpga_of(self._board)
        flasher = self._flasher
        assert flasher is not None
        if not self._flashing.acquire(blocking=False):
            raise BusyError("the FPGA is being programmed already; try again when that has finished")
        try:
            loaded = self._describe(flasher, sha256, name, config, isa)
            flashed = self._service.exclusively(lambda: flasher.flash(loaded, self._test))
            logger.info("the FPGA holds %s", loaded.id)
        finally:
            self._flashing.release()
        self._service.reprogrammed()
        return flashed.as_dict()

    def _describe(self, flasher: Flasher, sha256: str, name: str, config: str, isa: str) -> Loaded:
        path = flasher.shelf.path(sha256)
        if not path.is_file():
            raise InputError(f"there is no bitstream {sha256[:12]} on this board; upload it first")
        if not name or len(name) > _NAME_LENGTH or not name.isprintable():
            raise InputError(f"a bitstream's name has 1 to {_NAME_LENGTH} printable characters")
        try:
            header = read_image(path.read_bytes()).header
        except OSError as error:
            raise AgentError(f"the bitstream cannot be read: {error.strerror}; upload it again") from error
        part, built = (header.part, header.built) if header is not None else ("", "")
        for entry in catalogue():
            if entry.sha256 == sha256:
                name, config, isa = entry.id, entry.config, entry.isa
        return Loaded(sha256, name, config, isa, part, built)

    def _test(self) -> SelfTest:
        self._accelerator.reprogrammed()
        return self_test(self._accelerator)
