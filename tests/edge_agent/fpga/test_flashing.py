"""A flash on the board: what it leaves behind when it succeeds, fails, or is killed after any step."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from edge_agent.boards import profile
from edge_agent.errors import AgentError, DegradedError, IncompatibleError, InputError, VerificationError
from edge_agent.fpga.flashing import RECORD, STEPS, Flasher
from edge_agent.fpga.programmer import DirectProgrammer
from edge_agent.fpga.record import Loaded, Record
from edge_agent.hardware.system import System
from edge_agent.self_test.running import SelfTest
from edge_agent.uploads import Uploads
from tests.edge_agent.fpga.bitfiles import bit_file, configuration, swapped
from tests.edge_agent.fpga.kernel import Kernel, running_kernel

CONFIG = "1x16_i8w8a32_15_15_18_17"
FILES = [bit_file(configuration(seed=seed)) for seed in range(3)]
IMAGES = [hashlib.sha256(swapped(configuration(seed=seed))).hexdigest() for seed in range(3)]


def passes() -> SelfTest:
    return SelfTest({"GEMM": 0.5})


def described(number: int, config: str = CONFIG, isa: str = "0.0.2") -> Loaded:
    return Loaded(hashlib.sha256(FILES[number]).hexdigest(), f"vta-{number}.bit", config, isa)


@dataclass
class Bench:
    kernel: Kernel
    directory: Path

    def flasher(self, announce: Callable[[str], None] = lambda step: None) -> Flasher:
        return Flasher(
            profile("pynq"),
            self.directory,
            self.kernel.system,
            DirectProgrammer(self.kernel.system, profile("pynq")),
            announce,
        )

    def upload(self, flasher: Flasher, number: int) -> Loaded:
        part = flasher.shelf.incoming / "new.part"
        part.write_bytes(FILES[number])
        loaded = described(number)
        assert flasher.shelf.add(part) == loaded.sha256 and not part.exists()
        return loaded

    def flash(self, number: int, test: Callable[[], SelfTest] = passes) -> Flasher:
        flasher = self.flasher()
        flasher.flash(self.upload(flasher, number), test)
        return flasher

    def fails_on(self, number: int) -> Callable[[], SelfTest]:
        """A self-test that one image does not pass."""

        def test() -> SelfTest:
            if self.kernel.manager.loaded == IMAGES[number]:
                raise VerificationError("the self-test of GEMM is wrong in 1 of 1536 values")
            return passes()

        return test

    @property
    def files(self) -> list[str]:
        return sorted(path.name.partition(".")[0] for path in (self.directory / "bitstreams").iterdir())


@pytest.fixture
def bench(tmp_path: Path):  # type: ignore[no-untyped-def]
    with running_kernel(tmp_path / "root") as kernel:
        (tmp_path / "state").mkdir()
        yield Bench(kernel, tmp_path / "state")


def test_a_flash_and_the_next_one(bench: Bench) -> None:
    steps: list[str] = []
    flasher = bench.flasher(steps.append)
    flashed = flasher.flash(bench.upload(flasher, 0), passes)
    assert steps == list(STEPS) and set(flashed.seconds) == {"program", "self-test"}
    assert flashed.previous is None and flashed.as_dict()["self_test"]["cases"] == {"GEMM": 0.5}
    assert flasher.status() == {"bitstream": vars(described(0)), "previous": None, "problem": ""}
    assert bench.flash(1).status()["previous"] == vars(described(0))
    bench.flash(2)
    assert bench.kernel.programmed == IMAGES
    assert bench.files == sorted(described(number).sha256 for number in (1, 2))
    again = bench.flash(2).status()
    assert (again["bitstream"], again["previous"]) == (vars(described(2)), vars(described(1)))


def test_what_is_refused_before_anything_is_touched(bench: Bench) -> None:
    flasher = bench.flash(0)
    loaded = bench.upload(flasher, 1)
    for entry, error, message in (
        (described(2), InputError, "there is no bitstream .* on this board; upload it first"),
        (described(1, config="4x8_i8w8a32_15_16_16_18"), IncompatibleError, "configuration 4x8.*is for 1x16"),
        (described(1, isa="0.0.1"), IncompatibleError, "instruction set 0.0.1, board 'pynq' is for 0.0.2"),
    ):
        with pytest.raises(error, match=message):
            flasher.flash(entry, passes)
    flasher.shelf.path(loaded.sha256).write_bytes(FILES[1][:-4] + b"flip")
    with pytest.raises(VerificationError, match=r"was announced; send it again; .* vta-0.bit, is back"):
        flasher.flash(loaded, passes)
    assert IMAGES[1] not in bench.kernel.programmed
    assert Record.read(bench.directory / RECORD).pending is None


def test_a_failed_self_test_brings_back_the_one_before(bench: Bench) -> None:
    bench.flash(0)
    steps: list[str] = []
    flasher = bench.flasher(steps.append)
    with pytest.raises(
        VerificationError, match=r"GEMM is wrong in 1 of 1536 values; the bitstream before it, vta-0.bit, is back"
    ):
        flasher.flash(bench.upload(flasher, 1), bench.fails_on(1))
    assert bench.kernel.programmed == [IMAGES[0], IMAGES[1], IMAGES[0]] and steps[-1] == "restored"
    record = Record.read(bench.directory / RECORD)
    assert record.current == described(0) and record.pending is None and flasher.problem == ""
    assert bench.files == [described(0).sha256]


def test_a_failed_self_test_of_the_first_one(bench: Bench) -> None:
    flasher = bench.flasher()
    with pytest.raises(VerificationError, match=r"there was no bitstream before vta-1.bit that could be brought back"):
        flasher.flash(bench.upload(flasher, 1), bench.fails_on(1))
    assert "vta-1.bit failed" in flasher.problem
    restarted = bench.flasher()
    restarted.restore(passes)
    assert "interrupted, and there was no bitstream before it" in restarted.problem


def test_neither_passes(bench: Bench) -> None:
    bench.flash(0)
    flasher = bench.flasher()

    def broken() -> SelfTest:
        raise VerificationError("the self-test of GEMM does not end")

    with pytest.raises(DegradedError, match=r"does not end; the bitstream vta-0.bit could not be brought back"):
        flasher.flash(bench.upload(flasher, 1), broken)
    assert "could not be brought back" in flasher.status()["problem"]
    again = bench.flasher()
    again.restore(passes)
    assert again.problem == "" and bench.kernel.programmed[-1] == IMAGES[0]


def test_the_kernels_error_brings_it_back_too(bench: Bench) -> None:
    bench.flash(0)
    flasher = bench.flasher()
    loaded = bench.upload(flasher, 1)
    real = bench.kernel.manager._program

    def refuse(name: str) -> str:
        data = (bench.kernel.firmware / name).read_bytes()
        return "write error" if hashlib.sha256(data).hexdigest() == IMAGES[1] else real(name)

    bench.kernel.manager._program = refuse  # type: ignore[method-assign]
    with pytest.raises(VerificationError, match=r"its state is 'write error'; see its log .* vta-0.bit, is back"):
        flasher.flash(loaded, passes)


def test_after_the_system_was_started_again(bench: Bench) -> None:
    bench.flash(0)
    same = bench.flasher()
    same.restore(passes)
    assert bench.kernel.programmed == [IMAGES[0]], "the FPGA still holds it"
    bench.kernel.restart()
    bench.flasher().restore(passes)
    assert bench.kernel.programmed == [IMAGES[0]] * 2
    bench.kernel.restart()
    (bench.directory / "bitstreams" / f"{described(0).sha256}.bitstream").unlink()
    lost = bench.flasher()
    lost.restore(passes)
    assert "vta-0.bit could not be brought back" in lost.problem and "No such file" in lost.problem


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 2}', '{"schema": 1, "current": {"sha256": 5}}'])
def test_a_record_that_is_none(bench: Bench, text: str) -> None:
    (bench.directory / RECORD).write_text(text)
    assert bench.flasher().status() == {"bitstream": None, "previous": None, "problem": ""}


KILLED = """
import json, os, signal, sys
from pathlib import Path
from edge_agent import durable
from edge_agent.boards import profile
from edge_agent.fpga.flashing import Flasher
from edge_agent.fpga.programmer import DirectProgrammer
from edge_agent.fpga.record import Loaded
from edge_agent.hardware.system import System
from edge_agent.self_test.running import SelfTest
root, state, step, loaded = sys.argv[1:]
def die(): os.kill(os.getpid(), signal.SIGKILL)
def announce(reached):
    if reached == step: die()
