"""The boards that their user has written down: a TOML file, which edgectl edits and people may.

    [boards.desk]
    ssh = "xilinx@pynq.local"
    host_key = "ssh-ed25519 SHA256:..."
    key_file = "~/.config/edgectl/desk.key"

Keys are never in it, only the names of their files. Comments and the order of entries survive an edit.
"""

from __future__ import annotations

import bisect
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TypeVar

import platformdirs
import tomlkit
from tomlkit.exceptions import ParseError, TOMLKitError

from edge_agent.boards import profile_names
from edge_agent.listening import EVERYWHERE
from edgectl.boards.client import Address
from edgectl.boards.keys import key_from_environment, read_key
from edgectl.boards.metrics_address import http_address, is_host
from edgectl.boards.ssh_target import SshTarget
from edgectl.boards.untrusted import is_identity
from edgectl.errors import EdgectlError, UsageError
from edgectl.files import atomic_file, exclusive, state_directory

DEFAULT_RPC_PORT = 9091
DEFAULT_HTTP_PORT = 9092
MAXIMUM_BYTES = 1 << 20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_HOST_KEY = re.compile(r"[a-z0-9@.-]+ SHA256:[A-Za-z0-9+/]{43}")
_LOCK_SECONDS = 10.0
EditResult = TypeVar("EditResult")


@dataclass(frozen=True)
class InventoryBoard:
    """One board: reached through `ssh` (USER@HOST[:PORT]) or, where that is empty, directly at `address` (HOST:PORT).

    `rpc_port` is the agent's port on the loopback of a board behind SSH, `host_key` what its SSH server is pinned to,
    `identity_file` the private key to log in with. `key_file` holds the RPC key. `id` and `type` are the agent's, and
    so is where HTTP listens there: `http_host`, `http_port`.
    """

    name: str
    id: str = ""
    type: str = ""
    ssh: str = ""
    address: str = ""
    rpc_port: int = DEFAULT_RPC_PORT
    host_key: str = ""
    identity_file: str = ""
    key_file: str = ""
    http_host: str = EVERYWHERE
    http_port: int = DEFAULT_HTTP_PORT

    def __post_init__(self) -> None:
        """Raises UsageError where an entry cannot be."""
        check_name(self.name)
        if bool(self.ssh) == bool(self.address):
            raise UsageError(f'board \'{self.name}\' needs either ssh = "USER@HOST" or address = "HOST:PORT"')
        if self.ssh:
            SshTarget.parse(self.ssh)
        else:
            Address.parse(self.address)
        if self.id and not is_identity(self.id):
            raise UsageError(f"board '{self.name}': id is {self.id!r}, it must have 32 hexadecimal digits")
        if self.type and self.type not in profile_names():
            raise UsageError(f"board '{self.name}': type is {self.type!r}, known are {', '.join(profile_names())}")
        if self.host_key and not _HOST_KEY.fullmatch(self.host_key):
            raise UsageError(f"board '{self.name}': host_key is {self.host_key!r}, it must be \"TYPE SHA256:...\"")
        for entry, port in (("rpc_port", self.rpc_port), ("http_port", self.http_port)):
            if not 0 < port < 65536:
                raise UsageError(f"board '{self.name}': {entry} is {port}, it must be 1 to 65535")
        if not is_host(self.http_host):
            raise UsageError(f"board '{self.name}': http_host is {self.http_host!r}, it must be an address")

    @property
    def place(self) -> str:
        """Where it is, for people."""
        return f"ssh://{self.ssh}" if self.ssh else self.address

    @property
    def http_address(self) -> Address | None:
        """Where its metrics are scraped from here; None where its agent said that they cannot be."""
        host = SshTarget.parse(self.ssh).host if self.ssh else Address.parse(self.address).host
        return http_address({"http_host": self.http_host, "http_port": self.http_port}, host)

    def key(self) -> str:
        """The RPC key: of its own file, else of the environment, where it may be meant for another board.

        Raises UsageError where the file is unusable.
        """
        return read_key(self.key_file) if self.key_file else key_from_environment()


