# SPDX-License-Identifier: Apache-2.0
"""Run the agent as on a board, under emulation: its wheel installed by pip in an emulated root, its process in there.

    python -m scripts.emulated_agent [--board pynq|sim|...] [--architecture armhf|arm64]

prints the address, the key and how to deploy to it, and runs until Ctrl-C. A board whose accelerator is hardware gets
the register-level model of it, which runs outside, on this machine's own processor. See docs/arm.md.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from scripts.emulated_root import ARCHITECTURES, MINUTES, EmulatedRoot, RootError, make_root
from scripts.project_wheel import build_wheel

from edge_agent.boards import profile
from edge_agent.register_model.files import ROOT as MODEL_ROOT
from edge_agent.register_model.files import ModelState
from edge_agent.state_file import AgentState
from edgectl.files import exclusive

START_SECONDS = 120.0
"""Python alone takes a second to start under emulation, and the machine may be busy."""
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_NAMES = Path("/etc/resolv.conf")
_INSTALLED = "opt/edge-agent-"
_MODELLED = "/board"
_KEPT = 3
"""Installations of other wheels that stay in a root."""
_POLL_SECONDS = 0.02


@dataclass(frozen=True)
class InstalledAgent:
    """The agent in an emulated root, or where `root` is None, on this machine; `python` is its interpreter in there."""

    root: EmulatedRoot | None
    python: str

    def start(
        self, arguments: Sequence[str], log: Path, variables: Mapping[str, str], binds: Sequence[tuple[Path, str]] = ()
    ) -> subprocess.Popen[bytes]:
        """The interpreter with these arguments, as a process of this machine; `variables` are added to its environment,
        `binds` are as `EmulatedRoot.command` takes them."""
        command, environment = [self.python, *arguments], {**os.environ}
        if self.root is not None:
            command, environment = self.root.command(command, binds), self.root.environment()
        with log.open("wb") as file:
            return subprocess.Popen(
                command,
                env={**environment, "OPENBLAS_NUM_THREADS": "1", **variables},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )


THIS_MACHINE = InstalledAgent(None, sys.executable)
"""The agent of this environment, on this machine's processor, for comparison."""


@dataclass(frozen=True)
class RunningAgent:
    """An agent that is ready; `pid` is a process of this machine, `model` the folder of the register-level model, where
    it drives one."""

    state: AgentState
    pid: int
    seconds_to_ready: float
    log: Path
    model: Path | None

    @property
    def address(self) -> str:
        return f"{self.state.host}:{self.state.rpc_port}"


