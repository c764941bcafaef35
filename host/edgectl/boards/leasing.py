"""Leases from the controller's side: verbs take one for as long as they run, and people for as long as they say."""

from __future__ import annotations

import contextlib
import getpass
import json
import math
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgectl.boards.client import Connection
from edgectl.boards.untrusted import is_identity, printable
from edgectl.errors import BusyError, EdgectlError, IncompatibleError, UsageError
from edgectl.files import atomic_file, exclusive, state_directory

AUTOMATIC_SECONDS = 30.0
"""A verb's lease lasts so long after its latest call: what others wait for where it was killed."""
PATIENCE_SECONDS = 60.0
"""How long a verb waits for another verb to end, unless told otherwise; for somebody's own lease, not at all."""
_POLL_SECONDS = 0.25
_RELEASE_SECONDS = 2.0
_UNITS = {"s": 1, "m": 60, "h": 3600}
Say = Callable[[str], None]


def owner() -> str:
    """Who takes a lease here, as others see it: USER@MACHINE."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "somebody"
    return printable(f"{user}@{socket.gethostname()}")


def duration(text: str) -> float:
    """`90`, `90s`, `30m` or `2h` in seconds. Raises UsageError."""
    number, unit = (text[:-1], text[-1]) if text[-1:] in _UNITS else (text, "s")
    seconds = int(number) * _UNITS[unit] if number.isascii() and number.isdecimal() and len(number) < 7 else 0
    if not 1 <= seconds <= 24 * 3600:
        raise UsageError(f"{text!r} is not a duration from 1s to 24h, such as 90s, 30m or 2h")
    return float(seconds)


def supports_leases(status: Mapping[str, Any]) -> bool:
    """Whether an agent with this status knows leases: those before them do not say."""
    return "lease" in status


def in_words(lease: Mapping[str, Any]) -> str:
    """Who has a board until when, by this machine's clock."""
    left = float(lease["seconds_left"])
    until = time.strftime("%H:%M:%S", time.localtime(time.time() + left))
    more = ", longer while it goes on" if lease["automatic"] else ""
    who, purpose = printable(str(lease["owner"])), printable(str(lease["purpose"]))
    return f"{who} has it for {purpose} until {until}, another {math.ceil(left)} s{more}"


def take(
    connection: Connection,
    purpose: str,
    seconds: float = AUTOMATIC_SECONDS,
    automatic: bool = True,
    wait: float | None = None,
    say: Say | None = None,
) -> str:
    """Take the board, within `wait` seconds (None: PATIENCE_SECONDS for a verb that has it, else 0); the lease's token.

    `say` hears once whom is waited for. Raises BusyError that names who has the board and until when.
    """
    begin, said = time.monotonic(), False
    while True:
        try:
            return connection.take_lease(owner(), purpose, seconds, automatic)
        except BusyError:
            lease = connection.status().get("lease")
        if lease is None:  # it has just ended
            continue
        patience = wait if wait is not None else PATIENCE_SECONDS if lease["automatic"] else 0.0
        left = begin + patience - time.monotonic()
        if left <= 0:
            raise BusyError(
                f"the board at {connection.address} is taken: {in_words(lease)}; wait for it with --wait SECONDS"
            )
        if say is not None and not said:
            say(f"waiting for the board: {in_words(lease)}")
            said = True
        time.sleep(min(_POLL_SECONDS, left))


@contextmanager
def leased(
    connection: Connection,
    status: Mapping[str, Any],
    purpose: str,
    wait: float | None = None,
    say: Say | None = None,
) -> Iterator[None]:
    """Have the board inside the block; see `take`. Under a lease that was taken before, only this user's verbs take
    turns. Agents without leases are used as they are."""
    if not supports_leases(status):
        yield
        return
    if connection.leased:
        with _turn(str(status.get("id", "")), PATIENCE_SECONDS if wait is None else wait):
            yield
        return
    take(connection, purpose, wait=wait, say=say)
    try:
        yield
    finally:
        # Where the board no longer answers, the lease runs out.
        with contextlib.suppress(EdgectlError):
            connection.release_lease(_RELEASE_SECONDS)


@contextmanager
def _turn(identity: str, wait: float) -> Iterator[None]:
    if not is_identity(identity):
        yield
        return
    busy = "another edgectl of yours is using the board under the same lease; wait for it with --wait SECONDS"
    with exclusive(_folder() / f"{identity}.turn", wait, busy):
        yield


def _folder() -> Path:
    return state_directory() / "leases"


def _token_file(status: Mapping[str, Any]) -> Path:
    identity = str(status.get("id", ""))
    if not is_identity(identity) or not supports_leases(status):
        raise IncompatibleError("the board's agent does not know leases; install this version of edgectl on it")
    return _folder() / f"{identity}.json"


def keep(status: Mapping[str, Any], token: str) -> None:
    """Remember a lease of the board with this status for later verbs, in a file that its owner alone can read."""
    file = _token_file(status)
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with atomic_file(file, mode=0o600) as opened:
        opened.write(json.dumps({"token": token}).encode())


def forget(status: Mapping[str, Any]) -> None:
    """Forget what `keep` remembered."""
    _token_file(status).unlink(missing_ok=True)


def resume(connection: Connection, status: Mapping[str, Any]) -> bool:
    """Work under the lease that was kept for this board; whether there is one that has not run out."""
    try:
        token = json.loads(_token_file(status).read_text())["token"]
        connection.use_lease(str(token))
    except (OSError, ValueError, KeyError, TypeError, IncompatibleError):
        # None was kept, or the agent knows none.
        return False
    except BusyError:
        forget(status)
        return False
    return True
