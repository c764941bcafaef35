"""Which board a name means. Nothing is taken because it happened to be found: only what is named."""

from __future__ import annotations

import os
from dataclasses import dataclass

from edge_agent.boards import profile, profile_names
from edgectl.boards.client import Address
from edgectl.errors import IncompatibleError, UnreachableError, UsageError
from edgectl.simulated_board import RunningBoard, SimulatedBoard

NOT_YET = ("tsim", "intelfocl")
"""Targets of VTA that edgectl knows of and has no profile for yet."""


@dataclass(frozen=True)
class RemoteChoice:
    """A board at an address."""

    address: Address
    key: str


@dataclass(frozen=True)
class SimulatedChoice:
    """A simulated board on this machine."""

    simulated: SimulatedBoard

    def running(self) -> RunningBoard:
        """Raises UnreachableError where it does not run."""
        board = self.simulated.find()
        if board is None:
            raise UnreachableError(
                f"the simulated board '{self.simulated.profile}' is not running; start it with `edgectl deploy MODEL`"
            )
        return board


Choice = RemoteChoice | SimulatedChoice


def check_profile(name: str) -> str:
    """`name`, if it is a kind of board with a profile. Raises IncompatibleError for a target that edgectl knows of
    but does not support yet, UsageError for any other name."""
    if name in profile_names():
        return name
    if name in NOT_YET:
        raise IncompatibleError(f"target '{name}' is not supported yet; supported are {', '.join(profile_names())}")
    raise UsageError(
        f"there is no board '{name}'; kinds of board are {', '.join(profile_names())}, and a board that runs "
        "edge-agent is HOST:PORT"
    )


def choose(name: str, key: str | None = None) -> Choice:
    """What `name` means: a simulated profile, or HOST:PORT with `key` (default: $EDGECTL_KEY).

    Raises UsageError where it is neither, IncompatibleError for a target that is not supported yet.
    """
    host, separator, port = name.rpartition(":")
    if separator:
        if not host or not (port.isascii() and port.isdecimal()) or not 0 < int(port) < 65536:
            raise UsageError(f"'{name}' is not HOST:PORT")
        return RemoteChoice(
            Address(host.strip("[]"), int(port)), os.environ.get("EDGECTL_KEY", "") if key is None else key
        )
    kind = profile(check_profile(name))
    if not kind.simulated:
        raise UsageError(
            f"'{name}' is a kind of board; to use one, name it by its address: --board HOST:PORT, with its key in "
            f"EDGECTL_KEY. To compile for it: edgectl compile MODEL --board {name}"
        )
    return SimulatedChoice(SimulatedBoard(name))
