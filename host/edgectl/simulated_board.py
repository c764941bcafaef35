"""The life of the simulated board: an edge-agent process on this machine, found by its state file, started, ended."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from edge_agent.listening import reached_at
from edge_agent.state_file import AgentState
from edgectl.boards.client import Address, Connection
from edgectl.errors import BusyError, DeadlineError, EdgectlError, UnreachableError
from edgectl.files import exclusive, state_directory
from edgectl.interrupts import interrupts_deferred

LOOPBACK = "127.0.0.1"
IDLE_SECONDS = 1800.0
START_SECONDS = 60.0
STOP_SECONDS = 10.0
_POLL_SECONDS = 0.02
_AGENT_EXIT_BUSY = 6
_LOG_LINES = 15


@dataclass(frozen=True)
class RunningBoard:
    """A simulated board that runs; `started_here` where this call has started it."""

    state: AgentState
    started_here: bool

    @property
    def address(self) -> Address:
        return Address(self.state.host, self.state.rpc_port)

    @property
    def http_url(self) -> str:
        return f"http://{Address(reached_at(self.state.http_host, LOOPBACK), self.state.http_port)}"

    @property
    def metrics_url(self) -> str:
        return f"{self.http_url}/metrics"

    def connect(self, deadline: float = 10.0) -> Connection:
        """Raises UnreachableError, DeadlineError."""
        return Connection(self.address, self.state.key, deadline)


class SimulatedBoard:
    """The simulated board of one profile, with its files under `directory`."""

    def __init__(self, profile: str = "sim", directory: Path | None = None) -> None:
        self.profile = profile
        self.directory = (directory or state_directory()).absolute() / "boards" / profile
        self.log_file = self.directory / "agent.log"
        self._state_file = self.directory / "agent.json"

    def process(self) -> RunningBoard | None:
        """The board where its process runs. It is not asked anything, which would keep it from being idle."""
        state = AgentState.read(self._state_file)
        return RunningBoard(state, started_here=False) if state is not None and state.is_running() else None

    def find(self) -> RunningBoard | None:
        """The board where it runs and answers; a stale state file is removed."""
        if (board := self.process()) is not None:
            state = board.state
            try:
                board.connect().close()
                return board
            except DeadlineError as error:
                raise DeadlineError(
                    f"the simulated board, process {state.pid}, runs but does not answer; end it with `edgectl stop`"
                ) from error
            except UnreachableError:
                # It may be ending at this moment; one that still runs has to be reported.
                if state.is_running():
                    raise
        if self._state_file.exists():
            # A starting agent replaces the file in one step: what is removed here is never its.
            with self._locked():
                current = AgentState.read(self._state_file)
                if current is None or not current.is_running():
                    self._state_file.unlink(missing_ok=True)
        return None

    def ensure(self, port: int = 0, http_port: int = 0, idle_seconds: float = IDLE_SECONDS) -> RunningBoard:
        """The running board, or a new one that outlives this process.

        Raises BusyError where a port is taken, EdgectlError where the agent does not start: with what its log says.
        """
        if (board := self.find()) is not None:
            return board
        with self._locked():
            # Somebody else may have started it while this process waited for the lock.
            if (state := AgentState.read(self._state_file)) is not None and state.is_running():
                return RunningBoard(state, started_here=False)
            self._state_file.unlink(missing_ok=True)
            return RunningBoard(self._start(port, http_port, idle_seconds), started_here=True)

    def started_here(self, port: int = 0, http_port: int = 0, idle_seconds: float = IDLE_SECONDS) -> StartedHere:
        """`ensure` as a context: a board that this call started ends with a failure or Ctrl-C inside, else lives on."""
        return StartedHere(self, port, http_port, idle_seconds)

    def stop(self) -> bool:
        """End the board; whether there was one. Raises DeadlineError where it cannot be ended."""
        with self._locked():
            state = AgentState.read(self._state_file)
            running = state is not None and state.is_running()
            if state is not None and running:
                _end(state)
            self._state_file.unlink(missing_ok=True)
            return running

    def _start(self, port: int, http_port: int, idle_seconds: float) -> AgentState:
        command = [
            sys.executable,
            "-m",
            "edge_agent.agent",
            "--board",
            self.profile,
            "--host",
            LOOPBACK,
            "--port",
            str(port),
            "--http-port",
            str(http_port),
            "--state-dir",
            str(self.directory / "state"),
            "--state-file",
            str(self._state_file),
            "--idle-timeout",
            str(idle_seconds),
        ]
        process: subprocess.Popen[bytes] | None = None
        try:
            try:
                # Interrupted within Popen, a process would run that nobody knows of.
                with self.log_file.open("wb") as log, interrupts_deferred():
                    # A session of its own: neither Ctrl-C nor the end of this terminal reaches it.
                    process = subprocess.Popen(
                        command,
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        start_new_session=True,
                        cwd="/",
                        env=_environment(),
                    )
            except OSError as error:
                raise EdgectlError(
                    f"the simulated board cannot be started: {error}; choose another directory for its state with "
                    "EDGECTL_STATE"
                ) from error
            return self._await_ready(process)
        except BaseException:
            if process is not None:
                process.kill()
                process.wait()
            raise

    def _await_ready(self, process: subprocess.Popen[bytes]) -> AgentState:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            state = AgentState.read(self._state_file)
            if state is not None and state.pid == process.pid:
                return state
            if process.poll() is not None:
                kind = BusyError if process.returncode == _AGENT_EXIT_BUSY else EdgectlError
                raise kind(f"the simulated board did not start: {self._log_end()} (all of it: {self.log_file})")
            time.sleep(_POLL_SECONDS)
        raise DeadlineError(f"the simulated board was not ready within {START_SECONDS:g} s; see {self.log_file}")

    def _log_end(self) -> str:
        lines = self.log_file.read_text(errors="replace").splitlines()[-_LOG_LINES:]
        return lines[-1] if lines else "it said nothing"

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One process at a time starts or ends the board; the lock goes with its holder."""
        busy = "another edgectl has been starting or stopping the simulated board for too long; end that one first"
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(exclusive(self.directory / "start.lock", START_SECONDS + STOP_SECONDS, busy))
            except OSError as error:
                raise EdgectlError(
                    f"the state directory {self.directory} cannot be used: {error.strerror}; choose another with "
                    "EDGECTL_STATE"
                ) from error
            yield


class StartedHere:
    """Ends a board that was started on entry when the body fails; see SimulatedBoard.started_here."""

    def __init__(self, owner: SimulatedBoard, port: int, http_port: int, idle_seconds: float) -> None:
        self._owner, self._arguments = owner, (port, http_port, idle_seconds)
        self._board: RunningBoard | None = None

    def __enter__(self) -> RunningBoard:
        self._board = self._owner.ensure(*self._arguments)
        return self._board

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and self._board is not None and self._board.started_here:
            self._owner.stop()


def _environment() -> dict[str, str]:
    """This process's environment. The simulator's matrices are small: BLAS threads would wait for each other, and on a
    busy machine for a scheduler's slice each time, so one is faster."""
    return {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", **os.environ}


def _end(state: AgentState) -> None:
    """Ask the process to end, then insist."""
    for number, seconds in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, STOP_SECONDS)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(state.pid, number)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if not state.is_running():
                return
            # Where this process has started the agent, it is the one to collect it.
            with contextlib.suppress(ChildProcessError):
                os.waitpid(state.pid, os.WNOHANG)
            time.sleep(_POLL_SECONDS)
    raise DeadlineError(f"the simulated board, process {state.pid}, does not end; end it with kill -9 {state.pid}")
