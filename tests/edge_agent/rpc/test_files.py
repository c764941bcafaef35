"""A session's folder takes plain names only."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent import durable
from edge_agent.errors import AgentError, InputError
from edge_agent.rpc import files
from edge_agent.rpc.files import Files


@pytest.mark.parametrize(
    "name", ["../x", "/etc/passwd", "a/b", "..", ".", "", "a\0b", "a\nb", "x" * 256, "é" * 128, "a\\b", "\ud800"]
)
def test_names_that_are_no_names(tmp_path: Path, name: str) -> None:
    folder = Files(tmp_path / "session", 100)
    for call in (lambda: folder.write(name, b"x"), lambda: folder.read(name), lambda: folder.remove(name)):
        with pytest.raises(InputError):
            call()
    assert not list(tmp_path.iterdir())


def test_files_are_kept_listed_and_removed(tmp_path: Path) -> None:
    folder = Files(tmp_path / "session", 100)
    assert folder.names() == []
    folder.write("b.txt", b"one")
    folder.write("a", b"two")
    folder.write("a", b"three")
    assert folder.names() == ["a", "b.txt"]
    assert folder.read("a") == b"three"
    folder.remove("a")
    with pytest.raises(InputError, match="no file 'a'"):
        folder.read("a")
    folder.clear()
    assert not (tmp_path / "session").exists()


def test_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Files(tmp_path / "session", 100)
    folder.write("a", bytes(60))
    folder.write("a", bytes(100))
    with pytest.raises(InputError, match="100 bytes"):
        folder.write("b", b"x")
    monkeypatch.setattr(files, "MAXIMUM_FILES", 1)
    with pytest.raises(InputError, match="at most 1 files"):
        folder.write("b", b"")


def test_a_full_disk_is_said_before_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Files(tmp_path / "session", 100)
    monkeypatch.setattr(durable, "RESERVED_BYTES", 1 << 62)
    with pytest.raises(AgentError, match="10 bytes do not fit on the agent's disk"):
        folder.write("a", bytes(10))
    assert folder.names() == []