@dataclass(frozen=True)
class Resident:
    """A process's memory in MiB: now, at most so far, and of what is there now what is its own."""

    now: float
    peak: float
    anonymous: float

    @classmethod
    def of(cls, pid: int) -> Resident:
        """Of a running process. Raises OSError."""
        pairs = (line.split(":") for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        kibibytes = {name: int(value.split()[0]) for name, value in pairs if name in ("VmRSS", "VmHWM", "RssAnon")}
        return cls(*(kibibytes[name] / 1024 for name in ("VmRSS", "VmHWM", "RssAnon")))


def install(root: EmulatedRoot, wheel: Path) -> InstalledAgent:
    """The wheel and what it depends on, from PyPI, without a compiler: once for each wheel. Raises RootError."""
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()[:12]
    folder = root.folder / f"{_INSTALLED}{digest}"
    python = f"/{_INSTALLED}{digest}/bin/python"
    lock = root.folder.parent / f"{root.folder.name}.install.lock"
    with exclusive(lock, MINUTES * 60, f"another process has been installing in {root.folder} for too long"):
        if not folder.is_dir():
            try:
                # As a board does it: the distribution's NumPy, since PyPI has none for armv7.
                root.run(["python3", "-m", "venv", "--system-site-packages", f"/{_INSTALLED}{digest}"])
                outside = (_CERTIFICATES, _NAMES)
                binds = [(wheel, f"/tmp/{wheel.name}"), *((path, os.fspath(path)) for path in outside if path.exists())]
                for _, target in binds:
                    Path(f"{root.folder}{target}").touch()
                command = [python, "-m", "pip", "install", "--only-binary=:all:", "--disable-pip-version-check"]
                root.run([*command, f"/tmp/{wheel.name}[announce]"], binds)
                earlier = sorted(root.folder.glob(f"{_INSTALLED}*"), key=lambda path: path.stat().st_mtime)
                for path in earlier[:-_KEPT]:
                    shutil.rmtree(path, ignore_errors=True)
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
    return InstalledAgent(root, python)


@contextmanager
def agent_folder(installed: InstalledAgent) -> Iterator[Path]:
    """A folder, of this machine, for what one agent after the other keeps; it goes with the block."""
    parent = None if installed.root is None else installed.root.folder / "var" / "lib"
    with tempfile.TemporaryDirectory(prefix="edge-agent-", dir=parent, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@contextmanager
def running_agent(installed: InstalledAgent, board: str, folder: Path | None = None) -> Iterator[RunningAgent]:
    """An agent on free ports of the loopback, and where the board's accelerator is hardware, a model of it. Both end
    with the block, and what the agent keeps does, unless it has a `folder` (see `agent_folder`).

    Raises RootError where it does not start.
    """
    with ExitStack() as stack:
        outside = Path("/") if installed.root is None else installed.root.folder
        directory = folder or stack.enter_context(agent_folder(installed))
        inside = Path("/", directory.relative_to(outside))
        model: Path | None = None
        binds: list[tuple[Path, str]] = []
        variables = {}
        if profile(board).hardware is not None and not profile(board).simulated:
            model = stack.enter_context(_register_model(board))
            variables["EDGE_AGENT_ROOT"] = os.fspath(model / MODEL_ROOT)
            if installed.root is not None:
                (outside / _MODELLED.strip("/")).mkdir(exist_ok=True)
                binds, variables["EDGE_AGENT_ROOT"] = [(model / MODEL_ROOT, _MODELLED)], _MODELLED
        state_file, log = directory / "agent.json", directory / "agent.log"
        state_file.unlink(missing_ok=True)
        arguments = ["-m", "edge_agent.agent", "--board", board, "--port", "0", "--http-port", "0"]
        arguments += ["--state-dir", os.fspath(inside / "state"), "--state-file", os.fspath(inside / state_file.name)]
        begin = time.monotonic()
        process = installed.start(arguments, log, variables, binds)
        stack.callback(_end, process)
        while (state := AgentState.read(state_file)) is None:
            if process.poll() is not None or time.monotonic() - begin > START_SECONDS:
                raise RootError(f"the agent did not start: {log.read_text(errors='replace')[-2000:]}")
            time.sleep(_POLL_SECONDS)
        yield RunningAgent(state, process.pid, time.monotonic() - begin, log, model)


def idle_interpreter(installed: InstalledAgent) -> Resident:
    """The memory of a Python that has imported NumPy and waits: under emulation, most of it is the emulator's."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        program = "import numpy, time; print('ready', flush=True); time.sleep(600)"
        process = installed.start(["-c", program], log, {})
        try:
            begin = time.monotonic()
            while not log.read_text().startswith("ready"):
                if process.poll() is not None or time.monotonic() - begin > START_SECONDS:
                    raise RootError(f"Python did not start: {log.read_text(errors='replace')[-2000:]}")
                time.sleep(_POLL_SECONDS)
            return Resident.of(process.pid)
        finally:
            process.kill()
            process.wait()


@contextmanager
def _register_model(board: str) -> Iterator[Path]:
    """The folder of a modelled board."""
    with tempfile.TemporaryDirectory(prefix="edgectl-model-") as folder:
        command = [sys.executable, "-m", "edge_agent.register_model", "--directory", folder, "--profile", board]
        model = subprocess.Popen(
            [*command, "--orphan-seconds", str(24 * 3600)],
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
            stderr=subprocess.DEVNULL,
        )
        try:
            begin = time.monotonic()
            while ModelState.read(Path(folder, ModelState.NAME)) is None:
                if model.poll() is not None or time.monotonic() - begin > START_SECONDS:
                    raise RootError(f"the register-level model of {board} did not start")
                time.sleep(_POLL_SECONDS)
            yield Path(folder)
        finally:
            _end(model)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--board", default="pynq", help="its profile (default: %(default)s)")
    parser.add_argument("--architecture", default="armhf", choices=list(ARCHITECTURES))
    options = parser.parse_args()
    try:
        root = make_root(ARCHITECTURES[options.architecture])
        with tempfile.TemporaryDirectory(prefix="edgectl-wheel-") as folder:
            installed = install(root, build_wheel(Path(folder)))
        with running_agent(installed, options.board) as agent:
            print(f"ready after {agent.seconds_to_ready:.1f} s, process {agent.pid}, log {agent.log}")
            print(f"EDGECTL_KEY={agent.state.key} edgectl deploy resnet20_cifar10 --board {agent.address}", flush=True)
            signal.sigwait({signal.SIGINT, signal.SIGTERM})
    except RootError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
