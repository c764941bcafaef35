"""Which board a name means. Nothing is taken because it happened to be found: only what is named."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from edge_agent.boards import profile, profile_names
from edgectl.boards import discovery
from edgectl.boards.client import Address, Connection
from edgectl.boards.discovery import SPECIFIC_SECONDS, FoundBoard
from edgectl.boards.inventory import DEFAULT_RPC_PORT, Inventory, InventoryBoard
from edgectl.boards.keys import key_from_environment
from edgectl.boards.ssh_target import SCHEME, SshTarget
from edgectl.boards.tracked import TRACKER_SCHEME, TrackerChoice, parse_tracker
from edgectl.boards.untrusted import printable
from edgectl.errors import IncompatibleError, UnreachableError, UsageError, VerificationError
from edgectl.simulated_board import RunningBoard, SimulatedBoard

NOT_YET = ("tsim", "intelfocl")
"""Targets of VTA that edgectl knows of and has no profile for yet."""
TYPE_SCHEME = "type://"
SHORTEST_IDENTITY = 8
"""So many first digits of an identity are enough to name a board."""
Browse = Callable[[float], Iterable[FoundBoard]]


@dataclass(frozen=True)
class RemoteChoice:
    """A board at an address, by direct TCP; `identity` where it must be a certain one."""

    address: Address
    key: str
    identity: str = ""

    def connect(self, deadline: float) -> Connection:
        """Raises UnreachableError, DeadlineError, IncompatibleError (key), VerificationError (another board)."""
        return verified(Connection(self.address, self.key, deadline), self.identity)

    @property
    def host(self) -> str:
        return self.address.host


@dataclass(frozen=True)
class SshChoice:
    """A board whose agent is on its loopback, behind SSH."""

    target: SshTarget
    key: str
    rpc_port: int = DEFAULT_RPC_PORT
    host_key: str = ""
    identity_file: str = ""
    identity: str = ""

    def connect(self, deadline: float) -> Connection:
        """Raises what RemoteChoice raises, and of SSH VerificationError (host key) and AuthenticationError."""
        from edgectl.boards.ssh import SshRoute

        route = SshRoute(self.target, self.rpc_port, self.host_key, self.identity_file)
        try:
            return verified(Connection(route, self.key, deadline), self.identity)
        except BaseException:
            route.close()
            raise

    @property
    def host(self) -> str:
        return self.target.host


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


Choice = RemoteChoice | SshChoice | TrackerChoice | SimulatedChoice


def verified(connection: Connection, identity: str) -> Connection:
    """`connection`, if the agent at its end has this identity. Raises VerificationError."""
    if identity:
        found = connection.status().get("id")
        if found != identity:
            connection.close()
            raise VerificationError(
                f"the board at {connection.address} is {printable(str(found))}, not {identity}: another board has its "
                "address, or it was installed again; see `edgectl boards`, remove the old entry and add the new board"
            )
    return connection


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


def selection(board: str = "sim", kind: str = "", tracker: str = "", tracker_key: str = "") -> str:
    """The name of the board that these options mean together, for `choose`. Raises UsageError where they conflict."""
    if bool(tracker) != bool(tracker_key):
        raise UsageError("--tracker HOST:PORT needs --key TYPE, such as --key pynq, and the other way round")
    options = {"--board": board != "sim", "--type": kind, "--tracker": tracker}
    given = [option for option, value in options.items() if value]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} each name a board; give one of them")
    if tracker:
        return f"{TRACKER_SCHEME}{tracker}/{tracker_key}"
    return f"{TYPE_SCHEME}{kind}" if kind else board


def choose(name: str, key: str | None = None, browse: Browse | None = None) -> Choice:
    """What `name` means: a simulated profile; HOST:PORT or ssh://USER@HOST[:PORT] with `key` (default: $EDGECTL_KEY);
    tracker://HOST:PORT/TYPE; type://KIND, the only board of the inventory of that kind; or the name or identity of a
    board of the inventory, or else of one that announces itself, for which `browse` looks.

    Raises UsageError, with what there is, where it is none of these or several; IncompatibleError for a target that is
    not supported yet.
    """
    given = key_from_environment() if key is None else key
    if name.startswith(TRACKER_SCHEME):
        return TrackerChoice(*parse_tracker(name), given)
    if name.startswith(SCHEME):
        return SshChoice(SshTarget.parse(name), given)
    if name.startswith(TYPE_SCHEME):
        return _of_type(name.removeprefix(TYPE_SCHEME), key)
    if name in profile_names() and profile(name).simulated:
        return SimulatedChoice(SimulatedBoard(name))
    boards = Inventory().boards()
    if known := _named(name, boards):
        return from_inventory(known, key)
    if ":" in name:
        return RemoteChoice(Address.parse(name), given)
    if name in profile_names():
        raise UsageError(
            f"'{name}' is a kind of board; to use one, name it by its address: --board HOST:PORT, with its key in "
            f"EDGECTL_KEY, or say --type {name} for the one in your inventory. To compile for it: "
            f"edgectl compile MODEL --board {name}"
        )
    if name in NOT_YET:
        check_profile(name)
    return _discovered(name, given, boards, browse or discovery.browse)


def from_inventory(board: InventoryBoard, key: str | None = None) -> RemoteChoice | SshChoice:
    """How a board of the inventory is reached. Raises UsageError where its key file is unusable."""
    secret = board.key() if key is None else key
    if board.ssh:
        target = SshTarget.parse(board.ssh)
        return SshChoice(target, secret, board.rpc_port, board.host_key, board.identity_file, board.id)
    return RemoteChoice(Address.parse(board.address), secret, board.id)


def _named(name: str, boards: Mapping[str, InventoryBoard]) -> InventoryBoard | None:
    """The board of the inventory with this name, address, or beginning of its identity."""
    if name in boards:
        return boards[name]
    found = [board for board in boards.values() if _begins(board.id, name) or name in (board.address, board.ssh)]
    if len(found) > 1:
        raise UsageError(f"'{name}' can be {' or '.join(board.name for board in found)}; name one of them")
    return found[0] if found else None


def _begins(identity: str, name: str) -> bool:
    return len(name) >= SHORTEST_IDENTITY and identity.startswith(name)


def _of_type(kind: str, key: str | None) -> Choice:
    check_profile(kind)
    if profile(kind).simulated:
        return SimulatedChoice(SimulatedBoard(kind))
    boards = Inventory().boards()
    found = [board for board in boards.values() if board.type == kind]
    if len(found) != 1:
        have = f"you have {', '.join(board.name for board in found)}; name one" if found else "you have none"
        raise UsageError(
            f"--type {kind} needs exactly one such board in your inventory: {have}, with --board; `edgectl boards` "
            "lists what is known, `edgectl boards add` writes a board down"
        )
    return from_inventory(found[0], key)


def _discovered(name: str, key: str, boards: Mapping[str, InventoryBoard], browse: Browse) -> Choice:
    """The board that announces itself under this name, identity or host. It was named, so it may be used."""
    plausible = len(name) <= 63 and name.isprintable() and name.strip() == name and not set(name) & set("/\\@") and name
    announced: list[FoundBoard] = []
    if plausible:
        with contextlib.suppress(UnreachableError):
            announced = list(browse(SPECIFIC_SECONDS))
    found = [board for board in announced if name in (board.name, board.host) or _begins(board.identity, name)]
    if len(found) > 1:
        places = ", ".join(f"{board.identity[:12]} at {board.address}" for board in found)
        raise UsageError(f"several boards announce themselves as '{name}': {places}; name one by its id")
    if found:
        (board,) = found
        if twin := next((known for known in boards.values() if known.id == board.identity), None):
            return from_inventory(twin)
        if not board.direct:
            raise UsageError(
                f"'{board.name}' is reached through SSH; write it down: edgectl boards add NAME --ssh USER@{board.host}"
            )
        return RemoteChoice(board.address, key, board.identity)
    candidates = [*boards, *(board.name for board in announced), *profile_names(), *NOT_YET]
    near = difflib.get_close_matches(name, candidates, 3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"you have {', '.join(boards) or 'none written down'}."
    raise UsageError(
        f"there is no board {name!r}; kinds of board are {', '.join(profile_names())}; {hint} A board that runs "
        "edge-agent can be named by HOST:PORT or ssh://USER@HOST, and `edgectl boards` shows what there is"
    )
