"""Faults are given by a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.errors import InputError
from edge_agent.register_model.quirks import Quirks, read_quirks


def test_there_and_back(tmp_path: Path) -> None:
    path = tmp_path / "quirks.json"
    assert read_quirks(path) == Quirks()
    quirks = Quirks(0.25, 0.5, "end", 3, False)
    quirks.write(path)
    assert read_quirks(path) == quirks and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("text", ["", "[]", "null", '{"colour": 1}', '{"flip": "three"}', '{"hang": 1}'])
def test_what_is_malformed(tmp_path: Path, text: str) -> None:
    (tmp_path / "quirks.json").write_text(text)
    with pytest.raises(InputError, match="malformed"):
        read_quirks(tmp_path / "quirks.json")


def test_flaws_of_one_image() -> None:
    everywhere, confined = Quirks(flip=2, hang="end"), Quirks(flip=2, hang="end", begin_seconds=1.0, flawed="abc")
    assert everywhere.of_image("abc") == everywhere.of_image("") == everywhere
    assert confined.of_image("abc") == confined
    assert confined.of_image("def") == Quirks(begin_seconds=1.0, flawed="abc")


def test_flaws_that_programming_ends() -> None:
    upset = Quirks(flip=2, hang="end", reset_works=False, upset=True)
    assert upset.of_image("abc") == upset
    assert upset.of_image("abc", programmed_since=True) == Quirks(reset_works=False, upset=True)
    assert Quirks(hang="end").of_image("abc", programmed_since=True) == Quirks(hang="end")