def check_name(name: str) -> str:
    """`name`, if a board can have it. Raises UsageError."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot be the name of a board: 1 to 63 letters, digits, '.', '_' and '-', the first a letter "
            "or a digit"
        )
    if name in profile_names():
        raise UsageError(f"'{name}' is a kind of board; give this one another name, such as {name}-1")
    if is_identity(name):
        raise UsageError(f"'{name}' looks like an identity; give the board a name for people")
    return name


def inventory_path() -> Path:
    """The file: $EDGECTL_INVENTORY, or boards.toml in the user's configuration folder."""
    if chosen := os.environ.get("EDGECTL_INVENTORY"):
        return Path(chosen).expanduser()
    return platformdirs.user_config_path("edgectl") / "boards.toml"


class Inventory:
    """The file at `path`. Every change is read, made and written under a lock; a damaged file is never overwritten."""

    def __init__(self, path: Path | None = None) -> None:
        # Behind a link, such as one of a folder under version control, the file itself is replaced, not the link.
        self.path = (path or inventory_path()).resolve()

    def boards(self) -> dict[str, InventoryBoard]:
        """The boards by name, none where there is no file. Raises UsageError, naming the line, where it is damaged."""
        return self._parse(self._read())

    def add(self, board: InventoryBoard) -> None:
        """Write down a board. Raises UsageError where its name or identity is taken."""

        def change(document: tomlkit.TOMLDocument, known: Mapping[str, InventoryBoard]) -> None:
            if board.name in known:
                raise UsageError(
                    f"there is a board '{board.name}' already, at {known[board.name].place}; remove it first: "
                    f"edgectl boards remove {board.name}"
                )
            if twin := next((other for other in known.values() if board.id and other.id == board.id), None):
                raise UsageError(
                    f"this board is known as '{twin.name}'; rename it: edgectl boards rename {twin.name} NAME"
                )
            table = tomlkit.table()
            for field in fields(InventoryBoard)[1:]:
                if (value := getattr(board, field.name)) != field.default:
                    table[field.name] = value
            _boards_table(document)[board.name] = table

        self._edit(change)

    def remove(self, name: str) -> InventoryBoard:
        """Forget a board. Raises UsageError where it is not known."""

        def change(document: tomlkit.TOMLDocument, known: Mapping[str, InventoryBoard]) -> InventoryBoard:
            board = _existing(known, name)
            del _boards_table(document)[name]
            return board

        return self._edit(change)

    def rename(self, old: str, new: str) -> InventoryBoard:
        """Give a board another name. Raises UsageError where it is not known, or the name is taken or impossible."""

        def change(document: tomlkit.TOMLDocument, known: Mapping[str, InventoryBoard]) -> InventoryBoard:
            board = replace(_existing(known, old), name=check_name(new))
            if new in known:
                raise UsageError(f"there is a board '{new}' already, at {known[new].place}")
            table = _boards_table(document)
            table[new] = table.pop(old)
            return board

        return self._edit(change)

    def _edit(self, change: Callable[[tomlkit.TOMLDocument, Mapping[str, InventoryBoard]], EditResult]) -> EditResult:
        with self._locked():
            text = self._read()
            known = self._parse(text)
            document = tomlkit.parse(text)
            result = change(document, known)
            written = tomlkit.dumps(document)
            self._parse(written)
            with atomic_file(self.path, mode=0o600) as file:
                file.write(written.encode())
            return result

    @contextmanager
    def _locked(self) -> Iterator[None]:
        lock = state_directory() / "inventory.lock"
        busy = f"another edgectl has been editing {self.path} for too long; end that one first"
        try:
            with exclusive(lock, _LOCK_SECONDS, busy):
                yield
        except OSError as error:
            raise EdgectlError(
                f"{lock} cannot be used: {error.strerror}; choose a folder with EDGECTL_STATE"
            ) from error

    def _read(self) -> str:
        try:
            with self.path.open("rb") as file:
                data = file.read(MAXIMUM_BYTES + 1)
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise UsageError(
                f"the inventory {self.path} cannot be read: {error.strerror}; choose another with EDGECTL_INVENTORY"
            ) from error
        if len(data) > MAXIMUM_BYTES:
            raise UsageError(f"the inventory {self.path} has more than {MAXIMUM_BYTES} bytes; is it the right file?")
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise self._damaged(data[: error.start].count(b"\n") + 1, "it is not UTF-8 text") from error

    def _damaged(self, line: int, what: str) -> UsageError:
        return UsageError(f"the inventory {self.path}, line {line}: {what}; correct it there, nothing was changed")

    def _parse(self, text: str) -> dict[str, InventoryBoard]:
        try:
            document = tomlkit.parse(text).unwrap()
        except ParseError as error:
            raise self._damaged(error.line, str(error).rpartition(" at line ")[0] or str(error)) from error
        except (TOMLKitError, RecursionError) as error:
            raise self._damaged(_first_bad_line(text), str(error)) from error
        for key, value in document.items():
            if key != "boards" or not isinstance(value, dict):
                raise self._damaged(_line(text, key), f"{key!r} is not known here, only tables [boards.NAME] are")
        kinds = {field.name: type(field.default) for field in fields(InventoryBoard)[1:]}
        found: dict[str, InventoryBoard] = {}
        identities: dict[str, str] = {}
        for name, entries in document.get("boards", {}).items():
            line = _line(text, name)
            if not isinstance(entries, dict):
                raise self._damaged(line, f"board {name!r} must be a table [boards.NAME]")
            for key, value in entries.items():
                if type(value) is not kinds.get(key):
                    said = f"{key!r} is {value!r}" if key in kinds else f"{key!r} is not known, only {', '.join(kinds)}"
                    raise self._damaged(_line(text, key, line), f"board {name!r}: {said}")
            try:
                board = InventoryBoard(name, **entries)
            except UsageError as error:
                raise self._damaged(line, str(error)) from error
            if board.id and (twin := identities.setdefault(board.id, name)) != name:
                raise self._damaged(line, f"boards '{twin}' and '{name}' have the same id {board.id}")
            found[name] = board
        return found


