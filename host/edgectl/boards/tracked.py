"""Boards behind a stock TVM tracker: what it lists, and one that it lends.

A tracker's registrations are not authenticated: whoever reaches it can claim to be a board. So a board that it lends is
used only where it proves that it knows the board's key, which is not sent to it before.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from edge_agent.errors import DeadlineError as AgentDeadlineError
from edge_agent.errors import ProtocolError
from edge_agent.rpc.channel import ConnectionClosed
from edge_agent.rpc.tracker import Tracker
from edgectl.boards.client import Address, Connection
from edgectl.boards.untrusted import printable
from edgectl.errors import BusyError, DeadlineError, IncompatibleError, UnreachableError, UsageError, VerificationError

TRACKER_SCHEME = "tracker://"
MAXIMUM_SERVERS = 256


@dataclass(frozen=True)
class TrackedBoard:
    """A registration as a tracker tells it: unverified. `free` are the sessions on offer for its kind."""

    kind: str
    address: Address
    free: int


def parse_tracker(name: str) -> tuple[Address, str]:
    """tracker://HOST:PORT/TYPE as its parts. Raises UsageError."""
    place, _, kind = name.removeprefix(TRACKER_SCHEME).partition("/")
    if not kind or not kind.isprintable() or len(kind) > 64 or set(kind) & set("/ "):
        raise UsageError(f"{name!r} is not {TRACKER_SCHEME}HOST:PORT/TYPE")
    if ":" in kind:
        raise UsageError("--key takes the TYPE that boards are registered under; their token belongs into EDGECTL_KEY")
    return Address.parse(place), kind


@contextmanager
def _failures(tracker: Address) -> Iterator[None]:
    try:
        yield
    except ConnectionClosed as error:
        raise UnreachableError(
            f"no tracker answers at {tracker}: {printable(str(error), 200)}; start it: python -m tvm.exec.rpc_tracker"
        ) from error
    except AgentDeadlineError as error:
        raise DeadlineError(f"the tracker at {tracker} did not answer in time") from error
    except ProtocolError as error:
        raise IncompatibleError(f"what answers at {tracker} is no tracker: {printable(str(error), 200)}") from error


def registered(tracker: Address, seconds: float = 5.0) -> list[TrackedBoard]:
    """The boards that a tracker lists, at most MAXIMUM_SERVERS; entries that make no sense are left out.

    Raises UnreachableError, DeadlineError, IncompatibleError (no tracker).
    """
    with _failures(tracker):
        connection = Tracker(tracker, seconds)
        try:
            summary = connection.summary()
        finally:
            connection.close()
    queues = summary.get("queue_info")
    servers = summary.get("server_info")
    found: dict[tuple[str, Address], TrackedBoard] = {}
    for server in servers[:MAXIMUM_SERVERS] if isinstance(servers, list) else ():
        if (board := _parse(server, queues if isinstance(queues, dict) else {})) is not None:
            found[board.kind, board.address] = board
    return list(found.values())


def _parse(server: object, queues: dict[str, object]) -> TrackedBoard | None:
    if not isinstance(server, dict):
        return None
    key, place = server.get("key"), server.get("addr")
    if not isinstance(key, str) or not isinstance(place, list) or len(place) != 2:
        return None
    host, port = place
    kind = key.removeprefix("server:")
    if not isinstance(host, str) or type(port) is not int:
        return None
    try:
        address = Address.parse(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    except UsageError:
        return None
    queue = queues.get(kind)
    free = queue.get("free") if isinstance(queue, dict) else 0
    return TrackedBoard(printable(kind), address, free if type(free) is int and free >= 0 else 0)


@dataclass(frozen=True)
class TrackerChoice:
    """A board of a kind that a tracker lends."""

    tracker: Address
    kind: str
    key: str

    def connect(self, deadline: float) -> Connection:
        """A connection to the board that the tracker lends next, within `deadline` seconds.

        Raises UsageError without a key, BusyError where no board is free, VerificationError where the board does not
        know the key, and what a connection raises.
        """
        if not self.key.partition(":")[2]:
            raise UsageError(
                f"anybody can register with the tracker at {self.tracker}; set EDGECTL_KEY to the key TYPE:TOKEN of "
                "its boards, which the one that it lends has to prove"
            )
        end = time.monotonic() + deadline
        if not any(board.kind == self.kind for board in registered(self.tracker, deadline)):
            raise UnreachableError(
                f"the tracker at {self.tracker} has no '{self.kind}'; see edgectl boards --tracker {self.tracker}"
            )
        with _failures(self.tracker):
            connection = Tracker(self.tracker, max(0.1, end - time.monotonic()))
            try:
                host, port, match_key = connection.request(self.kind)
            except AgentDeadlineError:
                raise BusyError(
                    f"every '{self.kind}' of the tracker at {self.tracker} is in use; try again later"
                ) from None
            finally:
                connection.close()
        opened = Connection(Address(host, port), match_key, max(1.0, end - time.monotonic()))
        try:
            if not opened.prove(self.key):
                raise VerificationError(
                    f"the tracker at {self.tracker} lends {opened.address} as '{self.kind}', which does not know the "
                    "key of EDGECTL_KEY: it is not your board; see who registers there"
                )
        except BaseException:
            opened.close()
            raise
        return opened

    @property
    def host(self) -> str:
        return self.tracker.host