name, _, number = step.partition(" ")
calls = {"count": 0}
if number:  # before or after the so-manieth file gets its name
    real = os.replace
    def replace(source, target):
        calls["count"] += 1
        if calls["count"] == int(number) and name == "before": die()
        real(source, target)
        if calls["count"] == int(number) and name == "after": die()
    os.replace = replace
board = profile("pynq")
flasher = Flasher(board, Path(state), System(Path(root)), DirectProgrammer(System(Path(root)), board), announce)
flasher.flash(Loaded(**json.loads(loaded)), lambda: SelfTest({}))
"""


@pytest.mark.parametrize(
    "step", [*STEPS, *(f"{when} {number}" for when in ("before", "after") for number in (1, 2, 3))]
)
def test_killed_after_every_step(bench: Bench, step: str) -> None:
    """The agent is killed, really; the one that starts then serves with a bitstream that has passed its test."""
    bench.flash(0)
    loaded = bench.upload(bench.flasher(), 1)
    arguments = [str(bench.kernel.system.root), str(bench.directory), step, json.dumps(vars(loaded))]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, *arguments], check=False, timeout=120, env=environment, capture_output=True
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    restarted = bench.flasher()
    restarted.restore(passes)
    assert restarted.problem == ""
    committed = step in ("committed", "swept", "after 3")
    current = restarted.status()["bitstream"]
    assert current == vars(described(1 if committed else 0))
    bench.kernel.manager.step()
    assert bench.kernel.manager.loaded == IMAGES[1 if committed else 0]
    assert not [path for path in bench.directory.rglob("*") if "temporary" in path.name or path.suffix == ".part"]
    assert set(bench.files) == restarted._record.kept
    bench.flash(2)
    assert bench.kernel.programmed[-1] == IMAGES[2]
    assert not [path for path in bench.kernel.firmware.iterdir() if "temporary" in path.name]


def test_uploads_end_on_the_shelf(bench: Bench) -> None:
    flasher = bench.flasher()
    uploads = Uploads(flasher.shelf)
    sha256 = described(0).sha256
    assert uploads.begin(len(FILES[0]), sha256) == 0
    half = len(FILES[0]) // 2
    assert uploads.chunk(sha256, 0, FILES[0][:half]) == half
    assert uploads.begin(len(FILES[0]), sha256) == half
    uploads.chunk(sha256, half, FILES[0][half:])
    assert uploads.commit(sha256) == sha256 and flasher.shelf.has(sha256)
    wrong = bit_file(configuration(), "7z010clg400")
    digest = hashlib.sha256(wrong).hexdigest()
    uploads.begin(len(wrong), digest)
    uploads.chunk(digest, 0, wrong)
    with pytest.raises(IncompatibleError, match=r"is for 7z010clg400"):
        uploads.commit(digest)
    assert bench.files == [sha256]
    with pytest.raises(InputError, match=r"a bitstream of 999999999 bytes cannot be"):
        uploads.begin(999_999_999, digest)


def test_a_full_disk_leaves_the_old_one(bench: Bench, tmp_path: Path) -> None:
    """The state directory is a real file system that has no room for another bitstream."""
    small = tmp_path / "small"
    small.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(small)]
    mounted = subprocess.run(command, capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"needs root to mount a small file system: {mounted.stderr.decode().strip()}")
    try:
        full = Bench(bench.kernel, small)
        full.flash(0)
        flasher = full.flasher()
        loaded = full.upload(flasher, 1)
        free = os.statvfs(small)
        (small / "filler").write_bytes(b"\0" * (free.f_bavail * free.f_frsize))
        with pytest.raises(AgentError, match=r"could not be recorded in .*: No space left on device"):
            flasher.flash(loaded, passes)
        assert full.kernel.programmed == [IMAGES[0]]
        assert Record.read(small / RECORD).current == described(0)
        with pytest.raises(AgentError, match=r"do not fit on the agent's disk: 0 are free"):
            Uploads(flasher.shelf).begin(len(FILES[2]), described(2).sha256)
        (small / "filler").unlink()
        flasher.flash(loaded, passes)
        assert full.kernel.programmed[-1] == IMAGES[1]
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_the_system_tells_its_start(tmp_path: Path) -> None:
    assert System(tmp_path).boot_id() == "" and len(System().boot_id()) == 36
