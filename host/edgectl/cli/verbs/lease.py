"""edgectl lease."""

from __future__ import annotations

from typing import Annotated

import typer

from edgectl.cli.options import JsonOption, WaitOption


def lease(
    board: Annotated[str, typer.Argument(help="The board, as for --board.")],
    duration: Annotated[str, typer.Option("--for", help="How long: 90s, 30m, 2h.")] = "30m",
    release: Annotated[bool, typer.Option("--release", help="Give it back.")] = False,
    wait: WaitOption = None,
    json: JsonOption = False,
) -> None:
    """Have a board for yourself for a while.

    Your other commands use the lease; other people's are told that you have the board, until when, or wait for it.

    \b
    edgectl lease desk --for 30m
    edgectl lease desk --release
    """
    from edgectl.boards import leasing
    from edgectl.boards.board import Board
    from edgectl.cli.terminal import output, print_json, waiting
    from edgectl.errors import IncompatibleError

    seconds = leasing.duration(duration)
    with Board(board, start=False) as opened:
        status, connection = opened.status_at_connect, opened.connection
        if not leasing.supports_leases(status):
            raise IncompatibleError(
                f"the agent of '{board}' does not know leases; install this version of edgectl on it"
            )
        mine = connection.leased
        if release:
            if mine:
                connection.release_lease()
                leasing.forget(status)
        elif mine:
            connection.renew_lease(seconds)
        else:
            leasing.keep(status, leasing.take(connection, "a lease", seconds, False, wait, waiting))
        held = connection.status().get("lease")
    if json:
        print_json({"board": board, "lease": held, "yours": connection.leased and held is not None})
        return
    if release:
        said = "is given back" if mine else "was not yours" if held else "has no lease"
        output().print(f"'{board}' {said}" + (f": {leasing.in_words(held)}" if held else ""), markup=False)
        return
    assert held is not None
    output().print(f"'{board}': {leasing.in_words(held)}; give it back: edgectl lease {board} --release", markup=False)
