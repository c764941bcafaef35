"""The driver of devices/zynq.py on a modelled board: a process that goes on like hardware when this one is killed.

The driver is the same; only the root of its paths is another.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from edge_agent.boards import BoardProfile
from edge_agent.devices.base import Accelerator
from edge_agent.devices.zynq import open_zynq
from edge_agent.errors import BusyError, HardwareError
from edge_agent.hardware.system import System
from edge_agent.register_model.files import LOG, OWNER, ROOT, ModelState

logger = logging.getLogger(__name__)

FOLDER = "model"
_START_SECONDS, _END_SECONDS, _POLL_SECONDS = 30.0, 5.0, 0.02


def system(directory: Path) -> System:
    """Where the modelled board's files are; the model makes them when it starts."""
    return System(directory.absolute() / FOLDER / ROOT)


def open_device(profile: BoardProfile, directory: Path) -> Accelerator:
    """The model of an earlier agent with this directory, where it still runs, or a new one."""
    folder = directory.absolute() / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        stack.callback(os.close, _own(folder))
        state = ModelState.read(folder / ModelState.NAME)
        if state is None:
            state = _start(folder, profile.name)
        stack.callback(_end, state)
        closing = stack.pop_all()
    try:
        return open_zynq("zynq_model", profile, System(folder / ROOT), folder, closing.close)
    except BaseException:
        closing.close()
        raise


def _own(folder: Path) -> int:
    descriptor = os.open(folder / OWNER, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise BusyError(f"another agent drives the model in {folder}; stop it first") from None
    return descriptor


def _start(folder: Path, profile: str) -> ModelState:
    command = [sys.executable, "-m", "edge_agent.register_model", "--directory", str(folder), "--profile", profile]
    # As for the simulated board: its matrices are small, BLAS threads would wait for each other.
    environment = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", **os.environ}
    with (folder / LOG).open("wb") as log:
        # A session of its own: what ends the agent does not end the hardware.
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/", env=environment
        )
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        state = ModelState.read(folder / ModelState.NAME)
        if state is not None and state.pid == process.pid:
            return state
        time.sleep(_POLL_SECONDS)
    process.kill()
    process.wait()
    said = (folder / LOG).read_text(errors="replace").splitlines()
    raise HardwareError(f"the register model did not start: {said[-1] if said else 'it said nothing'} ({folder / LOG})")


def _end(state: ModelState) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.kill(state.pid, number)
        deadline = time.monotonic() + _END_SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(state.pid, os.WNOHANG)
            if not state.is_running():
                return
            time.sleep(_POLL_SECONDS)
    logger.warning("the register model, process %d, does not end", state.pid)
