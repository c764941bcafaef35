"""edgectl provision."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgectl.cli.options import JsonOption


def provision(
    board: Annotated[str, typer.Argument(help="USER@HOST[:PORT]: a board with SSH and systemd.")] = "",
    type: Annotated[str, typer.Option("--type", help="The kind of board (default: what its device tree says).")] = "",
    name: Annotated[str, typer.Option("--name", help="The name that you give it (default: its host name).")] = "",
    wheelhouse: Annotated[
        str, typer.Option("--wheelhouse", help="A folder with the agent's wheels, to be used without a network.")
    ] = "",
    identity_file: Annotated[str, typer.Option("--identity-file", help="The private SSH key to log in with.")] = "",
    accept_fingerprint: Annotated[
        str, typer.Option("--accept-fingerprint", help="SHA256:...: the SSH host key that it must have.")
    ] = "",
    uninstall: Annotated[bool, typer.Option("--uninstall", help="Remove what was installed.")] = False,
    purge: Annotated[bool, typer.Option("--purge", help="With --uninstall: models and the board's id too.")] = False,
    fetch: Annotated[str, typer.Option("--fetch", help="Only fill this folder with wheels, for --wheelhouse.")] = "",
    for_: Annotated[str, typer.Option("--for", help="With --fetch: MACHINE-PYTHON of the boards.")] = "armv7l-3.10",
    yes: Annotated[bool, typer.Option("--yes", help="Agree to the host key, and to --uninstall, unasked.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show each step, and touch nothing.")] = False,
    json: JsonOption = False,
) -> None:
    """Install the agent on a board by SSH, and write the board down.

    \b
    edgectl provision xilinx@192.168.2.99 --type pynq-z2 --name desk
    edgectl provision xilinx@192.168.2.99 --dry-run
    edgectl provision xilinx@192.168.2.99 --uninstall
    edgectl provision --fetch wheels --for armv7l-3.10
    """
    from edgectl.cli.provisioning import ask_about_host_key, fetch_wheels, remove_agent, show_provisioned
    from edgectl.cli.terminal import stages
    from edgectl.errors import UsageError
    from edgectl.provisioning.provision import Login
    from edgectl.provisioning.provision import provision as provision_board

    if bool(board) == bool(fetch):
        raise UsageError("give either USER@HOST, or --fetch FOLDER to prepare wheels for boards that are not in reach")
    if purge and not uninstall:
        raise UsageError("--purge goes with --uninstall")
    if fetch:
        fetch_wheels(Path(fetch), for_, json)
        return
    identity = str(Path(identity_file).expanduser().absolute()) if identity_file else ""
    login = Login(board, identity, accept_fingerprint, ask_about_host_key(yes))
    if uninstall:
        remove_agent(login, purge, dry_run, yes, json)
        return
    with stages() as progress:
        report = provision_board(login, name, type, Path(wheelhouse) if wheelhouse else None, dry_run, progress)
    show_provisioned(report, json)
