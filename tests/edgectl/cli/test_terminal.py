"""Progress and warnings on terminals and elsewhere."""

from __future__ import annotations

import os
import pty
import re
import sys
from pathlib import Path
from subprocess import Popen

import pytest

from edgectl.cli import terminal

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def on_terminal(arguments: list[str], columns: int = 80, **environment: str) -> str:
    """What `edgectl ARGUMENTS` writes to a terminal."""
    primary, secondary = pty.openpty()
    command = [sys.executable, "-c", "from edgectl.cli import main; main()", *arguments]
    variables = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(columns), **environment}
    with Popen(command, stdin=secondary, stdout=secondary, stderr=secondary, env=variables) as process:
        os.close(secondary)
        written = b""
        while True:
            try:
                chunk = os.read(primary, 65536)
            except OSError:  # Linux ends a terminal without writers so
                break
            if not chunk:
                break
            written += chunk
        assert process.wait(60) == 0, written
    os.close(primary)
    return written.decode()


def test_progress_names_and_times_the_stages() -> None:
    text = on_terminal(["compile", "resnet20_cifar10"])
    final = ESCAPE.sub("", text)
    for stage in ("import", "quantize", "compile for VTA", "compile for the CPU", "seal"):
        assert re.search(rf"✓ {stage} +\d+\.\d s", final), stage
    assert "\x1b[32m" in text  # the green of a finished stage


def test_no_color() -> None:
    text = on_terminal(["compile", "resnet20_cifar10"], NO_COLOR="1")
    assert "✓ import" in ESCAPE.sub("", text)
    assert not re.search(r"\x1b\[(3|4|9|10)\d(;\d+)*m", text)


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_the_banner_is_whole_at_every_width(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    words = [f"word{number}" for number in range(60)]
    terminal.banner("HEADLINE\n" + " ".join(words) + " [not markup]")
    lines = capsys.readouterr().err.splitlines()
    assert all(len(line) <= min(columns, terminal.BANNER_COLUMNS) for line in lines)
    assert " ".join(" ".join(line.strip("┃┏┓┗┛━ ") for line in lines).split()) == (
        "HEADLINE " + " ".join(words) + " [not markup]"
    )


def test_nothing_is_wrapped_in_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.failure("long " * 100 + "[brackets]")
    terminal.notices(["note " * 100])
    failure, note = capsys.readouterr().err.splitlines()
    assert failure == "error: " + "long " * 100 + "[brackets]"
    assert note.rstrip() == ("note: " + "note " * 100).rstrip()


def test_no_progress_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with terminal.stages() as stages, stages.stage("import"):
        stages.progress(1, 2)
    assert capsys.readouterr() == ("", "")
    assert list(stages.seconds) == ["import"]


@pytest.mark.parametrize(
    ("value", "text"), [(0.1234, "0.12 ms"), (9.87, "9.87 ms"), (98.76, "98.8 ms"), (12345.6, "12,346 ms")]
)
def test_milliseconds(value: float, text: str) -> None:
    assert terminal.milliseconds(value) == text


def test_stage_times() -> None:
    assert terminal.stage_times({"import": 0.14, "measure": 2.0}) == "2.1 s: import 0.1, measure 2.0"


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path) -> None:
    """`compile` writes to the working directory: see conftest.plain_environment."""
    assert Path.cwd().parent == tmp_path
