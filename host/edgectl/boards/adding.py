"""How a board gets into the inventory: it is met once, and what it is then is pinned."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from edge_agent.boards import profile_names
from edgectl.boards.choosing import from_inventory
from edgectl.boards.inventory import Inventory, InventoryBoard
from edgectl.boards.metrics_address import is_host
from edgectl.boards.ssh_target import SshTarget
from edgectl.boards.untrusted import is_identity
from edgectl.errors import UsageError, VerificationError

_FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")
Confirm = Callable[[str], bool]


def add_board(board: InventoryBoard, accepted: str = "", confirm: Confirm | None = None) -> InventoryBoard:
    """Meet a board and write it down with its identity, kind and host key; the entry as written.

    The SSH host key is taken from known_hosts, or must have the `accepted` fingerprint `SHA256:...`, or `confirm` is
    asked with what to show. Nothing is written where any of it fails. Raises VerificationError (host key), UsageError
    (name or identity taken, key file), and what a connection raises.
    """
    inventory = Inventory()
    if board.name in inventory.boards():
        inventory.add(board)  # says that the name is taken
    _check_fingerprint(accepted)
    if board.ssh and not board.host_key:
        board = replace(board, host_key=pin(SshTarget.parse(board.ssh), accepted, confirm))
    with from_inventory(board).connect(10.0) as connection:
        status: dict[str, Any] = connection.status()
    identity, kind = str(status.get("id", "")), str(status.get("board", ""))
    met = replace(
        board,
        id=identity if is_identity(identity) else "",
        type=kind if kind in profile_names() else "",
        **_http(status),
    )
    inventory.add(met)
    return met


def _http(status: Mapping[str, Any]) -> dict[str, Any]:
    """Where HTTP listens on the board, as far as its agent says something that can be."""
    host, port = status.get("http_host"), status.get("http_port")
    said = {"http_host": host} if isinstance(host, str) and is_host(host) else {}
    return {**said, "http_port": port} if type(port) is int and 0 < port < 65536 else {}


def _check_fingerprint(accepted: str) -> None:
    if accepted and not _FINGERPRINT.fullmatch(accepted):
        raise UsageError(f"{accepted!r} is not a fingerprint SHA256:..., as ssh-keygen -lf shows it")


def pin(target: SshTarget, accepted: str, confirm: Confirm | None, command: str = "") -> str:
    """The host key `TYPE SHA256:...` that a server is to be pinned to, found as `add_board` says. `command` is what to
    repeat with --accept-fingerprint where nobody can be asked. Raises VerificationError, UsageError."""
    from edgectl.boards.host_keys import shown_key, unknown

    _check_fingerprint(accepted)
    key, known = shown_key(target, accepted)
    if known or accepted:
        return key
    question = (
        f"{target} shows the host key {key}, which known_hosts does not have.\n"
        "On the board, ssh-keygen -lf /etc/ssh/ssh_host_*_key.pub shows what it must be. Is it the same?"
    )
    if confirm is None:
        raise unknown(target, key, command)
    if not confirm(question):
        raise VerificationError(f"the host key of {target} was not accepted; nothing was written down")
    return key
