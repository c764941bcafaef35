"""edgectl flash."""

from __future__ import annotations

from typing import Annotated

import typer

from edgectl.cli.options import JsonOption, WaitOption


def flash(
    board: Annotated[
        str, typer.Argument(help="A board, such as pynq-model or HOST:PORT; or USER@HOST without an agent.")
    ],
    bitstream: Annotated[
        str, typer.Option("--bitstream", help="An id of the catalogue, or a .bit or .bin file (default: what fits).")
    ] = "",
    config: Annotated[str, typer.Option("--config", help="The VTA configuration of a file of your own.")] = "",
    isa: Annotated[str, typer.Option("--isa", help="The VTA hardware version of a file of your own.")] = "",
    type: Annotated[str, typer.Option("--type", help="The kind of board, with USER@HOST.")] = "",
    wait: WaitOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, and touch nothing.")] = False,
    json: JsonOption = False,
) -> None:
    """Program a board's FPGA with VTA, and test it.

    \b
    edgectl flash 192.168.2.99:9091
    edgectl flash 192.168.2.99:9091 --bitstream vta.bit --dry-run
    edgectl flash xilinx@192.168.2.99 --type pynq-z2
    """
    from edgectl.cli.report import show_flash
    from edgectl.cli.terminal import notices, print_json, stages
    from edgectl.errors import UsageError
    from edgectl.flashing import flash as flash_board
    from edgectl.flashing import flash_over_ssh

    if ("@" in board) != bool(type):
        raise UsageError(
            "--type KIND goes with USER@HOST, where no agent says what kind of board it is, and only there"
        )
    with stages() as progress:
        if type:
            report = flash_over_ssh(board, type, bitstream, config, isa, dry_run, progress)
        else:
            report = flash_board(board, bitstream, config, isa, dry_run, progress, wait=wait)
    notices(report.notices)
    if json:
        print_json(report.as_dict())
    else:
        show_flash(report)
