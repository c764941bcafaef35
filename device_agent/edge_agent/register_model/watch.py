"""Joins a core to pages of memory that a driver in another process has mapped.

A page does not tell that it was read, so nothing in it is cleared by reading; what was written shows as a word that is
not what the model has put there.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np

from edge_agent.hardware.core import CONTROL, START
from edge_agent.hardware.fabric import FPGA_RESET, LOCK_KEY, SLCR_LOCK, SLCR_UNLOCK, UNLOCK_KEY
from edge_agent.register_model.core import BLOCKS, ModelCore
from edge_agent.register_model.quirks import Quirks
from edge_agent.register_model.tree import Tree

_WORD_BYTES = 4
_WORDS = 0x40 // _WORD_BYTES
"""Registers beyond do not exist."""
_OFFSETS = range(0, _WORDS * _WORD_BYTES, _WORD_BYTES)
_CONTROL = CONTROL // _WORD_BYTES
_ACTIVE_SECONDS, _ACTIVE_PAUSE, _IDLE_PAUSE = 1.0, 0.0002, 0.005


class Watcher:
    """Carries what a driver writes to `core`, and what `core` then shows to the pages."""

    def __init__(self, tree: Tree, core: ModelCore) -> None:
        self._slcr = tree.slcr
        self._core = core
        self._pages: Mapping[str, np.ndarray] = {name: tree.pages[name][:_WORDS] for name in BLOCKS}
        self._shown: Mapping[str, np.ndarray] = {name: page.copy() for name, page in self._pages.items()}
        self._seen = -1
        self._in_reset = False
        self._active = time.monotonic()
        self._show()

    def step(self, quirks: Quirks) -> None:
        """Look once."""
        starts = [name for name in BLOCKS if self._pages[name][_CONTROL] != self._shown[name][_CONTROL]]
        # A driver writes the other registers before it starts anything, so they are read after the starts were seen.
        for name in BLOCKS:
            for index in np.flatnonzero(self._pages[name] != self._shown[name]).tolist():
                if index != _CONTROL:
                    self._take(name, index)
        for name in starts:
            self._take(name, _CONTROL)
        self._watch_reset(quirks)
        self._show()

    def restart(self) -> None:
        """The core as after programming."""
        self._core.reset()
        for name in BLOCKS:
            self._pages[name][:] = 0
            self._shown[name][:] = 0
        self._show()

    def pause(self) -> None:
        """Between two looks: short while a driver is at work, so that latency stays below a millisecond."""
        active = time.monotonic() - self._active < _ACTIVE_SECONDS
        time.sleep(_ACTIVE_PAUSE if active or self._core.peek("fetch", CONTROL) & START else _IDLE_PAUSE)

    def _watch_reset(self, quirks: Quirks) -> None:
        """A reset may be over before it is seen: then unlocking and locking are what is left of it."""
        unlocked, locked = self._slcr[SLCR_UNLOCK // _WORD_BYTES], self._slcr[SLCR_LOCK // _WORD_BYTES]
        if unlocked != UNLOCK_KEY:
            return
        asserted = bool(self._slcr[FPGA_RESET // _WORD_BYTES] & 1)
        if asserted or locked == LOCK_KEY:
            self._active = time.monotonic()
            if quirks.reset_works and not self._in_reset:
                self.restart()
            self._in_reset = asserted
        if locked == LOCK_KEY and not asserted:
            self._slcr[SLCR_UNLOCK // _WORD_BYTES] = self._slcr[SLCR_LOCK // _WORD_BYTES] = 0
            self._in_reset = False

    def _take(self, name: str, index: int) -> None:
        """What the driver has written to a register."""
        value = int(self._pages[name][index])
        self._shown[name][index] = value
        self._core.write(name, index * _WORD_BYTES, value)
        self._active = time.monotonic()

    def _show(self) -> None:
        changes = self._core.changes
        if changes == self._seen:
            return
        self._seen = changes
        # At one moment: compute must not say that a run has ended while fetch still seems to be at it.
        for name, values in self._core.snapshot(_OFFSETS).items():
            page, shown = self._pages[name], self._shown[name]
            for index, value in enumerate(values):
                # What the driver has written in the meantime is taken at the next look.
                if value != shown[index] and page[index] == shown[index]:
                    shown[index] = page[index] = value
