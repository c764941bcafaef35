"""What is scraped, and what hostile records cannot do to it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgectl.boards import discovery
from edgectl.boards.client import Address
from edgectl.boards.discovery import parse_record
from edgectl.boards.inventory import Inventory, InventoryBoard
from edgectl.boards.listing import BoardEntry, merge
from edgectl.boards.scrape_targets import ScrapeTarget, as_json, changes, find_targets, scrape_targets
from edgectl.boards.tracked import TrackedBoard
from edgectl.errors import UsageError

ID, OTHER = "0123456789abcdef" * 2, "f" * 32
TEXT = {b"txtvers": b"1", b"id": ID.encode(), b"name": b"desk", b"board": b"pynq", b"http": b"9092", b"via": b"tcp"}


def known(name: str, url: str, identity: str = "") -> BoardEntry:
    return BoardEntry(name, "", "", "", "", "", url, identity, "pynq", sources=("inventory",))


@pytest.fixture
def own_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGECTL_INVENTORY", str(tmp_path / "boards.toml"))
    monkeypatch.setenv("EDGECTL_STATE", str(tmp_path / "state"))


@pytest.mark.usefixtures("own_files")
def test_the_inventory_is_listed_though_nobody_answers() -> None:
    assert find_targets() == find_targets(discovered=True) and find_targets().targets == ()
    Inventory().add(InventoryBoard("desk", ID, "pynq", ssh="xilinx@10.0.0.7"))
    Inventory().add(InventoryBoard("rack", address="rack.lab:9091", http_host="10.9.0.1", http_port=80))
    Inventory().add(InventoryBoard("hidden", ssh="xilinx@10.0.0.8", http_host="127.0.0.1"))
    found = find_targets()
    assert found.targets == (
        ScrapeTarget(Address("10.0.0.7", 9092), "desk", "inventory", "pynq", ID),
        ScrapeTarget(Address("10.9.0.1", 80), "rack", "inventory"),
    )
    (notice,) = found.notices
    assert "'hidden' is not scraped" in notice and "--http-host 0.0.0.0" in notice


@pytest.mark.usefixtures("own_files")
def test_announced_boards_only_where_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    announced = parse_record("a", 9091, ["10.0.0.7"], {**TEXT, b"model": b"resnet"})
    assert announced is not None
    monkeypatch.setattr(discovery, "browse", lambda seconds: [announced])
    assert find_targets().targets == ()
    (target,) = find_targets(discovered=True).targets
    assert target == ScrapeTarget(Address("10.0.0.7", 9092), "desk", "mdns", "pynq", ID, "resnet")
    # The same board, written down: where the inventory says, once.
    Inventory().add(InventoryBoard("mine", ID, "pynq", ssh="xilinx@10.0.0.9"))
    (target,) = find_targets(discovered=True).targets
    assert (target.board, target.address, target.source) == ("mine", Address("10.0.0.9", 9092), "inventory")


@pytest.mark.usefixtures("own_files")
def test_a_damaged_inventory_is_said(tmp_path: Path) -> None:
    (tmp_path / "boards.toml").write_text("[boards.desk]\nhttp_port = 0\nssh = 'a@b'\n")
    with pytest.raises(UsageError, match="http_port is 0"):
        find_targets()
    (tmp_path / "boards.toml").write_text("[boards.desk]\nhttp_host = 'a/b'\nssh = 'a@b'\n")
    with pytest.raises(UsageError, match="http_host is 'a/b'"):
        find_targets()


def test_hearsay_takes_nobodys_name_or_address() -> None:
    boards = [known("desk", "http://10.0.0.7:9092/metrics", "a" * 32)]
    records = (
        ("10.0.0.66", {}),  # another identity, in desk's name
        ("10.0.0.7", {b"id": OTHER.encode(), b"name": b"thief"}),  # desk's address
        ("10.0.0.67", {b"id": OTHER.encode(), b"name": b"sim"}),  # the name of a kind
        ("10.0.0.68", {b"id": OTHER.encode(), b"name": b"ssh", b"http": b"127.0.0.1:22"}),  # this machine's services
    )
    announced = [found for host, text in records if (found := parse_record("x", 9091, [host], {**TEXT, **text}))]
    assert len(announced) == 4
    found = {target.board: target for target in scrape_targets(merge(boards, announced, ()))}
    assert {name: str(target.address) for name, target in found.items()} == {
        "desk": "10.0.0.7:9092", "desk-01234567": "10.0.0.66:9092", "sim-ffffffff": "10.0.0.67:9092",
    }  # fmt: skip


def test_boards_of_a_tracker_have_the_usual_port_and_are_not_this_machine() -> None:
    tracked = [
        TrackedBoard("pynq", Address("10.0.0.7", 9091), 1),
        TrackedBoard("pynq", Address("10.0.0.8", 9091), 1),
        TrackedBoard("x", Address("127.0.0.1", 1), 1),
        TrackedBoard("y", Address("10.0.0.9,evil", 1), 1),
    ]
    far = scrape_targets(merge([], [], tracked), Address("10.0.0.1", 9190))
    assert [(each.board, str(each.address)) for each in far] == [
        ("pynq-10.0.0.7", "10.0.0.7:9092"),
        ("pynq-10.0.0.8", "10.0.0.8:9092"),
    ]
    near = scrape_targets(merge([], [], tracked), Address("127.0.0.1", 9190))
    assert [(each.board, str(each.address)) for each in near][2:] == [("x", "127.0.0.1:9092")]


def test_the_form_that_prometheus_reads() -> None:
    assert json.loads(as_json(())) == []
    target = ScrapeTarget(Address("fd00::7", 9092), "desk", "mdns", "", ID)
    assert json.loads(as_json((target,))) == [
        {
            "targets": ["[fd00::7]:9092"],
            "labels": {"__meta_edge_board": "desk", "__meta_edge_source": "mdns", "__meta_edge_id": ID},
        }
    ]
    assert changes((target,), ()) == ["- desk [fd00::7]:9092"] and changes((target,), (target,)) == []


values = st.binary(max_size=80) | st.sampled_from([b"1", ID.encode(), b"pynq", b"desk", b"10.0.0.7:1", b"[::1]:22"])
records = st.dictionaries(st.sampled_from(list(TEXT)), values, max_size=6)


@given(st.lists(st.tuples(st.sampled_from(["10.0.0.7", "10.0.0.8", "fd00::1"]), records), max_size=6))
def test_whatever_is_announced_names_are_unique_and_addresses_are_others(changed: list[tuple[str, dict]]) -> None:
    found = [parse_record("x", 9091, [host], {**TEXT, **text}) for host, text in changed]
    boards = [known("desk", "http://10.0.0.7:9092/metrics", "a" * 32)]
    targets = scrape_targets(merge(boards, [each for each in found if each], ()))
    names, addresses = [each.board for each in targets], [each.address for each in targets]
    assert targets[0].board == "desk" and len(set(names)) == len(names) and len(set(addresses)) == len(addresses)
    for group in json.loads(as_json(targets)):
        (place,) = group["targets"]
        host = Address.parse(place).host
        assert not host.startswith("127.") and host != "::1"
        assert all(value.isprintable() and 0 < len(value) <= 160 for value in group["labels"].values())
