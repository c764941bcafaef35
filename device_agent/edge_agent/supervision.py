"""What systemd is told: that the process is ready, that it still works, that it ends (sd_notify(3))."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
from collections.abc import Callable, Mapping

logger = logging.getLogger(__name__)

BEATS_PER_PERIOD = 3
"""How often a sign of life is sent in the time after which systemd ends a process that gives none."""
HANGING_SECONDS = 30.0
"""A serving loop that takes so long for a turn hangs."""


class Supervisor:
    """Speaks to the service manager that started this process; to nobody where none did."""

    def __init__(self, alive: Callable[[], bool] = lambda: True, environment: Mapping[str, str] = os.environ) -> None:
        """While `alive` says so, and after `ready`, the manager gets its signs of life."""
        self._address = environment.get("NOTIFY_SOCKET", "")
        self._alive = alive
        self._period = _watchdog_seconds(environment) / BEATS_PER_PERIOD
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="watchdog", daemon=True)

    def ready(self) -> None:
        """What was started can be used."""
        self._send("READY=1")
        if self._address and self._period:
            self._thread.start()

    def stopping(self) -> None:
        """The process is about to end. May be called again."""
        if not self._ended.is_set():
            self._ended.set()
            self._send("STOPPING=1")
        if self._thread.is_alive():
            self._thread.join()

    def _beat(self) -> None:
        while not self._ended.is_set():
            if self._alive():
                self._send("WATCHDOG=1")
            else:
                logger.error("a serving thread has ended or hangs: the service manager will restart this process")
            self._ended.wait(self._period)

    def _send(self, state: str) -> None:
        if not self._address:
            return
        # A name that begins with @ is in the kernel's abstract namespace, where the first byte is NUL.
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.connect(address)
            manager.sendall(state.encode())


def _watchdog_seconds(environment: Mapping[str, str]) -> float:
    """How long the manager waits for a sign of life of this process; 0 where it does not watch it."""
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    text = environment.get("WATCHDOG_USEC", "")
    return int(text) / 1e6 if text.isascii() and text.isdecimal() else 0.0
