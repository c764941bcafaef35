"""The inventory: what is written is read again, edits keep what people wrote, damage is named and left alone."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgectl.boards.inventory import Inventory, InventoryBoard, inventory_path
from edgectl.errors import UsageError

ID = "0123456789abcdef" * 2
DESK = InventoryBoard("desk", ID, "pynq", "xilinx@pynq.local:2222", rpc_port=9191, key_file="~/desk.key")
RACK = InventoryBoard("rack-1", address="[fe80::1]:9091", host_key="")


@pytest.fixture
def inventory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Inventory:
    monkeypatch.setenv("EDGECTL_INVENTORY", str(tmp_path / "config" / "boards.toml"))
    monkeypatch.setenv("EDGECTL_STATE", str(tmp_path / "state"))
    return Inventory()


def test_what_is_added_is_there_until_it_is_removed(inventory: Inventory) -> None:
    assert inventory.boards() == {}
    inventory.add(DESK)
    inventory.add(RACK)
    assert Inventory().boards() == {"desk": DESK, "rack-1": RACK}
    assert stat.S_IMODE(inventory.path.stat().st_mode) == 0o600
    assert inventory.rename("desk", "lab").name == "lab"
    assert inventory.remove("rack-1") == RACK
    assert inventory.boards() == {
        "lab": InventoryBoard("lab", ID, "pynq", DESK.ssh, rpc_port=9191, key_file="~/desk.key")
    }
    assert sorted(os.listdir(inventory.path.parent)) == ["boards.toml"]


def test_the_users_folder_without_a_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("EDGECTL_INVENTORY", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert inventory_path() == tmp_path / "edgectl" / "boards.toml"


def test_an_edit_keeps_comments_and_links(inventory: Inventory, tmp_path: Path) -> None:
    real = tmp_path / "dotfiles.toml"
    real.write_text('# ours\n[boards.desk]  # the blue one\nssh = "me@desk"\n')
    inventory.path.parent.mkdir()
    inventory.path.symlink_to(real)
    Inventory().add(RACK)
    assert real.read_text().startswith('# ours\n[boards.desk]  # the blue one\nssh = "me@desk"\n')
    assert (tmp_path / "config" / "boards.toml").is_symlink() and set(Inventory().boards()) == {"desk", "rack-1"}


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ('[boards.a]\nssh = "me@a"\n[boards.b\n', 3, "Unexpected character"),
        ('[boards.a]\nssh = "me@a"\nssh = "me@b"\n', 3, "already exists"),
        ('# one\n[boards.a]\nshh = "me@a"\n', 3, "'shh' is not known, only id, type, ssh"),
        ('[boards.a]\nssh = "me@a"\nrpc_port = "9091"\n', 3, "'rpc_port' is '9091'"),
        ('[boards.a]\nssh = "me@a"\n\n[boards.b]\n', 4, "board 'b' needs either ssh"),
        ('[boards.a]\nssh = "me@a"\naddress = "a:1"\n', 1, "board 'a' needs either ssh"),
        ('[boards.a]\naddress = "a"\n', 1, "'a' is not HOST:PORT"),
        ('[boards.a]\nssh = "a"\n', 1, r"'a' is not USER@HOST"),
        ('[boards.sim]\nssh = "me@a"\n', 1, "'sim' is a kind of board"),
        ('[boards."a b"]\nssh = "me@a"\n', 1, "cannot be the name"),
        ('[boards.a]\nssh = "me@a"\nid = "7"\n', 1, "32 hexadecimal digits"),
        ('[boards.a]\nssh = "me@a"\ntype = "pnyq"\n', 1, "type is 'pnyq', known are"),
        ('[boards.a]\nssh = "me@a"\nhost_key = "SHA256:x"\n', 1, "host_key is"),
        (f'[boards.a]\nssh = "me@a"\nid = "{ID}"\n[boards.b]\nssh = "me@b"\nid = "{ID}"\n', 4, "the same id"),
        ('[board.a]\nssh = "me@a"\n', 1, "'board' is not known here"),
        ("boards = 3\n", 1, "'boards' is not known here"),
        ("[boards]\na = 3\n", 2, "board 'a' must be a table"),
    ],
)
def test_a_damaged_file_is_an_error_with_the_line_and_stays(
    inventory: Inventory, text: str, line: int, message: str
) -> None:
    inventory.path.parent.mkdir()
    inventory.path.write_text(text)
    for attempt in (inventory.boards, lambda: inventory.add(RACK), lambda: inventory.remove("a")):
        with pytest.raises(UsageError, match=f"line {line}: .*{message}"):
            attempt()
    assert inventory.path.read_text() == text


def test_bytes_that_are_no_text(inventory: Inventory) -> None:
    inventory.path.parent.mkdir()
    inventory.path.write_bytes(b'[boards.a]\nssh = "\xff"\n')
    with pytest.raises(UsageError, match="line 2: it is not UTF-8"):
        inventory.boards()


def test_names_and_identities_are_taken_once(inventory: Inventory) -> None:
    inventory.add(DESK)
    with pytest.raises(UsageError, match=r"there is a board 'desk' already, at ssh://xilinx@pynq\.local:2222"):
        inventory.add(InventoryBoard("desk", address="a:1"))
    with pytest.raises(UsageError, match="known as 'desk'; rename it: edgectl boards rename desk NAME"):
        inventory.add(InventoryBoard("other", ID, address="a:1"))
    inventory.add(RACK)
    with pytest.raises(UsageError, match="there is a board 'desk' already"):
        inventory.rename("rack-1", "desk")
    with pytest.raises(UsageError, match="no board 'x' in the inventory; known are desk, rack-1"):
        inventory.remove("x")
    for name in ("", "pynq", "-x", "a/b", "x" * 64, "a\x1b[31m", ID):
        with pytest.raises(UsageError):
            inventory.rename("desk", name)
    assert set(inventory.boards()) == {"desk", "rack-1"}


def test_concurrent_edits_are_all_kept(inventory: Inventory) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: Inventory().add(InventoryBoard(f"b{number}", address="a:1")), range(16)))
    assert set(inventory.boards()) == {f"b{number}" for number in range(16)}


def test_the_key_is_in_a_file_of_its_owners_alone(
    inventory: Inventory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGECTL_KEY", "pynq:environment")
    file = tmp_path / "key"
    board = InventoryBoard("a", address="a:1", key_file=str(file))
    with pytest.raises(UsageError, match="cannot be read"):
        board.key()
    file.write_text("pynq:secret\n")
    file.chmod(0o644)
    with pytest.raises(UsageError, match=f"mode 0644.*chmod 600 {file}"):
        board.key()
    file.chmod(0o600)
    assert board.key() == "pynq:secret" and RACK.key() == "pynq:environment"
    for bad in ("", "two words", "x" * 201, "pynq:\x1b[2J"):
        file.write_text(bad)
        with pytest.raises(UsageError, match="one line TYPE:TOKEN") as raised:
            board.key()
        assert "\x1b" not in str(raised.value)


@given(st.text() | st.text(alphabet='[]boards.a="\n#'))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    Inventory(Path("/nowhere"))
    try:
        Inventory(Path("/nowhere"))._parse(text)
    except UsageError as error:
        assert "line " in str(error)
