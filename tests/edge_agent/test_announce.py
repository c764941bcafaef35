"""What is announced fits into a TXT record, whatever it is; without zeroconf an agent serves unannounced."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent import announce
from edge_agent.announce import Announcement, Announcer
from edge_agent.errors import AgentError

ID = "0123456789abcdef" * 2
ANNOUNCEMENT = Announcement(ID, "desk", "pynq", "1x16_i8w8a32_15_15_18_17", "", "", "0.1.0", 9092, True)


def test_where_http_is() -> None:
    entries = {**ANNOUNCEMENT.__dict__, "direct": False}
    assert Announcement(**{**entries, "http_address": "10.0.0.8"}).properties()["http"] == "10.0.0.8:9092"
    assert Announcement(**{**entries, "http_address": "fd00::8"}).properties()["http"] == "[fd00::8]:9092"
    assert Announcement(**{**entries, "http_port": 0}).properties()["http"] == "0"


def test_the_record() -> None:
    properties = ANNOUNCEMENT.properties()
    assert next(iter(properties.items())) == ("txtvers", "1")
    assert properties["id"] == ID and properties["via"] == "tcp" and properties["http"] == "9092"
    assert ANNOUNCEMENT.instance == "desk-01234567"


@given(st.text(max_size=300), st.text(max_size=300), st.text(max_size=300), st.integers(0, 65535), st.booleans())
def test_it_always_fits(name: str, bitstream: str, model: str, port: int, direct: bool) -> None:
    announcement = Announcement(
        ID,
        name,
        "pynq-model",
        "1x16_i8w8a32_15_15_18_17",
        bitstream,
        model,
        "9" * 99,
        port,
        direct,
        "fd00:" * 7 + "8888",
    )
    properties = announcement.properties()
    assert all(len(key) <= 9 for key in properties) and len(announcement.instance.encode()) <= 63
    assert sum(2 + len(key.encode()) + len(value.encode()) for key, value in properties.items()) < 400
    assert "." not in announcement.instance


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zeroconf", None)
    with pytest.raises(AgentError, match=r"pip install 'edgectl\[announce\]'"):
        Announcer(lambda: ANNOUNCEMENT, "0.0.0.0", 1)


class Library:
    """Stands for zeroconf, to see what it is told, and to fail."""

    class IPVersion:
        V4Only = 4

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.failures = 0

    def Zeroconf(self, interfaces: list[str], ip_version: int) -> Library:
        self.calls.append(f"open {','.join(interfaces)}")
        return self

    def ServiceInfo(self, kind: str, name: str, **entries: Any) -> Any:
        return type("Info", (), {"name": name, **entries})

    def register_service(self, info: Any, allow_name_change: bool) -> None:
        if self.failures:
            self.failures -= 1
            raise OSError("network is unreachable")
        self.calls.append(f"register {info.properties['model']}")

    def update_service(self, info: Any) -> None:
        self.calls.append(f"update {info.properties['model']}")

    def unregister_all_services(self) -> None:
        self.calls.append("goodbye")

    def close(self) -> None:
        self.calls.append("close")


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Iterator[Library]:
    stand_in = Library()
    monkeypatch.setattr(announce, "library", lambda: stand_in)
    yield stand_in


def test_again_when_model_or_addresses_change_and_after_errors(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    current = {"model": "", "addresses": ("10.0.0.1",)}
    monkeypatch.setattr(announce, "own_addresses", lambda host: current["addresses"])
    base = ANNOUNCEMENT.__dict__
    announcer = Announcer(lambda: Announcement(**{**base, "model": current["model"]}), "0.0.0.0", 9091)
    announcer._refresh()
    announcer._refresh()
    assert library.calls == ["open 10.0.0.1", "register "]
    current["model"] = "resnet"
    announcer._refresh()
    assert library.calls[2:] == ["update resnet"]
    current["addresses"] = ("10.0.0.1", "10.0.0.2")
    announcer._refresh()
    assert library.calls[3:] == ["goodbye", "close", "open 10.0.0.1,10.0.0.2", "register resnet"]
    current["addresses"] = ()
    announcer._refresh()
    assert library.calls[7:] == ["goodbye", "close"]
    current["addresses"], library.failures = ("10.0.0.1",), 1
    with pytest.raises(OSError, match="unreachable"):
        announcer._refresh()
    announcer._withdraw()
    announcer._refresh()
    assert library.calls[-1] == "register resnet"


def test_the_thread_says_goodbye(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announce, "own_addresses", lambda host: ("10.0.0.1",))
    announcer = Announcer(lambda: ANNOUNCEMENT, "0.0.0.0", 9091)
    announcer.start()
    while "register " not in library.calls:
        announcer._stop.wait(0.01)
    announcer.close()
    assert library.calls[-2:] == ["goodbye", "close"]


def test_a_refused_network_is_told_once_and_tried_again(
    library: Library, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(announce, "own_addresses", lambda host: ("10.0.0.1",))
    monkeypatch.setattr(announce, "_RETRY_SECONDS", 0.01)
    library.failures = 5
    announcer = Announcer(lambda: ANNOUNCEMENT, "0.0.0.0", 9091)
    announcer.start()
    while "register " not in library.calls:
        announcer._stop.wait(0.01)
    monkeypatch.undo()
    announcer.close()
    assert [record.levelname for record in caplog.records if "unreachable" in record.message].count("WARNING") == 1
