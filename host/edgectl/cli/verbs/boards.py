"""edgectl boards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from edgectl.cli.options import JsonOption

if TYPE_CHECKING:
    from rich.table import Table

    from edgectl.boards.listing import BoardEntry

WATCH_SECONDS = 5.0
ListTrackerOption = Annotated[str, typer.Option("--tracker", help="Also what the TVM tracker at HOST:PORT lists.")]
WatchOption = Annotated[bool, typer.Option("--watch", help="Go on, until Ctrl-C.")]
DiscoveryOption = Annotated[bool, typer.Option("--discovery/--no-discovery", help="Look for boards by mDNS (2 s).")]
NameArgument = Annotated[str, typer.Argument(help="The board's name in your inventory.")]


def boards(
    context: typer.Context,
    tracker: ListTrackerOption = "",
    watch: WatchOption = False,
    discovery: DiscoveryOption = True,
    json: JsonOption = False,
) -> None:
    """Kinds of board, simulated ones, yours, those on the network.

    \b
    edgectl boards
    edgectl boards add desk --ssh xilinx@192.168.2.99 --key-file desk.key
    edgectl boards rename desk lab
    edgectl boards remove lab
    """
    if context.invoked_subcommand is None:
        list_(tracker, watch, discovery, json)


def list_(
    tracker: ListTrackerOption = "",
    watch: WatchOption = False,
    discovery: DiscoveryOption = True,
    json: JsonOption = False,
) -> None:
    """The same as `edgectl boards`."""
    import time

    from edgectl.boards.client import Address
    from edgectl.boards.discovery import LISTING_SECONDS
    from edgectl.boards.listing import survey
    from edgectl.cli.terminal import notices, output, print_json

    place = Address.parse(tracker) if tracker else None
    while True:
        found = survey(place, LISTING_SECONDS if discovery else 0.0)
        console = output()
        if watch and console.is_terminal and not json:
            console.clear()
        notices(found.notices)
        if json:
            print_json([entry.as_dict() for entry in found.entries])
        else:
            console.print(_table(found.entries))
            console.print(
                "[dim]use one with --board NAME, ID, HOST:PORT or ssh://USER@HOST; "
                "write one down with `edgectl boards add`[/dim]"
            )
        if not watch:
            return
        time.sleep(WATCH_SECONDS)


def _table(entries: tuple[BoardEntry, ...]) -> Table:
    from rich.text import Text

    from edgectl.boards.last_seen import in_words
    from edgectl.cli.terminal import table

    columns = {
        "board": [entry.name for entry in entries],
        "kind": [entry.description or entry.type for entry in entries],
        "state": [entry.state for entry in entries],
        "address": [entry.address for entry in entries],
        "model": [entry.model for entry in entries],
        "bitstream": [entry.bitstream for entry in entries],
        "id": [entry.id[:12] for entry in entries],
        "seen": [in_words(entry.last_seen) if "profile" not in entry.sources else "" for entry in entries],
    }
    # Room for what there is to say.
    told = {name: cells for name, cells in columns.items() if {*cells} - {"", "-"}}
    rows = table(*told)
    for row in zip(*told.values(), strict=True):
        # As text: what others call themselves is no markup.
        rows.add_row(*(Text(cell or "-") for cell in row))
    return rows


def add(
    name: Annotated[str, typer.Argument(help="The name that you give it.")],
    ssh: Annotated[str, typer.Option("--ssh", help="USER@HOST[:PORT]: its agent is reached through SSH.")] = "",
    address: Annotated[
        str, typer.Option("--address", help="HOST:PORT: its agent is reached directly; on a trusted network only.")
    ] = "",
    key_file: Annotated[str, typer.Option("--key-file", help="A file with its RPC key TYPE:TOKEN, of mode 600.")] = "",
    identity_file: Annotated[str, typer.Option("--identity-file", help="The private SSH key to log in with.")] = "",
    rpc_port: Annotated[int, typer.Option("--rpc-port", help="Its agent's port, behind SSH.")] = 9091,
    accept_fingerprint: Annotated[
        str, typer.Option("--accept-fingerprint", help="SHA256:...: the SSH host key that it must have.")
    ] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Accept the host key that it shows, unasked.")] = False,
    json: JsonOption = False,
) -> None:
    """Write a board down, after meeting it once.

    \b
    edgectl boards add desk --ssh xilinx@192.168.2.99 --key-file desk.key
    edgectl boards add rack-1 --address 10.0.0.7:9091 --key-file rack.key
    """
    import sys
    from dataclasses import asdict
    from pathlib import Path

    from edgectl.boards.adding import add_board
    from edgectl.boards.inventory import InventoryBoard
    from edgectl.cli.terminal import output, print_json, waiting

    def ask(question: str) -> bool:
        return typer.confirm(question, err=True)

    def agree(question: str) -> bool:
        waiting(f"accepted: {question.splitlines()[0]}")
        return True

    def absolute(path: str) -> str:
        return str(Path(path).expanduser().absolute()) if path else ""

    wanted = InventoryBoard(
        name,
        ssh=ssh.removeprefix("ssh://"),
        address=address,
        rpc_port=rpc_port,
        identity_file=absolute(identity_file),
        key_file=absolute(key_file),
    )
    met = add_board(wanted, accept_fingerprint, agree if yes else ask if sys.stdin.isatty() else None)
    if json:
        print_json(asdict(met))
        return
    pinned = f", host key {met.host_key}" if met.host_key else ""
    output().print(f"{met.name}: {met.type or 'board'} {met.id[:12]} at {met.place}{pinned}", markup=False)
    output().print(f"Next     edgectl status --board {met.name}", markup=False)


def remove(name: NameArgument, json: JsonOption = False) -> None:
    """Forget a board."""
    from dataclasses import asdict

    from edgectl.boards.inventory import Inventory
    from edgectl.cli.terminal import output, print_json

    removed = Inventory().remove(name)
    if json:
        print_json(asdict(removed))
    else:
        output().print(f"{removed.name} at {removed.place} is no longer in your inventory", markup=False)


def rename(
    name: NameArgument, new: Annotated[str, typer.Argument(help="Its new name.")], json: JsonOption = False
) -> None:
    """Give a board another name."""
    from dataclasses import asdict

    from edgectl.boards.inventory import Inventory
    from edgectl.cli.terminal import output, print_json

    renamed = Inventory().rename(name, new)
    if json:
        print_json(asdict(renamed))
    else:
        output().print(f"{name} is now {renamed.name}", markup=False)


subverbs = {"list": list_, "add": add, "remove": remove, "rename": rename}
