"""Faults while a verb works: Ctrl-C at every stage, killed processes, full disks. Nothing half-done is left behind."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgectl.boards.board import Board
from edgectl.boards.client import CHUNK_BYTES
from edgectl.errors import UnreachableError
from edgectl.frontends import zoo
from edgectl.simulated_board import SimulatedBoard
from edgectl.stages import Stages
from tests.edgectl.cli.conftest import Edgectl, agents, spawn
from tests.edgectl.file_server import file_server

DEMO = "resnet20_cifar10"
STAGES = [
    "import",
    "look in the cache",
    "quantize",
    "compile for VTA",
    "compile for the CPU",
    "seal",
    "keep in the cache",
    "start the board",
    "upload",
    "activate and self-test",
    "run",
    "measure",
]


def eventually(condition: Callable[[], bool], seconds: float = 30) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def interrupt_in(monkeypatch: pytest.MonkeyPatch, wanted: str) -> None:
    """Ctrl-C a moment after the stage `wanted` has begun."""
    original = Stages.stage

    @contextlib.contextmanager
    def stage(self: Stages, name: str) -> Iterator[None]:
        with original(self, name):
            if name == wanted:
                signal.setitimer(signal.ITIMER_REAL, 0.002)
            yield
            if name == wanted:
                time.sleep(0.05)  # a stage of less than the delay must not escape

    def ring(number: int, frame: object) -> None:
        signal.raise_signal(signal.SIGINT)

    signal.signal(signal.SIGALRM, ring)
    monkeypatch.setattr(Stages, "stage", stage)


@pytest.fixture(autouse=True)
def alarms_end() -> Iterator[None]:
    before = signal.getsignal(signal.SIGALRM)
    # Hypothesis listens to the garbage collector, and what is raised while a listener runs is lost.
    listeners = gc.callbacks.copy()
    gc.callbacks.clear()
    yield
    gc.callbacks.extend(listeners)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def leftovers(directory: Path) -> list[str]:
    """Temporary files, uploads and sessions under `directory`."""
    if not directory.exists():
        return []
    files = [path for path in directory.rglob("*") if path.is_file()]
    return [str(path) for path in files if path.name.startswith(".") or path.parent.name in ("sessions", "kernels")]


@pytest.mark.parametrize("stage", STAGES)
def test_ctrl_c_ends_what_the_deploy_started(
    edgectl: Edgectl, own_board: SimulatedBoard, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stage: str
) -> None:
    interrupt_in(monkeypatch, stage)
    result = edgectl("deploy", DEMO)
    assert (result.code, result.out) == (130, "") and result.err.endswith("error: interrupted\n")
    assert eventually(lambda: not agents(tmp_path))
    assert own_board.find() is None
    assert leftovers(tmp_path / "state") == leftovers(tmp_path / "cache" / "builds") == []


@pytest.mark.parametrize("stage", ["compile for VTA", "upload", "measure"])
def test_ctrl_c_leaves_a_board_that_ran_before(
    edgectl: Edgectl, demo_board: SimulatedBoard, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    before = demo_board.find()
    assert before is not None
    with monkeypatch.context() as patch:
        interrupt_in(patch, stage)
        assert edgectl("deploy", DEMO).code == 130
    after = demo_board.find()
    assert after is not None and after.state == before.state
    assert edgectl("run", "--json").document["top"][0]["label"] == "cat"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_signals_to_a_process_of_its_own(own_board: SimulatedBoard, tmp_path: Path, number: int, code: int) -> None:
    process = spawn("deploy", DEMO)
    assert eventually(lambda: bool(agents(tmp_path)), 60)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code and out == "" and "Traceback" not in err
    assert eventually(lambda: not agents(tmp_path))


def test_ctrl_c_leaves_no_half_of_a_bundle(edgectl: Edgectl, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", full)
    assert edgectl("compile", DEMO, "-o", "out.bundle").code == 130
    assert list(Path.cwd().iterdir()) == []


def test_an_agent_killed_during_bench(edgectl: Edgectl, own_board: SimulatedBoard) -> None:
    assert edgectl("deploy", DEMO).code == 0
    running_board = own_board.find()
    assert running_board is not None

    def kill_once_busy() -> None:
        with running_board.connect() as connection:
            before = connection.status()["samples"]
            eventually(lambda: connection.status()["samples"] > before + 3)
        os.kill(running_board.state.pid, signal.SIGKILL)

    killer = threading.Thread(target=kill_once_busy)
    killer.start()
    result = edgectl("bench", "--number", "5000")
    killer.join()
    assert (result.code, result.out) == (3, "")
    assert f"the agent at {running_board.address} is gone" in result.err
    assert edgectl("status").code == 3
    assert edgectl("deploy", DEMO).code == 0
    assert edgectl("run", "--json").document["top"][0]["label"] == "cat"


def test_an_interrupted_upload(edgectl: Edgectl, demo_board: SimulatedBoard, demo_bundle: Path, tmp_path: Path) -> None:
    assert edgectl("compile", DEMO, "--shape", "3,48,48", "-o", tmp_path / "other.bundle").code == 0
    other = (tmp_path / "other.bundle").read_bytes()
    before = edgectl("status", "--json").document["live"]

    class Cable(Exception):
        pass

    def cut(done: int, total: int) -> None:
        if done >= CHUNK_BYTES:
            raise Cable

    with contextlib.suppress(Cable), Board("sim") as board:
        board.upload(other, cut)
    assert edgectl("status", "--json").document["live"] == before
    assert edgectl("deploy", tmp_path / "other.bundle").code == 0
    assert edgectl("deploy", demo_bundle, "--json").document["bundle"]["digest"] == before["digest"]


def test_a_deploy_killed_during_the_upload(edgectl: Edgectl, demo_board: SimulatedBoard) -> None:
    code = (
        "import os\nfrom edgectl.boards import client, leasing\nclient.CHUNK_BYTES = 1000\n"
        "leasing.take.__defaults__ = (3.0, *leasing.take.__defaults__[1:])\n"
        "from edgectl.stages import Stages\n"
        "def progress(self, done, total):\n"
        "    if self._current == 'upload' and done > 5000:\n        os.kill(os.getpid(), 9)\n"
        "Stages.progress = progress\n"
        "from edgectl.cli import main\nmain()\n"
    )
    process = spawn("deploy", DEMO, "--shape", "3,40,40", code=code)
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    assert edgectl("run", "--json").document["top"][0]["label"] == "cat"
    assert edgectl("deploy", DEMO, "--shape", "3,40,40").code == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder with room for 200 kB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "edgectl-test", str(folder)], capture_output=True, text=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"a size-limited file system cannot be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_state_directory(
    edgectl: Edgectl, small_disk: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EDGECTL_STATE", str(small_disk))
    result = edgectl("deploy", DEMO)
    assert (result.code, result.out) == (1, "")
    assert "free" in result.err or "No space left" in result.err
    assert eventually(lambda: not agents(tmp_path))
    monkeypatch.setenv("EDGECTL_STATE", str(tmp_path / "roomy"))
    try:
        assert edgectl("deploy", DEMO).code == 0
    finally:
        edgectl("stop")


def test_a_full_cache_directory(edgectl: Edgectl, small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with file_server() as server:
        monkeypatch.setenv("EDGECTL_MIRROR", server.url)
        monkeypatch.setenv("EDGECTL_CACHE", str(small_disk))
        digest = zoo.find("resnet18_v1").gluon_sha1
        assert digest is not None
        server.routes[f"/gluon/models/resnet18_v1-{digest[:8]}.zip"] = b"\0" * 1_000_000
        result = edgectl("compile", "resnet18_v1", "--weights", "pretrained")
    assert (result.code, result.out) == (1, "")
    assert "1000000 bytes" in result.err and "EDGECTL_CACHE" in result.err
    assert [path for path in small_disk.rglob("*") if path.is_file()] == []


def test_a_full_output_folder(edgectl: Edgectl, small_disk: Path) -> None:
    result = edgectl("compile", DEMO, "-o", small_disk / "out.bundle")
    assert (result.code, result.out) == (1, "")
    assert "No space left" in result.err
    assert list(small_disk.iterdir()) == []


def test_a_board_that_is_not_there(edgectl: Edgectl, own_board: SimulatedBoard) -> None:
    with pytest.raises(UnreachableError):
        Board("sim", start=False)
    for verb in ("run", "bench", "status"):
        result = edgectl(verb)
        assert (result.code, result.out) == (3, "") and "edgectl deploy MODEL" in result.err


def test_ctrl_c_while_the_command_line_is_imported() -> None:
    code = (
        "import builtins, edgectl.cli\n"
        "real = builtins.__import__\n"
        "def interrupted(name, *rest):\n"
        "    if name.startswith('typer'): raise KeyboardInterrupt\n"
        "    return real(name, *rest)\n"
        "builtins.__import__ = interrupted\n"
        "edgectl.cli.main()\n"
    )
    process = spawn("status", code=code, stderr=subprocess.PIPE, text=True)
    assert process.communicate(timeout=60)[1] == "error: interrupted\n"
    assert process.returncode == 130
