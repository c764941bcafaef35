"""When boards were last seen: kept, bounded, and never in the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgectl.boards.last_seen import MAXIMUM_ENTRIES, in_words, last_seen, remember


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGECTL_STATE", str(tmp_path))
    return tmp_path


def test_the_latest_are_kept() -> None:
    remember({"a" * 32: 5.0, "not an identity": 6.0})
    assert last_seen() == {"a" * 32: 5.0}
    remember({f"{number:032x}": 10.0 + number for number in range(MAXIMUM_ENTRIES)})
    assert len(last_seen()) == MAXIMUM_ENTRIES and "a" * 32 not in last_seen()


@pytest.mark.parametrize("damage", ["", "[]", '{"a": 1}', '{"' + "a" * 32 + '": "x"}', "[" * 100_000])
def test_a_damaged_file_is_as_none(state: Path, damage: str) -> None:
    (state / "seen.json").write_text(damage)
    assert last_seen() == {}
    remember({"b" * 32: 7.0})
    assert last_seen() == {"b" * 32: 7.0}


def test_where_it_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGECTL_STATE", "/proc/nowhere")
    remember({"b" * 32: 7.0})
    assert last_seen() == {}


def test_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 1_000_000.0)
    seconds = (0, 59, 61, 3600, 86400 * 3, -3600)
    assert [in_words(1_000_000.0 - past) for past in seconds] == [
        "now",
        "now",
        "1 min ago",
        "1 h ago",
        "3 days ago",
        "-",
    ]
    assert in_words(None) == "-"
