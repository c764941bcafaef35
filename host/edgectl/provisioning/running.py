"""Runs steps on a board as root, and says how each came out."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from edgectl.boards.remote_shell import Completed, RemoteShell, as_root
from edgectl.errors import BusyError, EdgectlError, UnreachableError
from edgectl.provisioning.steps import PATH, Step

UNCHANGED, DONE, WOULD_DO, REMOVED, WOULD_REMOVE, NOT_THERE = (
    "unchanged",
    "done",
    "would be done",
    "removed",
    "would be removed",
    "not there",
)
_BUSY = 75
_LOCK = "/run/lock/edge-provision"
_PRELUDE = f"set -eu\nexport PATH={PATH} LC_ALL=C\numask 022\n"
_EXCLUSIVELY = (
    f"exec 9>{_LOCK}\nflock -w 60 9 || exit {_BUSY}\n"  # also ends the race with what a broken connection left running
)
Report = Callable[[str], None]


@dataclass(frozen=True)
class Outcome:
    """How a step came out: `state` is one of this module's words, `what` says what it does or removes."""

    name: str
    state: str
    what: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def install(shell: RemoteShell, steps: Sequence[Step], dry_run: bool, report: Report) -> list[Outcome]:
    """Do what is not done yet; with `dry_run` look only. Raises EdgectlError, naming the step, where one fails."""
    outcomes: list[Outcome] = []
    changed = False
    for step, found in zip(steps, _look(shell, [step.check for step in steps]), strict=True):
        report(step.name)
        # What was done may no longer be, once something before it has changed.
        if found and (not changed or _look(shell, [step.check])[0]):
            outcomes.append(Outcome(step.name, UNCHANGED, step.does))
            continue
        if not dry_run:
            changed = True
            with _staged(shell, step) as staging:
                # Somebody else may have done it since: to do it again could take away what is in use by now.
                done = f"if ( {step.check} ) >/dev/null 2>&1; then exit 0; fi"
                _apply(shell, step, (done, *step.apply), staging)
            if not _look(shell, [step.check])[0]:
                raise EdgectlError(f"step '{step.name}' had no effect on the board, though every command succeeded")
        outcomes.append(Outcome(step.name, WOULD_DO if dry_run else DONE, step.does))
    report(f"{len(steps)} steps")
    return outcomes


def uninstall(shell: RemoteShell, steps: Sequence[Step], dry_run: bool, report: Report) -> list[Outcome]:
    """Undo what is there; with `dry_run` look only. Raises EdgectlError, naming the step, where that fails."""
    outcomes: list[Outcome] = []
    for step, found in zip(steps, _look(shell, [step.present for step in steps]), strict=True):
        report(step.name)
        if not found:
            outcomes.append(Outcome(step.name, NOT_THERE, step.removes))
            continue
        if not dry_run:
            _apply(shell, step, step.undo, "/nonexistent")
        outcomes.append(Outcome(step.name, f"would be {step.undone}" if dry_run else step.undone, step.removes))
    report(f"{len(steps)} steps")
    return outcomes


def read_as_root(shell: RemoteShell, path: str) -> str:
    """A file's text; "" where there is none."""
    return shell.run(as_root(f"{_PRELUDE}cat {shlex.quote(path)} 2>/dev/null || true")).output


def _look(shell: RemoteShell, checks: Sequence[str]) -> list[bool]:
    """Which checks succeed, asked all at once: a login takes its time on a board."""
    asked = "\n".join(f"if ( {check} ) >/dev/null 2>&1; then echo yes; else echo no; fi" for check in checks)
    done = shell.run(as_root(_PRELUDE + asked))
    answers = [line == "yes" for line in done.output.split()]
    if done.code or len(answers) != len(checks):
        raise EdgectlError(f"the board could not be looked at: {(done.errors or done.output)[-300:].strip()}")
    return answers


def _apply(shell: RemoteShell, step: Step, commands: Sequence[str], staging: str) -> None:
    script = "\n".join((f"{_PRELUDE}{_EXCLUSIVELY}staging={shlex.quote(staging)}", *commands))
    _require(step, shell.run(as_root(script), step.seconds))


def _require(step: Step, done: Completed) -> None:
    if done.code == 0:
        return
    if done.code == _BUSY:
        raise BusyError("another `edgectl provision` works on this board; try again when it has ended")
    said = "\n       ".join(line for line in (done.output + "\n" + done.errors).splitlines() if line.strip())[-1500:]
    if "No space left on device" in said:
        raise EdgectlError(
            f"step '{step.name}': the board's disk is full; make room there (df -h, sudo apt-get clean), then run the "
            "same command again: it goes on where it stopped"
        )
    raise EdgectlError(
        f"step '{step.name}' failed with exit code {done.code}: {said or 'no message'}\n"
        "       What was done before it stays; run the same command again once that is repaired."
    )


@contextmanager
def _staged(shell: RemoteShell, step: Step) -> Iterator[str]:
    """A folder on the board with the step's uploads. Others may not read it: a key may be among them."""
    if not step.uploads:
        yield "/nonexistent"
        return
    # What a run that was cut off left behind goes after an hour.
    made = shell.run(
        "find /tmp -maxdepth 1 -user \"$(id -un)\" -name 'edge-provision.*' -mmin +60 -exec rm -rf {} + 2>/dev/null; "
        "umask 077; mktemp -d /tmp/edge-provision.XXXXXXXX"
    )
    _require(step, made)
    folder = made.output.strip()
    try:
        for name, data in step.uploads.items():
            try:
                shell.put(data, f"{folder}/{name}")
            except UnreachableError:
                raise
            except EdgectlError as error:
                raise EdgectlError(f"step '{step.name}': {error}; is its disk full? (df -h /tmp)") from error
        yield folder
    finally:
        with contextlib.suppress(EdgectlError):
            shell.run(f"rm -rf {shlex.quote(folder)}")
