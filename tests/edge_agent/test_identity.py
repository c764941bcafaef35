"""An agent's identity stays, and is never a guess."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.errors import AgentError
from edge_agent.identity import identity


def test_it_stays_in_its_directory_and_differs_elsewhere(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    first = identity(here)
    assert len(first) == 32 and set(first) <= set("0123456789abcdef")
    assert identity(here) == first != identity(there)


@pytest.mark.parametrize("damage", [b"", b"\xff\xfe", b"0123\n", b"../../etc/passwd"])
def test_a_damaged_one_is_replaced(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "identity").write_bytes(damage)
    fresh = identity(tmp_path)
    assert identity(tmp_path) == fresh != damage.decode(errors="replace").strip()


def test_where_it_cannot_be_kept(tmp_path: Path) -> None:
    with pytest.raises(AgentError, match=r"identity .*cannot be written"):
        identity(tmp_path / "nowhere")
