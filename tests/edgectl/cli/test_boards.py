"""`edgectl boards` and its sub-verbs, `edgectl lease`, and the options that choose a board."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgectl.boards import discovery, leasing
from edgectl.boards.client import Address, Connection
from edgectl.boards.discovery import FoundBoard
from edgectl.boards.inventory import Inventory, InventoryBoard
from edgectl.boards.listing import BoardEntry, merge
from edgectl.boards.tracked import TrackedBoard
from edgectl.errors import UnreachableError
from tests.edge_agent.fakes import ID, KEY, Board, board
from tests.edgectl.cli.conftest import Edgectl, spawn

OTHER = "f" * 32


@pytest.fixture(autouse=True)
def own_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGECTL_INVENTORY", str(tmp_path / "boards.toml"))
    monkeypatch.setenv("EDGECTL_STATE", str(tmp_path / "state"))


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Board]:
    with board(tmp_path / "agent") as running:
        yield running


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    file = tmp_path / "agent.key"
    file.write_text(KEY)
    file.chmod(0o600)
    return file


@pytest.fixture
def desk(agent: Board, key_file: Path, edgectl: Edgectl) -> str:
    """The agent in the inventory; its address."""
    address = f"127.0.0.1:{agent.server.port}"
    assert edgectl("boards", "add", "desk", "--address", address, "--key-file", key_file).code == 0
    return address


def found(name: str, identity: str, host: str = "10.0.0.7", direct: bool = True) -> FoundBoard:
    return FoundBoard(name, identity, "pynq", Address(host, 9091), Address(host, 9092), "c", "bits", "net", direct)


def test_a_board_from_add_to_remove(edgectl: Edgectl, agent: Board, desk: str, key_file: Path) -> None:
    assert Inventory().boards()["desk"] == InventoryBoard("desk", ID, "sim", address=desk, key_file=str(key_file))
    (entry,) = [each for each in edgectl("boards", "list", "--json").document if "inventory" in each["sources"]]
    assert (entry["name"], entry["id"], entry["state"], entry["address"]) == ("desk", ID, "running", desk)
    shown = edgectl("boards").out
    assert f"{ID[:12]}  now" in shown and ID not in shown
    assert edgectl("status", "--board", "desk", "--json").document["id"] == ID
    assert edgectl("status", "--board", ID[:8], "--json").document["id"] == ID
    renamed = edgectl("boards", "rename", "desk", "lab")
    assert (renamed.code, renamed.out) == (0, "desk is now lab\n")
    assert edgectl("status", "--board", "desk").code == 2
    removed = edgectl("boards", "remove", "lab", "--json")
    assert removed.document["name"] == "lab" and Inventory().boards() == {}
    assert edgectl("boards", "remove", "lab").code == 2


def test_a_board_that_stopped_answering_was_last_seen(edgectl: Edgectl, agent: Board, desk: str) -> None:
    before = {each["name"]: each for each in edgectl("boards", "--json").document}["desk"]
    agent.server.close()
    after = {each["name"]: each for each in edgectl("boards", "--json").document}["desk"]
    assert after["state"] == "not answering" and after["last_seen"] == before["last_seen"]


def test_adding_what_cannot_be_met_writes_nothing(edgectl: Edgectl, agent: Board, tmp_path: Path) -> None:
    open_file = tmp_path / "open.key"
    open_file.write_text(KEY)
    open_file.chmod(0o644)
    wrong = tmp_path / "wrong.key"
    wrong.write_text("sim:wrong")
    wrong.chmod(0o600)
    address = f"127.0.0.1:{agent.server.port}"
    for options, code, message in (
        (("a",), 2, "needs either ssh"),
        (("a", "--address", address, "--ssh", "me@h"), 2, "needs either ssh"),
        (("sim", "--address", address), 2, "is a kind of board"),
        (("a", "--address", address, "--key-file", open_file), 2, "chmod 600"),
        (("a", "--address", address, "--key-file", wrong), 4, "refuses the key"),
        (("a", "--address", "127.0.0.1:1"), 3, "no agent answers"),
    ):
        result = edgectl("boards", "add", *options)
        assert (result.code, result.out) == (code, "") and message in result.err
    assert not Inventory().path.exists()


def test_a_damaged_inventory_is_said_by_every_verb_that_reads_it(edgectl: Edgectl, tmp_path: Path) -> None:
    (tmp_path / "boards.toml").write_text("[boards.a]\n\nshs = 3\n")
    for command in (("boards",), ("boards", "add", "b", "--address", "h:1"), ("status", "--board", "desk")):
        result = edgectl(*command)
        assert result.code == 2 and "line 3: board 'a': 'shs' is not known" in result.err
    assert (tmp_path / "boards.toml").read_text() == "[boards.a]\n\nshs = 3\n"


def test_announced_boards_are_listed_and_cannot_speak_to_the_terminal(
    edgectl: Edgectl, desk: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovery, "browse", lambda seconds: [found("[red]new[/red]", OTHER), found("x", ID)])
    entries = {each["name"]: each for each in edgectl("boards", "--json").document}
    assert entries["[red]new[/red]"]["state"] == "announced" and entries["[red]new[/red]"]["model"] == "net"
    assert entries["desk"]["sources"] == ["inventory", "mdns"] and entries["desk"]["address"] == desk
    assert "also announced at 10.0.0.7:9091" in entries["desk"]["state"]
    assert "[red]new[/red]" in edgectl("boards").out
    assert "[red]" not in edgectl("boards", "--no-discovery").out


def test_no_multicast_is_a_notice(edgectl: Edgectl, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(seconds: float) -> list[FoundBoard]:
        raise UnreachableError("boards cannot be looked for by mDNS: no network")

    monkeypatch.setattr(discovery, "browse", fail)
    result = edgectl("boards", "--json")
    assert result.code == 0 and "note: boards cannot be looked for by mDNS" in result.err
    assert {"sim", "pynq"} <= {entry["name"] for entry in result.document}


def test_merged_by_identity_what_the_inventory_says_holds() -> None:
    mine = BoardEntry("desk", "", "", "running", "10.0.0.9:9091", id=ID, sources=("inventory",))
    rows = merge(
        [mine],
        [
            found("rogue", ID, "10.6.6.6"),
            found("one", OTHER),
            found("two", OTHER, "10.0.0.8"),
            found("b", "b" * 32, direct=False),
        ],
        [TrackedBoard("pynq", Address("10.0.0.9", 9091), 1), TrackedBoard("pynq", Address("10.0.0.5", 9091), 0)],
    )
    assert [(row.name, row.address) for row in rows] == [
        ("desk", "10.0.0.9:9091"),
        ("one", "10.0.0.7:9091"),
        ("two", "10.0.0.8:9091"),
        ("b", "ssh://10.0.0.7"),
        ("pynq", "10.0.0.5:9091"),
    ]
    assert rows[0].state == "running; also announced at 10.6.6.6:9091"
    assert rows[0].sources == ("inventory", "mdns", "tracker")
    assert rows[1].state == rows[2].state == "announced, its id twice: one is not what it says"
    assert rows[4].state == "registered, 0 free"


def test_watch_goes_on_until_it_is_interrupted(agent: Board) -> None:
    process = spawn("boards", "--watch", "--no-discovery", code=(
        "from edgectl.cli.verbs import boards\nboards.WATCH_SECONDS = 0.05\nfrom edgectl.cli import main\nmain()"
    ))  # fmt: skip
    assert process.stdout is not None
    tables = 0
    while tables < 3:
        line = process.stdout.readline()
        assert line, "it ended"
        tables += line.startswith("board ")
    process.send_signal(2)
    process.communicate(timeout=60)
    assert process.returncode == 130


def test_a_lease_from_the_command_line(edgectl: Edgectl, agent: Board, desk: str, tmp_path: Path) -> None:
    taken = edgectl("lease", "desk", "--for", "5m", "--json").document
    assert taken["yours"] and taken["lease"]["owner"] == leasing.owner()
    assert 290 < taken["lease"]["seconds_left"] <= 300 and not taken["lease"]["automatic"]
    (token,) = (tmp_path / "state" / "leases").glob("*.json")
    assert stat.S_IMODE(os.stat(token).st_mode) == 0o600
    secret = json.loads(token.read_text())["token"]
    status = edgectl("status", "--board", "desk")
    assert "has it for a lease until" in status.out and secret not in status.out
    assert edgectl("boards").out.count(f"held by {leasing.owner()}") == 1
    longer = edgectl("lease", "desk", "--for", "2h")
    assert longer.code == 0 and secret not in longer.out and "edgectl lease desk --release" in longer.out
    with Connection(agent.address, KEY) as other, pytest.raises(Exception, match="held by"):
        other.take_lease("eve", "deploy", 30, True)
    assert edgectl("lease", "desk", "--release").out == "'desk' is given back\n"
    assert not token.exists() and agent.endpoint.leases.status() is None
    assert edgectl("lease", "desk", "--release").out == "'desk' has no lease\n"


def test_the_loser_gets_exit_code_6_and_who_holds_it(edgectl: Edgectl, agent: Board, desk: str) -> None:
    with Connection(agent.address, KEY) as other:
        other.take_lease("ann@lab", "flash", 3600, False)
        for command in (("run", "--board", "desk"), ("bench", "--board", "desk"), ("lease", "desk")):
            result = edgectl(*command)
            assert (result.code, result.out) == (6, "") and "ann@lab has it for flash until" in result.err
        assert edgectl("run", "--board", "desk", "--wait", "0.1").code == 6
        assert edgectl("status", "--board", "desk", "--json").document["lease"]["owner"] == "ann@lab"
        assert edgectl("lease", "desk", "--release").out.startswith("'desk' was not yours: ann@lab has it")


def test_options_that_conflict_or_carry_secrets(edgectl: Edgectl) -> None:
    for options, message in (
        (("--board", "desk", "--type", "pynq"), "each name a board"),
        (("--tracker", "h:1"), "needs --key TYPE"),
        (("--tracker", "h:1", "--key", "pynq:token"), "their token belongs into EDGECTL_KEY"),
        (("--tracker", "h", "--key", "pynq"), "is not HOST:PORT"),
        (("--type", "pynq"), "you have none"),
        (("--board", "ssh://h"), "is not USER@HOST"),
    ):
        for verb in ("run", "status", "bench"):
            result = edgectl(verb, *options)
            assert (result.code, result.out) == (2, "") and message in result.err
    for text in ("0", "later"):
        assert edgectl("lease", "sim", "--for", text).code == 2