def _boards_table(document: tomlkit.TOMLDocument) -> tomlkit.items.Table:
    if "boards" not in document:
        document["boards"] = tomlkit.table(is_super_table=True)
    table: tomlkit.items.Table = document["boards"]
    return table


def _existing(known: Mapping[str, InventoryBoard], name: str) -> InventoryBoard:
    if name not in known:
        raise UsageError(f"there is no board '{name}' in the inventory; known are {', '.join(known) or 'none'}")
    return known[name]


def _first_bad_line(text: str) -> int:
    """The line that ends the shortest beginning of `text` with an error that the parser tells no line of."""
    lines = text.splitlines(keepends=True)

    def bad(count: int) -> bool:
        try:
            tomlkit.parse("".join(lines[:count]))
        except ParseError:  # cut off in the middle of something
            return False
        except (TOMLKitError, RecursionError):
            return True
        return False

    return bisect.bisect_left(range(len(lines)), True, key=bad)


def _line(text: str, word: str, begin: int = 1) -> int:
    """The first line from `begin` on whose key or table is `word`, which TOML's values no longer tell; else `begin`."""
    name = rf"""["']?{re.escape(word)}["']?"""
    pattern = re.compile(rf"\s*(\[(\s*boards\s*\.)?\s*{name}\s*[\].]|(boards\s*\.\s*)?{name}\s*[=.])")
    lines = enumerate(text.splitlines(), 1)
    return next((number for number, line in lines if number >= begin and pattern.match(line)), begin)
