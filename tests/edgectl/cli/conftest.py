"""Runs verbs in this process and in one of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgectl.cli import main


@dataclass(frozen=True)
class Result:
    """What a command left: exit code, standard output, standard error."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document on standard output."""
        return json.loads(self.out)


Edgectl = Callable[..., Result]


@pytest.fixture(autouse=True)
def plain_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No terminal's settings, a cache of the test's own, and a working directory that takes stray files."""
    for name in ("COLUMNS", "FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "EDGECTL_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("EDGECTL_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)


@pytest.fixture
def edgectl(capsys: pytest.CaptureFixture[str]) -> Edgectl:
    """Run `edgectl ARGUMENTS...` in this process."""

    def run(*arguments: object) -> Result:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return Result(code, captured.out, captured.err)

    return run


def spawn(*arguments: object, code: str = "from edgectl.cli import main; main()", **options: Any) -> subprocess.Popen:
    """`edgectl ARGUMENTS...` as a process of its own, with text pipes."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, **{**pipes, **options})


def in_process_of_its_own(*arguments: object, **options: Any) -> Result:
    """Run `edgectl ARGUMENTS...` in a process of its own."""
    process = spawn(*arguments, **options)
    out, err = process.communicate(timeout=120)
    return Result(process.returncode, out or "", err or "")


def agents(directory: Path) -> list[int]:
    """Processes of agents whose state lies under `directory`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                command = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"edge_agent.agent" in command and any(part.startswith(os.fsencode(directory)) for part in command):
                found.append(int(entry.name))
    return found


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """24 images of noise with the classes 0 to 9."""
    generator = np.random.default_rng(0)
    path = tmp_path / "labelled.npz"
    np.savez(path, x=generator.integers(0, 256, (24, 32, 32, 3), np.uint8), y=np.arange(24) % 10)
    return path
