"""A flash on the board: record, program, self-test, record; and the way back where a step fails or never ends.

Whatever happens, the board ends with a bitstream that has passed the self-test, or says that it has none.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edge_agent.boards import BoardProfile
from edge_agent.errors import AgentError, DegradedError, IncompatibleError, InputError, VerificationError
from edge_agent.fpga.programmer import Programmer
from edge_agent.fpga.record import Loaded, Record
from edge_agent.fpga.shelf import Shelf
from edge_agent.hardware.system import System
from edge_agent.self_test.running import SelfTest

logger = logging.getLogger(__name__)

Test = Callable[[], SelfTest]
Announce = Callable[[str], None]
STEPS = ("checked", "recorded", "programmed", "tested", "committed", "swept")
"""What `Announce` is called with after each step of a flash; "restored" where there was a way back."""

RECORD = "fpga.json"


@dataclass(frozen=True)
class Flashed:
    """A flash that succeeded: seconds by step."""

    loaded: Loaded
    previous: Loaded | None
    seconds: dict[str, float]
    self_test: SelfTest

    def as_dict(self) -> dict[str, Any]:
        return {
            "bitstream": vars(self.loaded).copy(),
            "previous": None if self.previous is None else vars(self.previous).copy(),
            "seconds": self.seconds,
            "self_test": self.self_test.as_dict(),
        }


class Flasher:
    """The FPGA of a board. One thread at a time."""

    def __init__(
        self,
        board: BoardProfile,
        directory: Path,
        system: System,
        programmer: Programmer,
        announce: Announce = lambda step: None,
    ) -> None:
        """Keeps `fpga.json` and the folder `bitstreams` in `directory`."""
        self._board = board
        self._path = directory / RECORD
        self._system = system
        self._programmer = programmer
        self._announce = announce
        self.shelf = Shelf(directory / "bitstreams", board)
        self._record = Record.read(self._path)
        self._problem = ""

    @property
    def problem(self) -> str:
        """Why the FPGA cannot be used until it is programmed; "" while it can."""
        return self._problem

    def status(self) -> dict[str, Any]:
        """What the FPGA holds, as far as this board's agents have programmed it."""
        record = self._record.as_dict()
        return {"bitstream": record["current"], "previous": record["previous"], "problem": self._problem}

    def flash(self, loaded: Loaded, test: Test) -> Flashed:
        """Program a bitstream that lies on the shelf, `test` it, and keep it; else bring back the one before.

        Raises InputError (not there), IncompatibleError (configuration, version, device), VerificationError: damaged,
        or it fails its self-test; the message says what the FPGA holds then. HardwareError, AgentError.
        """
        self._check(loaded)
        self._announce("checked")
        before = self._record
        self._write(replace(before, pending=loaded))
        self._announce("recorded")
        seconds: dict[str, float] = {}
        try:
            seconds["program"] = self._program(loaded)
            self._announce("programmed")
            begin = time.perf_counter()
            passed = test()
            seconds["self-test"] = time.perf_counter() - begin
            self._announce("tested")
            previous = before.current if before.current != loaded else before.previous
            self._write(Record(loaded, previous, None, self._system.boot_id()))
        except AgentError as error:
            raise self._back(before, loaded, error, test) from error
        self._problem = ""
        self._announce("committed")
        self.sweep()
        self._announce("swept")
        return Flashed(loaded, previous, seconds, passed)

    def restore(self, test: Test) -> None:
        """When the agent starts: program what the FPGA should hold, where it may hold something else, because the
        system was started again or a flash was interrupted. `problem` tells where that fails."""
        record = self._record
        self.sweep(uploads=True)
        if record.pending is None and (record.current is None or record.boot == self._system.boot_id()):
            return
        if record.pending is not None:
            logger.warning("the flash of %s was interrupted", record.pending.id)
        if record.current is None:
            assert record.pending is not None
            self._problem = (
                f"the flash of {record.pending.id} was interrupted, and there was no bitstream before it that could be "
                "brought back"
            )
            return
        self._bring_back(record, test)

    def again(self, test: Test) -> bool:
        """Program what the FPGA holds once more, as only that brings a degraded accelerator back; whether there was
        something to program. `problem` tells where it fails."""
        if self._record.current is None:
            return False
        self._bring_back(self._record, test)
        return True

    def sweep(self, uploads: bool = False) -> None:
        """Remove what no longer is needed."""
        try:
            for leftover in self._path.parent.glob(f".{RECORD}.*"):
                leftover.unlink()
            self.shelf.sweep(self._record.kept, uploads)
        except OSError as error:
            logger.warning("leftovers of a flash stay: %s", error)

    def _check(self, loaded: Loaded) -> None:
        if not self.shelf.has(loaded.sha256):
            raise InputError(f"there is no bitstream {loaded.sha256[:12]} on this board; upload it first")
        for what, found, wanted in (
            ("configuration", loaded.config, self._board.config),
            ("instruction set", loaded.isa, self._board.isa),
        ):
            if found != wanted:
                raise IncompatibleError(
                    f"bitstream {loaded.id} has {what} {found}, board '{self._board.name}' is for {wanted}: models "
                    f"compiled for it would not run; take the published one: `edgectl flash BOARD`"
                )

    def _program(self, loaded: Loaded) -> float:
        with self.shelf.path(loaded.sha256).open("rb") as file:
            return self._programmer.program(file, loaded.sha256)

    def _back(self, before: Record, loaded: Loaded, error: AgentError, test: Test) -> AgentError:
        """Undo a flash that failed; the error that tells of both."""
        if before.current is None:
            self._problem = f"bitstream {loaded.id} failed and there is none before it: {error}"
            return type(error)(f"{error}; there was no bitstream before {loaded.id} that could be brought back")
        logger.error("the flash of %s failed, bringing back %s: %s", loaded.id, before.current.id, error)
        self._bring_back(before, test)
        if self._problem:
            return DegradedError(f"{error}; {self._problem}")
        self._announce("restored")
        kind = type(error) if isinstance(error, VerificationError) else VerificationError
        return kind(f"{error}; the bitstream before it, {before.current.id}, is back and passes its self-test")

    def _bring_back(self, record: Record, test: Test) -> None:
        assert record.current is not None
        try:
            self._program(record.current)
            test()
            self._write(replace(record, pending=None, boot=self._system.boot_id()))
            self._problem = ""
        except (AgentError, OSError) as error:
            self._problem = f"the bitstream {record.current.id} could not be brought back: {error}"
            logger.error("%s", self._problem)
        self.sweep()

    def _write(self, record: Record) -> None:
        record.write(self._path)
        self._record = record
