"""Joins a core to pages of memory that a driver in another process has mapped.

A page does not tell that it was read, so nothing in it is cleared by reading; what was written shows as a word that is
not what the model has put there.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

import numpy as np

from edge_agent.hardware.core import CONTROL, START
from edge_agent.hardware.fabric import FPGA_RESET, SLCR_LOCK, SLCR_UNLOCK, UNLOCK_KEY
from edge_agent.register_model.core import BLOCKS, ModelCore
from edge_agent.register_model.quirks import Quirks
from edge_agent.register_model.tree import Tree

_WORD_BYTES = 4
_OFFSETS = range(CONTROL, 0x40, _WORD_BYTES)
"""Registers beyond do not exist."""
_ACTIVE_SECONDS, _ACTIVE_PAUSE, _IDLE_PAUSE = 1.0, 0.0002, 0.005


class Watcher:
    """Carries what a driver writes to `core`, and what `core` then shows to the pages."""

    def __init__(self, tree: Tree, core: ModelCore) -> None:
        self._tree = tree
        self._core = core
        self._shown: Mapping[str, np.ndarray] = {name: tree.pages[name].copy() for name in BLOCKS}
        self._active = time.monotonic()
        self._show()

    def step(self, quirks: Quirks) -> None:
        """Look once."""
        starts = [name for name in BLOCKS if self._written(name, CONTROL) is not None]
        # A driver writes the other registers before it starts anything, so they are read after the starts were seen.
        for name in BLOCKS:
            for offset in _OFFSETS:
                value = self._written(name, offset)
                if offset != CONTROL and value is not None:
                    self._take(name, offset, value)
        for name in starts:
            value = self._written(name, CONTROL)
            if value is not None:
                self._take(name, CONTROL, value)
        if self._tree.slcr[FPGA_RESET // _WORD_BYTES] & 1 and self._is_unlocked():
            if quirks.reset_works:
                self.restart()
            self._active = time.monotonic()
        self._show()

    def restart(self) -> None:
        """The core as after programming."""
        self._core.reset()
        for name in BLOCKS:
            self._tree.pages[name][:] = 0
            self._shown[name][:] = 0
        self._show()

    def pause(self) -> None:
        """Between two looks: short while a driver is at work, so that latency stays below a millisecond."""
        active = time.monotonic() - self._active < _ACTIVE_SECONDS
        time.sleep(_ACTIVE_PAUSE if active or self._core.peek("fetch", CONTROL) & START else _IDLE_PAUSE)

    def watch(self, stop: threading.Event, quirks: Quirks) -> None:
        """Look until told to stop, with quirks that do not change; for tests."""
        while not stop.is_set():
            self.step(quirks)
            self.pause()

    def _is_unlocked(self) -> bool:
        slcr = self._tree.slcr
        return slcr[SLCR_UNLOCK // _WORD_BYTES] == UNLOCK_KEY and slcr[SLCR_LOCK // _WORD_BYTES] == 0

    def _written(self, name: str, offset: int) -> int | None:
        """What a driver has written to a register, if it has."""
        index = offset // _WORD_BYTES
        value = int(self._tree.pages[name][index])
        return None if value == self._shown[name][index] else value

    def _take(self, name: str, offset: int, value: int) -> None:
        self._core.write(name, offset, value)
        self._shown[name][offset // _WORD_BYTES] = value
        self._active = time.monotonic()

    def _show(self) -> None:
        for name in BLOCKS:
            for offset in _OFFSETS:
                index, value = offset // _WORD_BYTES, self._core.peek(name, offset)
                # Only where the driver has not written in the meantime: that is taken at the next look.
                if value != self._shown[name][index] and self._tree.pages[name][index] == self._shown[name][index]:
                    self._shown[name][index] = value
                    self._tree.pages[name][index] = value
