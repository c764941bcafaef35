"""The walk-through of docs/conversion.md, run as it stands."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest

from edgectl.cli import main

PAGE = Path(__file__).parents[1] / "docs" / "conversion.md"
BLOCKS = re.findall(r"```(sh|python)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def test_every_block_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    assert [language for language, _ in BLOCKS] == ["sh", "python", "sh", "python", "sh"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGECTL_CACHE", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        for language, code in BLOCKS:
            if language == "python":
                exec(compile(code, PAGE.name, "exec"), {})
                continue
            for line in code.splitlines():
                program, *arguments = shlex.split(line)
                assert program == "edgectl"
                assert main(arguments) == 0, capsys.readouterr().err
    finally:
        sys.modules.pop("demo_torch", None)
    printed = capsys.readouterr().out
    assert "73 layers compared on 2 random samples" in printed and "\ncat  " in printed
    assert re.search(r"^[\d.e-]+ True$", printed, re.MULTILINE)
    assert {"mxnet.bundle", "torch.bundle", "again-symbol.json", "demo_torch.pth"} <= {
        p.name for p in tmp_path.iterdir()
    }
