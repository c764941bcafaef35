"""What `edgectl provision` asks and shows."""

from __future__ import annotations

import sys
from pathlib import Path

import typer
from rich.text import Text

from edgectl.boards.adding import Confirm
from edgectl.cli.terminal import notices, output, print_json, stage_times, stages, table, waiting
from edgectl.errors import UsageError
from edgectl.provisioning.platform import Platform
from edgectl.provisioning.provision import Login, ProvisionReport, unprovision
from edgectl.provisioning.running import NOT_THERE, UNCHANGED
from edgectl.provisioning.steps import STATE
from edgectl.provisioning.wheelhouse import fetch, wheelhouse


def ask_about_host_key(yes: bool) -> Confirm | None:
    """What decides about an SSH host key that nobody knows: the user, `yes`, or where there is no terminal nobody."""

    def ask(question: str) -> bool:
        return typer.confirm(question, err=True)

    def agree(question: str) -> bool:
        waiting(f"accepted: {question.splitlines()[0]}")
        return True

    return agree if yes else ask if sys.stdin.isatty() else None


def fetch_wheels(folder: Path, for_: str, as_json: bool) -> None:
    """Fill a folder with wheels for boards of one kind."""
    platform = Platform.named(for_)
    with stages() as progress, progress.stage("fetch"):
        lacking = fetch(platform, folder)
        found = wheelhouse(platform, folder)
    notices(lacking or found.notices)
    files = [*found.needed, found.installer[0]]
    if as_json:
        print_json({"folder": str(folder), "for": str(platform), "files": files, "notices": list(lacking)})
        return
    output().print(f"{folder}: {', '.join(files)}", markup=False)
    output().print(f"Next     edgectl provision USER@HOST --wheelhouse {folder}", markup=False)


def remove_agent(login: Login, purge: bool, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Uninstall, once the user has agreed."""
    if not (yes or dry_run):
        if not sys.stdin.isatty():
            raise UsageError("--uninstall asks before it removes anything; without a terminal say --yes, or --dry-run")
        kept = f"with {STATE}, models and all" if purge else f"{STATE} stays"
        question = f"Remove the agent, its services, its key and its options from {login.ssh} ({kept})?"
        if not typer.confirm(question, err=True):
            output().print("Nothing was removed", markup=False)
            return
    with stages() as progress:
        report = unprovision(login, purge, dry_run, progress)
    show_provisioned(report, as_json, removed=True)


def show_provisioned(report: ProvisionReport, as_json: bool, removed: bool = False) -> None:
    """Every step with how it came out, and what to do next. `removed`: it is about an uninstallation."""
    notices(report.notices)
    if as_json:
        print_json(report.as_dict())
        return
    console = output()
    rows = table("step", "", "what")
    shown = [outcome for outcome in report.outcomes if outcome.state != NOT_THERE]
    for outcome in shown:
        style = "dim" if outcome.state == UNCHANGED else "yellow" if report.dry_run else "green"
        rows.add_row(outcome.name, Text(outcome.state, style=style), Text(outcome.what))
    if shown:
        console.print(rows)
        console.print()
    if report.dry_run:
        console.print("Nothing was touched (dry run)", markup=False)
    elif removed:
        console.print("Removed" if report.changed else f"Nothing to do: {report.login} has no agent", markup=False)
    else:
        ready = f"{report.name} ({report.profile}) at {report.login}: its agent runs"
        console.print(ready if report.changed else f"Nothing to do: {ready}", markup=False)
        console.print(f"Next     edgectl deploy MODEL --board {report.name}", markup=False)
    console.print(f"Time     {stage_times(report.timings)}", markup=False)
