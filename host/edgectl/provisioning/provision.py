"""What `edgectl provision` does: a fresh board becomes one of the inventory, with an agent that serves."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edge_agent.boards import BoardProfile, profile
from edge_agent.errors import AgentError
from edgectl.boards.adding import Confirm, add_board, pin
from edgectl.boards.choosing import check_profile, from_inventory
from edgectl.boards.inventory import Inventory, InventoryBoard, check_name, inventory_path
from edgectl.boards.keys import read_key
from edgectl.boards.remote_shell import RemoteShell, SshShell
from edgectl.boards.ssh_target import SshTarget
from edgectl.errors import EdgectlError, UsageError
from edgectl.files import atomic_file
from edgectl.preflight import Check, require
from edgectl.provisioning.facts import Facts, device_notices, gather, install_checks, kind_of, require_space
from edgectl.provisioning.running import (
    DONE,
    NOT_THERE,
    REMOVED,
    UNCHANGED,
    WOULD_DO,
    WOULD_REMOVE,
    Outcome,
    install,
    read_as_root,
)
from edgectl.provisioning.running import uninstall as undo
from edgectl.provisioning.steps import KEY, install_steps, leftover_steps, uninstall_steps
from edgectl.provisioning.wheelhouse import wheelhouse
from edgectl.stages import Stages

_TOKEN_BYTES = 16


@dataclass(frozen=True)
class ProvisionReport:
    """What was done, or with `dry_run` would be; `name` is the board's in the inventory."""

    login: str
    name: str
    profile: str
    checks: tuple[Check, ...]
    outcomes: tuple[Outcome, ...]
    dry_run: bool
    notices: tuple[str, ...] = ()
    timings: Mapping[str, float] = field(default_factory=dict)

    @property
    def changed(self) -> bool:
        """Whether anything had to be done."""
        return any(outcome.state not in (UNCHANGED, NOT_THERE) for outcome in self.outcomes)

    def as_dict(self) -> dict[str, Any]:
        return {
            "login": self.login,
            "name": self.name,
            "profile": self.profile,
            "checks": [check.as_dict() for check in self.checks],
            "steps": [outcome.as_dict() for outcome in self.outcomes],
            "changed": self.changed,
            "dry_run": self.dry_run,
            "notices": list(self.notices),
            "timings": dict(self.timings),
        }


@dataclass(frozen=True)
class Login:
    """How a board is reached: `ssh` is USER@HOST[:PORT], `accepted` a fingerprint of its host key, `confirm` is asked
    about one that nobody knows. Of a board in the inventory, its pinned host key and identity file are used."""

    ssh: str
    identity_file: str = ""
    accepted: str = ""
    confirm: Confirm | None = None

    def entry(self) -> InventoryBoard | None:
        """The board's entry in the inventory; None where it has none. Raises UsageError."""
        target = SshTarget.parse(self.ssh)
        boards = Inventory().boards().values()
        return next((board for board in boards if board.ssh and SshTarget.parse(board.ssh) == target), None)

    def board(self, name: str = "") -> InventoryBoard:
        """The board's entry, or one that could become it under this `name`, its host key pinned.

        Raises UsageError where it has another name or another board has this one, VerificationError and what a
        connection raises.
        """
        target, entry = SshTarget.parse(self.ssh), self.entry()
        if entry is not None:
            if name and name != entry.name:
                raise UsageError(
                    f"{target} is '{entry.name}' in your inventory; leave --name out, or first: edgectl boards rename "
                    f"{entry.name} {name}"
                )
            identity_file = self.identity_file or entry.identity_file
            return replace(entry, identity_file=identity_file, host_key=entry.host_key or self._pin(target))
        known = Inventory().boards()
        if name and check_name(name) in known:
            raise UsageError(
                f"there is a board '{name}' already, at {known[name].place}; give another --name, or remove it: "
                f"edgectl boards remove {name}"
            )
        return InventoryBoard(
            name or _UNNAMED, ssh=str(target), host_key=self._pin(target), identity_file=self.identity_file
        )

    def _pin(self, target: SshTarget) -> str:
        return pin(target, self.accepted, self.confirm, f"edgectl provision {target}")


