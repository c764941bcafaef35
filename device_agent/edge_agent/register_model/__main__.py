"""The model's process: hardware that goes on while the agent that drives it is killed and started again."""

from __future__ import annotations

import argparse
import fcntl
import logging
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from edge_agent.boards import profile
from edge_agent.errors import AgentError
from edge_agent.register_model.core import ModelCore
from edge_agent.register_model.files import OWNER, QUIRKS, ROOT, ModelState
from edge_agent.register_model.fpga_manager import ModelledManager
from edge_agent.register_model.machine import Machine
from edge_agent.register_model.quirks import Quirks, read_quirks
from edge_agent.register_model.tree import Tree, make_tree
from edge_agent.register_model.watch import Watcher
from edge_agent.state_file import this_process

logger = logging.getLogger("edge_agent.register_model")

_LOOK_SECONDS = 0.25
"""Between looks at files: quirks, firmware, owner."""


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="edge_agent.register_model", description="A board with VTA in software, as files that a driver opens."
    )
    parser.add_argument(
        "--directory", type=Path, required=True, help="folder for the board's files, of this model alone"
    )
    parser.add_argument("--profile", default="pynq-model", help="the board's profile (default: %(default)s)")
    parser.add_argument(
        "--orphan-seconds",
        type=float,
        default=30.0,
        help="end when nobody has driven it for so long (default: %(default)s)",
    )
    return parser.parse_args(arguments)


class Model:
    """A modelled board. `run` goes on until `stop`, or until nobody has driven it for `orphan_seconds`."""

    def __init__(self, directory: Path, profile_name: str, orphan_seconds: float) -> None:
        self._directory = directory
        self._orphan_seconds = orphan_seconds
        self._stop = threading.Event()
        board = profile(profile_name)
        if board.hardware is None:
            raise AgentError(f"board profile '{profile_name}' has no hardware entry, so there is nothing to model")
        root = directory / ROOT
        shutil.rmtree(root, ignore_errors=True)  # of a model that was killed
        self._tree: Tree = make_tree(root, board.hardware)
        self._quirks = Quirks()
        self._quirks_at_programming = 0
        self._manager = ModelledManager(
            self._tree.fpga_manager,
            root / "lib" / "firmware",
            board.fpga,
            self._programmed,
            lambda: self._read_quirks().takes_images,
        )
        self._core = ModelCore(Machine(self._tree.memory, board.vta, board.features), self._read_quirks)
        self._watcher = Watcher(self._tree, self._core)

    def stop(self) -> None:
        self._stop.set()

    def run(self) -> None:
        pid, ticks = this_process()
        state = self._directory / ModelState.NAME
        ModelState(pid, ticks).write(state)
        try:
            looked = driven = time.monotonic()
            while not self._stop.is_set():
                self._watcher.step(self._quirks)
                self._watcher.pause()
                now = time.monotonic()
                if now - looked > _LOOK_SECONDS:
                    looked = now
                    self._read_quirks()
                    self._manager.step()
                    driven = now if self._is_driven() else driven
                    if now - driven > self._orphan_seconds:
                        logger.info("nobody has driven it for %g s: ending", self._orphan_seconds)
                        return
        finally:
            state.unlink(missing_ok=True)
            shutil.rmtree(self._tree.root, ignore_errors=True)

    def _programmed(self) -> None:
        self._quirks_at_programming = self._quirks_version()
        self._watcher.restart()

    def _quirks_version(self) -> int:
        """Another number whenever somebody has given quirks; 0 without any."""
        try:
            return (self._directory / QUIRKS).stat().st_mtime_ns
        except FileNotFoundError:
            return 0

    def _read_quirks(self) -> Quirks:
        try:
            programmed_since = self._quirks_version() == self._quirks_at_programming
            self._quirks = read_quirks(self._directory / QUIRKS).of_image(self._manager.loaded, programmed_since)
        except AgentError as error:
            logger.error("%s", error)
        return self._quirks

    def _is_driven(self) -> bool:
        """Whether an agent holds the lock that its driver took."""
        descriptor = os.open(self._directory / OWNER, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a model; returns the process's exit code."""
    options = parse_arguments(arguments)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        model = Model(options.directory, options.profile, options.orphan_seconds)
    except (AgentError, OSError) as error:
        print(f"register model: {error}", file=sys.stderr)
        return 1
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: model.stop())
    model.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
