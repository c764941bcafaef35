"""The walk-throughs of the documentation, run as they stand."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from edgectl.cli import main

DOCS = Path(__file__).parents[1] / "docs"
PAGES = ("walkthroughs.md",)
BLOCK = re.compile(r"(?:<!-- needs ([\w ]+) -->\n)?```(sh|python)\n(.*?)```", re.DOTALL)
PROMISED = re.compile(r"print\(.*\)  # (.*)")
FRAMEWORKS = ("torch", "mxnet")


@dataclass(frozen=True)
class Section:
    """What is below a heading: blocks as (frameworks that they need, language, code)."""

    title: str
    blocks: tuple[tuple[tuple[str, ...], str, str], ...]

    @property
    def frameworks(self) -> set[str]:
        return {name for needs, _, _ in self.blocks for name in needs}


def sections() -> Iterator[Section]:
    for page in PAGES:
        for part in (DOCS / page).read_text(encoding="utf-8").split("\n## ")[1:]:
            found = BLOCK.findall(part)
            assert len(found) == part.count("```") / 2, f"a block of another kind in {part.splitlines()[0]}"
            blocks = tuple((tuple(needs.split()), language, code) for needs, language, code in found)
            yield Section(part.splitlines()[0], blocks)


def cases() -> list[Any]:
    found = [section for section in sections() if section.blocks]
    return [
        pytest.param(
            section, marks=[getattr(pytest.mark, name) for name in sorted(section.frameworks)], id=section.title
        )
        for section in found
    ]


@pytest.mark.parametrize("section", cases())
def test_every_block_runs(
    section: Section, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Blocks that need a framework which is not here are left out, and the test is skipped where all others ran."""
    assert section.frameworks <= set(FRAMEWORKS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGECTL_CACHE", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(str(tmp_path))
    modules, missing = set(sys.modules), set[str]()
    try:
        for needs, language, code in section.blocks:
            if absent := {name for name in needs if find_spec(name) is None}:
                missing |= absent
            elif language == "python":
                exec(compile(code, section.title, "exec"), {"__name__": "__main__"})
                assert capsys.readouterr().out.splitlines() == PROMISED.findall(code)
            else:
                run(code, capsys)
    finally:
        for name in set(sys.modules) - modules:
            if str(getattr(sys.modules[name], "__file__", "") or "").startswith(str(tmp_path)):
                del sys.modules[name]
    if missing:
        pytest.skip(f"the blocks that need {' and '.join(sorted(missing))} were left out; the others ran")


def run(code: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Lines of commands; those that classify the cat must find it."""
    for line in code.splitlines():
        program, *arguments = shlex.split(line)
        assert program == "edgectl"
        code_of_exit = main(arguments)
        printed = capsys.readouterr()
        assert code_of_exit == 0, f"{line}: {printed.err}"
        if arguments[0] == "run" and not {"--output-layer", "--input"} & set(arguments):
            assert re.search(r"^cat\.jpg +score\ncat +9\d\.\d %$", printed.out, re.MULTILINE), printed.out
        elif arguments[0] == "convert":
            assert re.search(r"^\d+ layers compared on 2 random samples", printed.out, re.MULTILINE), printed.out


def test_all_four_jobs_are_there() -> None:
    found = list(sections())
    assert len(found) == 4 and all({"sh", "python"} == {language for _, language, _ in s.blocks} for s in found)