_UNNAMED = "unnamed"
"""Until its host name is known."""


def provision(
    login: Login,
    name: str = "",
    kind: str = "",
    wheels: Path | None = None,
    dry_run: bool = False,
    stages: Stages | None = None,
) -> ProvisionReport:
    """Install an agent on a board and write the board down, whatever of that is not done yet.

    `name` defaults to the board's host name, `kind` of board to what its device tree says; `wheels` is a folder of them
    to be used without a network. With `dry_run` nothing is changed, neither there nor in the inventory.
    Raises IncompatibleError (the board lacks something: what and how to repair it), VerificationError (host key),
    AuthenticationError, UnreachableError, UsageError, BusyError, and EdgectlError where a step fails.
    """
    stages = stages or Stages()
    if kind:
        check_profile(kind)
    with stages.stage("connect"):
        board = login.board(name)
        shell = SshShell(board.ssh, board.host_key, board.identity_file)
    with shell:
        with stages.stage("look at the board"):
            facts = gather(shell)
            type_ = profile(kind_of(facts, kind or board.type))
            checks = tuple(install_checks(facts, type_))
            require(checks)
            if not name and login.entry() is None:
                board = replace(board, name=_free_name(facts, type_))
        with stages.stage("collect the wheels"):
            collected = wheelhouse(facts.platform, wheels)
            require_space(facts, 4 * collected.nbytes)
        with stages.stage("install"):
            key_file = Path(board.key_file).expanduser() if board.key_file else _free_key_file(board.name)
            key, kept = _key(shell, key_file, type_)
            outcomes = [] if dry_run else [_keep_key(key_file, key, kept)]
            if dry_run:
                outcomes = [Outcome("key file", UNCHANGED if kept else WOULD_DO, f"keep the RPC key in {key_file}")]
            steps = install_steps(type_, collected, key, facts.dma_module)
            leftovers = undo(shell, leftover_steps(type_), dry_run, stages.remark)
            outcomes += [outcome for outcome in leftovers if outcome.state != NOT_THERE]
            outcomes += install(shell, steps, dry_run, stages.remark)
            if not dry_run:
                _keep_theirs(shell, key_file, key, kept)
    with stages.stage("meet the agent"):
        # Without --type the next run takes the kind that is written down.
        met = replace(board, key_file=board.key_file or str(key_file), type=type_.name)
        outcomes.append(_write_down(met, dry_run))
    notices = (*collected.notices, *device_notices(facts, type_))
    return ProvisionReport(board.ssh, board.name, type_.name, checks, tuple(outcomes), dry_run, notices, stages.seconds)


def unprovision(
    login: Login, purge: bool = False, dry_run: bool = False, stages: Stages | None = None
) -> ProvisionReport:
    """Remove from a board what `provision` installed, and the board from the inventory. Models and the board's identity
    stay unless `purge`. Raises as `provision` does."""
    stages = stages or Stages()
    with stages.stage("connect"):
        board = login.board()
        shell = SshShell(board.ssh, board.host_key, board.identity_file)
    with shell:
        with stages.stage("look at the board"):
            facts = gather(shell)
            right = [check for check in install_checks(facts, profile("sim")) if check.what == "right to install"]
            require(right)
        with stages.stage("remove"):
            outcomes = undo(shell, uninstall_steps(purge), dry_run, stages.remark)
    entry = login.entry()
    outcomes.append(_forget(entry, dry_run))
    name = entry.name if entry is not None else ""
    return ProvisionReport(board.ssh, name, board.type, tuple(right), tuple(outcomes), dry_run, (), stages.seconds)


