"""The boards that this machine knows: kinds of board, simulated ones, those of the inventory, announced and tracked."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any

from edge_agent.boards import profile, profile_names
from edgectl.boards import discovery
from edgectl.boards.choosing import from_inventory
from edgectl.boards.client import Address
from edgectl.boards.discovery import FoundBoard
from edgectl.boards.inventory import Inventory, InventoryBoard
from edgectl.boards.last_seen import last_seen, remember
from edgectl.boards.metrics_address import http_address, metrics_url
from edgectl.boards.tracked import TrackedBoard, registered
from edgectl.boards.untrusted import is_identity, printable
from edgectl.errors import (
    AuthenticationError,
    EdgectlError,
    IncompatibleError,
    UnreachableError,
    UsageError,
    VerificationError,
)
from edgectl.simulated_board import SimulatedBoard

QUERY_SECONDS = 4.0
_QUERIES_AT_ONCE = 16


@dataclass(frozen=True)
class BoardEntry:
    """A board or a kind of board.

    `state` is running, held (by whom), stopped, not answering, not asked, compile only, announced, registered, or what
    is wrong with a board of the inventory. `sources` tells who knows it: profile, inventory, mdns, tracker. `last_seen`
    is in seconds since 1970, None where it is not known. Texts of others have no control characters.
    """

    name: str
    description: str
    config: str
    state: str
    address: str = ""
    model: str = ""
    metrics_url: str = ""
    id: str = ""
    type: str = ""
    bitstream: str = ""
    last_seen: float | None = None
    sources: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Survey:
    """What there is, and what could not be asked."""

    entries: tuple[BoardEntry, ...]
    notices: tuple[str, ...] = ()


def list_boards(ask: bool = True) -> list[BoardEntry]:
    """Every profile, with the state of the simulated boards: as they answer, or without `ask` as this machine's
    processes show it."""
    return [_profile_entry(name, ask) for name in profile_names()]


def survey(tracker: Address | None = None, seconds: float = discovery.LISTING_SECONDS, ask: bool = True) -> Survey:
    """All boards: of this machine, of the inventory (without `ask` not asked how they are), announced within so many
    `seconds` (0: not looked for), and of a `tracker`; one entry for each identity.

    Raises UsageError where the inventory is damaged, and what `registered` raises.
    """
    boards = list(Inventory().boards().values())
    notices: list[str] = []
    announced: list[FoundBoard] = []
    tracked = registered(tracker) if tracker is not None else []
    with ThreadPoolExecutor(_QUERIES_AT_ONCE) as pool:
        asked = [pool.submit(_inventory_entry if ask else _written_entry, board) for board in boards]
        if seconds:
            try:
                announced = discovery.browse(seconds)
            except UnreachableError as error:
                notices.append(str(error))
        own = list_boards(ask)
        entries = [future.result() for future in asked]
    answered = {entry.id: entry.last_seen for entry in entries if entry.last_seen is not None}
    if answered:
        remember(answered)
    seen = last_seen()
    entries = [replace(entry, last_seen=entry.last_seen or seen.get(entry.id)) for entry in entries]
    return Survey((*own, *merge(entries, announced, tracked)), tuple(notices))


def merge(
    inventory: Iterable[BoardEntry], announced: Sequence[FoundBoard], tracked: Iterable[TrackedBoard]
) -> list[BoardEntry]:
    """One entry for each board. What the inventory says of a board holds, whatever somebody announces in its name."""
    entries = list(inventory)
    known = {entry.id: place for place, entry in enumerate(entries) if entry.id}
    claims: dict[str, set[Address]] = {}
    for board in announced:
        claims.setdefault(board.identity, set()).add(board.address)
    now = time.time()
    for board in announced:
        if (place := known.get(board.identity)) is not None:
            entries[place] = _also_announced(entries[place], board)
            continue
        state = "announced" if len(claims[board.identity]) == 1 else "announced, its id twice: one is not what it says"
        entries.append(
            BoardEntry(
                board.name,
                "",
                board.config,
                state,
                str(board.address) if board.direct else f"ssh://{board.host}",
                board.model,
                metrics_url(board.http_address),
                board.identity,
                board.kind,
                board.bitstream,
                now,
                ("mdns",),
            )
        )
    for server in tracked:
        at = next((place for place, entry in enumerate(entries) if entry.address == str(server.address)), None)
        state = f"registered, {server.free} free"
        if at is not None:
            entries[at] = replace(entries[at], sources=(*entries[at].sources, "tracker"))
        else:
            entries.append(
                BoardEntry(server.kind, "", "", state, str(server.address), type=server.kind, sources=("tracker",))
            )
    return entries


def _also_announced(entry: BoardEntry, board: FoundBoard) -> BoardEntry:
    sources = entry.sources if "mdns" in entry.sources else (*entry.sources, "mdns")
    direct = not entry.address.startswith("ssh://")
    elsewhere = direct and board.direct and entry.address != str(board.address)
    state = f"{entry.state}; also announced at {board.address}" if elsewhere else entry.state
    return replace(entry, sources=sources, state=state)


def _written_entry(board: InventoryBoard) -> BoardEntry:
    """A board of the inventory as it was written down."""
    url = metrics_url(board.http_address)
    return BoardEntry(
        board.name, "", "", "not asked", board.place, "", url, board.id, board.type, sources=("inventory",)
    )


def _inventory_entry(board: InventoryBoard) -> BoardEntry:
    """A board of the inventory as it is now."""
    entry = _written_entry(board)
    try:
        choice = from_inventory(board)
        with choice.connect(QUERY_SECONDS) as connection:
            status = connection.status()
    except UsageError as error:
        return replace(entry, state=printable(str(error), 200))
    except VerificationError as error:
        return replace(entry, state="HOST KEY not as pinned" if "host key" in str(error) else "another board is there")
    except AuthenticationError:
        return replace(entry, state="refuses your SSH key")
    except IncompatibleError:
        return replace(entry, state="refuses the key, or is no edge-agent")
    except EdgectlError:
        return replace(entry, state="not answering")
    return described(entry, status, choice.host)


def described(entry: BoardEntry, status: dict[str, Any], host: str) -> BoardEntry:
    """An entry with what a board's status says of it."""
    live, lease, fpga = status.get("live"), status.get("lease"), status.get("fpga")
    identity = str(status.get("id", ""))
    bitstream = fpga.get("bitstream") if isinstance(fpga, dict) else None
    loaded = bitstream.get("id", "") if isinstance(bitstream, dict) else ""
    return replace(
        entry,
        description=printable(str(status.get("description", ""))),
        config=printable(str(status.get("config", ""))),
        state=f"held by {printable(str(lease.get('owner')))}" if isinstance(lease, dict) else "running",
        model=printable(str(live.get("model", ""))) if isinstance(live, dict) else "",
        metrics_url=metrics_url(http_address(status, host)),
        id=entry.id or (identity if is_identity(identity) else ""),
        type=printable(str(status.get("board", ""))) or entry.type,
        bitstream=printable(str(loaded)),
        last_seen=time.time(),
    )


def _profile_entry(name: str, ask: bool) -> BoardEntry:
    kind = profile(name)
    entry = BoardEntry(name, kind.description, kind.config, "compile only", type=name, sources=("profile",))
    if not kind.simulated:
        return entry
    try:
        running = SimulatedBoard(name).find() if ask else SimulatedBoard(name).process()
        if running is None:
            return replace(entry, state="stopped")
        if not ask:
            return replace(entry, state="running", address=str(running.address), metrics_url=running.metrics_url)
        with running.connect() as connection:
            status = connection.status()
    except EdgectlError:
        return replace(entry, state="not answering")
    found = described(entry, status, running.state.host)
    return replace(found, description=kind.description, address=str(running.address), metrics_url=running.metrics_url)
