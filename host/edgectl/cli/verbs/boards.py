"""edgectl boards."""

from __future__ import annotations

from edgectl.cli.options import JsonOption


def boards(json: JsonOption = False) -> None:
    """Kinds of board to compile for, and the simulated ones that run."""
    from edgectl.boards.listing import list_boards
    from edgectl.cli.terminal import output, print_json, table

    entries = list_boards()
    if json:
        print_json([entry.as_dict() for entry in entries])
        return
    rows = table("board", "kind", "state", "address", "model")
    for entry in entries:
        rows.add_row(entry.name, entry.description, entry.state, entry.address or "-", entry.model or "-")
    output().print(rows)
    output().print(
        "[dim]a board that runs edge-agent is used by its address: --board HOST:PORT, its key in EDGECTL_KEY[/dim]"
    )
