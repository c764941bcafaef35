"""A file is complete or absent."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgectl.errors import EdgectlError
from edgectl.files import atomic_file


def test_content_appears_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    with atomic_file(path) as file:
        file.write(b"content")
        file.flush()
        assert not path.exists()
    assert path.read_bytes() == b"content"
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]


def test_a_failure_keeps_the_old_content_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError), atomic_file(path) as file:
        file.write(b"new")
        raise RuntimeError
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    message = "No space left on device"
    with pytest.raises(EdgectlError, match=f"cannot write .*file: {message}"), atomic_file(tmp_path / "file"):
        raise OSError(28, message)
    assert list(tmp_path.iterdir()) == []


def test_an_impossible_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "occupied").write_text("")
    with pytest.raises(EdgectlError, match="cannot write"), atomic_file(tmp_path / "occupied" / "file"):
        pass
