"""Which board a name means."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.boards import profile_names
from edgectl.boards.choosing import (
    NOT_YET,
    RemoteChoice,
    SimulatedChoice,
    SshChoice,
    check_profile,
    choose,
    selection,
    verified,
)
from edgectl.boards.client import Address, Connection
from edgectl.boards.discovery import FoundBoard
from edgectl.boards.inventory import Inventory, InventoryBoard
from edgectl.boards.ssh_target import SshTarget
from edgectl.boards.tracked import TrackerChoice
from edgectl.errors import IncompatibleError, UnreachableError, UsageError, VerificationError
from edgectl.simulated_board import SimulatedBoard
from tests.edge_agent.fakes import ID, KEY, Board, board

OTHER = "fedcba9876543210" * 2
PIN = "ssh-ed25519 SHA256:" + "A" * 43


def found(name: str, identity: str = ID, host: str = "10.0.0.7", direct: bool = True) -> FoundBoard:
    return FoundBoard(name, identity, "pynq", Address(host, 9091), Address(host, 9092), "", "", "", direct)


@pytest.fixture
def inventory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Inventory:
    monkeypatch.setenv("EDGECTL_INVENTORY", str(tmp_path / "boards.toml"))
    monkeypatch.setenv("EDGECTL_KEY", "pynq:environment")
    key = tmp_path / "desk.key"
    key.write_text("pynq:desk\n")
    key.chmod(0o600)
    filled = Inventory()
    filled.add(InventoryBoard("desk", ID, "pynq", "me@10.0.0.9", rpc_port=9191, host_key=PIN, key_file=str(key)))
    filled.add(InventoryBoard("rack", OTHER, address="10.0.0.8:9091"))
    return filled


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Board]:
    with board(tmp_path / "agent") as running:
        yield running


def test_the_simulated_board(own_board: SimulatedBoard) -> None:
    choice = choose("sim")
    assert isinstance(choice, SimulatedChoice) and choice.simulated.profile == "sim"
    with pytest.raises(UnreachableError, match="edgectl deploy MODEL"):
        choice.running()
    running = own_board.ensure()
    assert choice.running().state == running.state


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("board.local:9091", Address("board.local", 9091)),
        ("192.168.2.99:1", Address("192.168.2.99", 1)),
        ("[::1]:65535", Address("::1", 65535)),
    ],
)
def test_addresses(name: str, address: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGECTL_KEY", "pynq:secret")
    assert choose(name) == RemoteChoice(address, "pynq:secret")
    assert choose(name, "other") == RemoteChoice(address, "other")
    monkeypatch.delenv("EDGECTL_KEY")
    assert choose(name) == RemoteChoice(address, "")
    assert Address.parse(str(address)) == address


@pytest.mark.parametrize(
    "name",
    [":", "host:", ":9091", "host:0", "host:65536", "host:port", "host:-1", "host:٣", "h:0000809999999", "a b:1"],
)
def test_what_is_no_address(name: str) -> None:
    with pytest.raises(UsageError, match="is not HOST:PORT"):
        choose(name)


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("ssh://me@pynq", SshTarget("me", "pynq")),
        ("ssh://me@pynq:2222", SshTarget("me", "pynq", 2222)),
        ("ssh://me@[fe80::1]", SshTarget("me", "fe80::1")),
        ("ssh://me@[fe80::1]:2222", SshTarget("me", "fe80::1", 2222)),
    ],
)
def test_addresses_behind_ssh(text: str, target: SshTarget) -> None:
    assert choose(text, "key") == SshChoice(target, "key")
    assert SshTarget.parse(str(target)) == target


@pytest.mark.parametrize(
    "text", ["ssh://pynq", "ssh://@pynq", "ssh://me@", "ssh://me@h:0", "ssh://me@a:b:c", "ssh://-oX@h", "ssh://a b@h"]
)
def test_what_is_no_address_behind_ssh(text: str) -> None:
    with pytest.raises(UsageError, match=r"is not USER@HOST\[:PORT\]"):
        choose(text)


@pytest.mark.parametrize("name", NOT_YET)
def test_targets_not_there_yet(name: str) -> None:
    for function in (choose, check_profile):
        with pytest.raises(
            IncompatibleError, match=f"target '{name}' is not supported yet; supported are {', '.join(profile_names())}"
        ):
            function(name)


@pytest.mark.parametrize("name", ["", "Sim", "../sim", "pynq ", "\x1b[2J"])
def test_what_is_no_board(name: str) -> None:
    with pytest.raises(UsageError, match="there is no board") as raised:
        choose(name)
    assert "\x1b" not in str(raised.value)


def test_a_kind_of_board_is_not_a_board() -> None:
    assert check_profile("pynq") == "pynq"
    with pytest.raises(UsageError, match="--board HOST:PORT"):
        choose("pynq")


def test_boards_of_the_inventory_by_name_identity_and_address(inventory: Inventory, tmp_path: Path) -> None:
    desk = SshChoice(SshTarget("me", "10.0.0.9"), "pynq:desk", 9191, PIN, "", ID)
    rack = RemoteChoice(Address("10.0.0.8", 9091), "pynq:environment", OTHER)
    for name in ("desk", ID, ID[:8], "me@10.0.0.9"):
        assert choose(name) == desk
    for name in ("rack", OTHER, "10.0.0.8:9091"):
        assert choose(name) == rack
    assert choose("desk", "mine").key == "mine"  # type: ignore[union-attr]
    with pytest.raises(UsageError, match="did you mean desk"):
        choose("dsek")
    (tmp_path / "desk.key").chmod(0o640)
    with pytest.raises(UsageError, match="chmod 600"):
        choose("desk")


def test_a_beginning_that_two_boards_share_is_refused(inventory: Inventory) -> None:
    inventory.add(InventoryBoard("twin", ID[:16] + OTHER[:16], address="10.0.0.1:1"))
    with pytest.raises(UsageError, match="'01234567' can be desk or twin; name one"):
        choose("01234567")


def test_the_only_board_of_a_kind(inventory: Inventory) -> None:
    assert choose("type://pynq") == choose("desk")
    assert isinstance(choose("type://sim"), SimulatedChoice)
    inventory.add(InventoryBoard("second", type="pynq", address="a:1"))
    with pytest.raises(UsageError, match="you have desk, second; name one, with --board"):
        choose("type://pynq")
    for name in ("desk", "second"):
        inventory.remove(name)
    with pytest.raises(UsageError, match="you have none"):
        choose("type://pynq", browse=lambda seconds: [found("pynq-7")])


def test_a_discovered_board_is_used_only_when_named(inventory: Inventory) -> None:
    new = "a" * 32
    announced = [
        found("pynq-7", new),
        found("other", "b" * 32, "10.0.0.6"),
        found("behind", "c" * 32, "10.0.0.5", False),
    ]
    for name in ("pynq-7", new, new[:10], "10.0.0.7"):
        assert choose(name, browse=lambda seconds: announced) == RemoteChoice(
            Address("10.0.0.7", 9091), "pynq:environment", new
        )
    with pytest.raises(UsageError, match="did you mean pynq-7"):
        choose("pynk-7", browse=lambda seconds: announced)
    with pytest.raises(UsageError, match=r"edgectl boards add NAME --ssh USER@10\.0\.0\.5"):
        choose("behind", browse=lambda seconds: announced)
    assert isinstance(choose("sim", browse=lambda seconds: pytest.fail("it looked")), SimulatedChoice)


def test_who_announces_a_known_identity_gets_no_connection(inventory: Inventory) -> None:
    rogue = [found("rogue", ID, "10.6.6.6")]
    assert choose("rogue", browse=lambda seconds: rogue) == choose("desk")


def test_a_name_or_identity_that_is_announced_twice_is_refused(inventory: Inventory) -> None:
    for second in (found("pynq-7", "b" * 32, "10.0.0.6"), found("pynq-7", "a" * 32, "10.6.6.6")):
        with pytest.raises(UsageError, match=r"several boards announce themselves as 'pynq-7': aaaaaaaaaaaa at"):
            choose("pynq-7", browse=lambda seconds, second=second: [found("pynq-7", "a" * 32), second])


def test_options_together() -> None:
    assert selection() == "sim" and selection("desk") == "desk" and selection(kind="pynq") == "type://pynq"
    assert choose(selection(tracker="t:9190", tracker_key="pynq"), "pynq:x") == TrackerChoice(
        Address("t", 9190), "pynq", "pynq:x"
    )
    for options, message in (
        (("desk", "pynq"), "--board and --type each name a board"),
        (("sim", "pynq", "t:1", "pynq"), "--type and --tracker"),
        (("sim", "", "t:1", ""), "needs --key TYPE"),
        (("sim", "", "", "pynq"), "needs --key TYPE"),
    ):
        with pytest.raises(UsageError, match=message):
            selection(*options)
    with pytest.raises(UsageError, match="EDGECTL_KEY"):
        choose("tracker://t:9190/pynq:token")
    with pytest.raises(UsageError, match="is not tracker://"):
        choose("tracker://t:9190")


def test_another_board_at_the_address_is_refused(agent: Board) -> None:
    address = Address(*agent.address)
    RemoteChoice(address, KEY, ID).connect(5).close()
    with pytest.raises(VerificationError, match=f"is {ID}, not {OTHER}: another board has its address"):
        RemoteChoice(address, KEY, OTHER).connect(5)
    verified(Connection(address, KEY), "").close()