def _free_name(facts: Facts, board: BoardProfile) -> str:
    """A name for a board that got none: its host name, if it can be one and is free."""
    taken = Inventory().boards()
    base = facts.host.split(".")[0]
    for name in (base, *(f"{base}-{number}" for number in range(1, 100))):
        try:
            if check_name(name) not in taken:
                return name
        except UsageError:
            continue
    raise UsageError(f"the board's host name {facts.host!r} cannot be its name here; give one: --name {board.name}-1")


def _keys() -> Path:
    """The folder of the key files that provisioning makes."""
    return inventory_path().absolute().parent / "keys"


def _free_key_file(name: str) -> Path:
    """A key file for a board that has none: no other board's, not even of one that had this name before."""
    used = {board.key_file for board in Inventory().boards().values()}
    files = (_keys() / f"{file}.key" for file in (name, *(f"{name}-{number}" for number in range(2, 1000))))
    return next(file for file in files if str(file) not in used)


def _key(shell: RemoteShell, file: Path, board: BoardProfile) -> tuple[str, bool]:
    """The RPC key, and whether `file` holds it: the board's, else that of an earlier attempt, else a new one."""
    there = read_as_root(shell, KEY).strip()
    here = read_key(file) if file.exists() else ""
    if there and here and there != here:
        raise _another_key(file)
    return there or here or f"{board.name}:{secrets.token_hex(_TOKEN_BYTES)}", bool(here)


def _another_key(file: Path) -> UsageError:
    return UsageError(
        f"the key file {file} holds another RPC key than {KEY} on the board; where the board's is right, move the "
        "file away and run this again, it fetches the board's"
    )


def _keep_theirs(shell: RemoteShell, file: Path, key: str, kept: bool) -> None:
    """Of two that provision a board at once, the second finds the first one's key there. Raises UsageError where
    `file` was there before."""
    there = read_as_root(shell, KEY).strip()
    if there != key or read_key(file) != key:
        if kept:
            raise _another_key(file)
        _keep_key(file, there, False)


def _keep_key(file: Path, key: str, kept: bool) -> Outcome:
    """Before the board has it: a key that only the board knew would be lost if this run ended in between."""
    if not kept:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with atomic_file(file, 0o600) as opened:
            opened.write(f"{key}\n".encode())
    return Outcome("key file", UNCHANGED if kept else DONE, f"keep the RPC key in {file}")


def _write_down(board: InventoryBoard, dry_run: bool) -> Outcome:
    what = f"write '{board.name}' into the inventory"
    known = Inventory().boards().get(board.name)
    right = known is not None and (known.key_file, known.type) == (board.key_file, board.type)
    if dry_run:
        return Outcome("inventory", UNCHANGED if right else WOULD_DO, what)
    try:
        if known is None:
            try:
                add_board(board)
                return Outcome("inventory", DONE, what)
            except UsageError:
                # Somebody else may just have written down the same.
                known = Inventory().boards().get(board.name)
                if known is None or (known.ssh, known.key_file) != (board.ssh, board.key_file):
                    raise
                right = True
        with from_inventory(board).connect(10.0) as connection:
            connection.status()
    except (EdgectlError, AgentError) as error:
        raise type(error)(f"the agent is installed and runs, but cannot be used from here: {error}") from error
    if not right:
        Inventory().remove(known.name)
        Inventory().add(replace(known, key_file=board.key_file, type=board.type))
    return Outcome("inventory", UNCHANGED if right else DONE, what)


def _forget(board: InventoryBoard | None, dry_run: bool) -> Outcome:
    """Take the board out of the inventory, and with it the key file that provisioning made."""
    if board is None:
        return Outcome("inventory", NOT_THERE, "the board in the inventory")
    others = {other.key_file for other in Inventory().boards().values() if other.name != board.name}
    key_file = Path(board.key_file).expanduser()
    own = key_file.parent == _keys() and board.key_file not in others
    what = f"'{board.name}' in the inventory" + (", with its key file" if own else "")
    if not dry_run:
        Inventory().remove(board.name)
        if own:
            key_file.unlink(missing_ok=True)
    return Outcome("inventory", WOULD_REMOVE if dry_run else REMOVED, what)
