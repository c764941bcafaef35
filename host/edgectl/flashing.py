"""What `flash` does: the right bitstream, checked against everything, programmed, tested, and told."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from edge_agent.boards import profile
from edgectl.bitstreams import BitstreamStore, Candidate, candidate
from edgectl.boards.board import Board
from edgectl.boards.choosing import SimulatedChoice, check_profile, choose
from edgectl.errors import EdgectlError
from edgectl.preflight import Check, bitstream_checks, board_checks, model_checks, require, require_fpga
from edgectl.stages import Stages


@dataclass(frozen=True)
class FlashReport:
    """A flash, or with `dry_run` what it would have been. `self_test` has `seconds` and `cases`; None where it did not
    run."""

    board: str
    profile: str
    candidate: Candidate
    checks: tuple[Check, ...]
    dry_run: bool
    previous: Mapping[str, Any] | None = None
    self_test: Mapping[str, Any] | None = None
    timings: Mapping[str, float] = field(default_factory=dict)
    board_seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def notices(self) -> tuple[str, ...]:
        """What limits the meaning of the checks, and known limits of the bitstream."""
        assumed = tuple(
            f"nothing says which {what} {self.candidate.name} has: the board's is assumed; the self-test decides"
            for what in self.candidate.assumed
        )
        entry = self.candidate.entry
        return assumed + (entry.limits if entry is not None else ())

    def as_dict(self) -> dict[str, Any]:
        header = self.candidate.image.header
        return {
            "board": {"name": self.board, "profile": self.profile},
            "bitstream": {
                "id": self.candidate.name,
                "source": self.candidate.source,
                "sha256": self.candidate.sha256,
                "config": self.candidate.config,
                "isa": self.candidate.isa,
                "part": header.part if header is not None else None,
                "built": header.built if header is not None else None,
            },
            "checks": [check.as_dict() for check in self.checks],
            "dry_run": self.dry_run,
            "previous": None if self.previous is None else dict(self.previous),
            "self_test": None if self.self_test is None else dict(self.self_test),
            "timings": dict(self.timings),
            "board_seconds": dict(self.board_seconds),
            "notices": list(self.notices),
        }


def flash(
    board: str,
    bitstream: str = "",
    config: str = "",
    isa: str = "",
    dry_run: bool = False,
    stages: Stages | None = None,
    store: BitstreamStore | None = None,
    wait: float | None = None,
) -> FlashReport:
    """Program the FPGA of a board: see `candidate` for `bitstream`, `config` and `isa`, `Board.leased` for `wait`.

    Nothing is touched before every check has passed; with `dry_run` nothing is touched at all. Raises IncompatibleError
    with all that does not fit, VerificationError where the self-test fails: the message says what the FPGA holds then;
    other EdgectlErrors.
    """
    stages = stages or Stages()
    choice = choose(board)
    if isinstance(choice, SimulatedChoice):
        # Before one is started in vain.
        require_fpga(profile(choice.simulated.profile))
    with ExitStack() as stack:
        with stages.stage("connect"):
            opened = stack.enter_context(Board(board))
        kind = profile(opened.profile)
        status = opened.status_at_connect
        require_fpga(kind)
        with stages.stage("fetch the bitstream"):
            found = candidate(kind, bitstream, config, isa, store, stages.progress)
        with stages.stage("preflight"):
            live = opened.connection.manifest() if status["live"] else None
            checks = (
                *board_checks(status, kind, board),
                *bitstream_checks(found, kind, board),
                *model_checks(live, found, kind, board),
            )
            require(checks)
        if dry_run:
            return FlashReport(board, kind.name, found, checks, True, timings=stages.seconds)
        stack.enter_context(opened.leased("flash", wait, stages.remark))
        with stages.stage("upload"):
            sha256 = opened.connection.upload(found.data, stages.progress, family="edge.flash")
        with stages.stage("program and self-test"):
            account = opened.connection.program(sha256, found.name, found.config, found.isa)
        try:
            return FlashReport(
                board,
                kind.name,
                found,
                checks,
                False,
                account["previous"],
                account["self_test"],
                stages.seconds,
                account["seconds"],
            )
        except (KeyError, TypeError) as error:
            raise EdgectlError(f"the agent's account of the flash does not parse: {error!r}") from error


def flash_over_ssh(
    login: str,
    kind: str,
    bitstream: str = "",
    config: str = "",
    isa: str = "",
    dry_run: bool = False,
    stages: Stages | None = None,
    store: BitstreamStore | None = None,
) -> FlashReport:
    """Program a board of a `kind` on which no agent runs, through a login USER@HOST. There is no self-test then, and no
    way back. Raises as `flash` does."""
    from edgectl.boards.remote_shell import SshShell
    from edgectl.shell_flash import program_by_shell, shell_checks

    stages = stages or Stages()
    board = profile(check_profile(kind))
    require_fpga(board)
    with stages.stage("fetch the bitstream"):
        found = candidate(board, bitstream, config, isa, store, stages.progress)
    require(bitstream_checks(found, board, f"{login} --type {kind}"))
    with stages.stage("connect"):
        shell = SshShell(login)
    with shell:
        with stages.stage("preflight"):
            checks = (*bitstream_checks(found, board, login), *shell_checks(shell, board))
            require(checks)
        if dry_run:
            return FlashReport(login, kind, found, checks, True, timings=stages.seconds)
        with stages.stage("program"):
            seconds = program_by_shell(shell, found, board)
    return FlashReport(login, kind, found, checks, False, timings=stages.seconds, board_seconds={"program": seconds})
