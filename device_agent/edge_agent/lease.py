"""Who has the board: one lease at a time, which runs out unless its holder uses or renews it.

A lease is known by its token, not by a connection, so that it survives a lost one. Time is monotonic: a clock that
steps neither ends a lease nor prolongs it. An agent that restarts has no lease.
"""

from __future__ import annotations

import math
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from edge_agent.errors import BusyError, InputError

MAXIMUM_SECONDS = 24 * 3600.0
MAXIMUM_CHARACTERS = 64
SESSION_SECONDS = 60.0
"""A session that loads modules without a lease has one until it ends, or has made no call for so long."""
SETTLING_SECONDS = 1.0
"""A session that has just ended may still be about to give its lease back."""


@dataclass
class Lease:
    """A lease as it stands. One that is `automatic` lasts `seconds` from its latest use on, another one from when it
    was taken; neither ends during a use."""

    token: str
    owner: str
    purpose: str
    seconds: float
    automatic: bool
    of_session: bool
    ends: float
    uses: int = 0


class Leases:
    """The board's lease, or none. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._held: Lease | None = None

    def take(self, owner: str, purpose: str, seconds: float, automatic: bool) -> str:
        """A lease for `owner`; its token. Raises BusyError where somebody has it, InputError."""
        for what, text in (("owner", owner), ("purpose", purpose)):
            if not text.strip() or len(text) > MAXIMUM_CHARACTERS or not text.isprintable():
                raise InputError(f"a lease's {what} has 1 to {MAXIMUM_CHARACTERS} printable characters")
        check_seconds(seconds)
        with self._changed:
            self._refuse_others(None)
            return self._give(owner, purpose, seconds, automatic, False)

    def renew(self, token: str, seconds: float | None = None) -> None:
        """Let a lease last `seconds` from now on, or as long as before. Raises BusyError where it has run out."""
        with self._changed:
            lease = self._current(token)
            lease.seconds = lease.seconds if seconds is None else check_seconds(seconds)
            lease.ends = self._clock() + lease.seconds

    def release(self, token: str | None) -> None:
        """End a lease, after the calls that use it; nothing where it has ended."""
        with self._changed:
            if self._held is not None and self._held.token == token:
                self._held.automatic, self._held.ends = False, self._clock()
                self._changed.notify_all()

    def check(self, token: str) -> None:
        """Raise BusyError where the lease with this token has run out."""
        with self._changed:
            self._current(token)

    def refuse_others(self, token: str | None) -> None:
        """Raise BusyError where the board is leased with another token. Waits a moment for a session that is ending."""
        with self._changed:
            self._refuse_others(token)

    def take_for_session(self, token: str | None, owner: str) -> str:
        """The token of a session without a lease that needs the board for itself: its own still, or a new one.

        Raises BusyError where somebody else has the board.
        """
        with self._changed:
            self._refuse_others(token)
            if self._held is not None and token is not None:
                return token
            return self._give(owner, "a session without a lease", SESSION_SECONDS, True, True)

    @contextmanager
    def in_use(self, token: str | None) -> Iterator[None]:
        """Inside, a lease with this token does not run out; an automatic one lasts from the end on."""
        with self._changed:
            lease = self._alive()
            if lease is None or lease.token != token:
                lease = None
            else:
                lease.uses += 1
        try:
            yield
        finally:
            if lease is not None:
                with self._changed:
                    lease.uses -= 1
                    if lease.automatic:
                        lease.ends = self._clock() + lease.seconds
                    self._changed.notify_all()

    def status(self) -> dict[str, Any] | None:
        """`owner`, `purpose`, `seconds_left` and `automatic`, never the token; None where nobody has the board."""
        with self._changed:
            lease = self._alive()
            if lease is None:
                return None
            return {
                "owner": lease.owner,
                "purpose": lease.purpose,
                "seconds_left": max(0.0, lease.ends - self._clock()),
                "automatic": lease.automatic,
            }

    def _give(self, owner: str, purpose: str, seconds: float, automatic: bool, of_session: bool) -> str:
        ends = self._clock() + seconds
        self._held = Lease(secrets.token_hex(16), owner, purpose, seconds, automatic, of_session, ends)
        return self._held.token

    def _alive(self) -> Lease | None:
        if self._held is not None and not self._held.uses and self._clock() >= self._held.ends:
            self._held = None
        return self._held

    def _current(self, token: str) -> Lease:
        lease = self._alive()
        if lease is None:
            raise BusyError("this lease has run out; take the board again")
        if not secrets.compare_digest(lease.token.encode(), token.encode()):
            raise BusyError(f"this lease has run out, and {self._in_words(lease)}")
        return lease

    def _refuse_others(self, token: str | None) -> None:
        patience = time.monotonic() + SETTLING_SECONDS
        while (lease := self._alive()) is not None and lease.token != token:
            if not lease.of_session or not self._changed.wait(max(0.0, patience - time.monotonic())):
                raise BusyError(self._in_words(lease))

    def _in_words(self, lease: Lease) -> str:
        left = max(0.0, lease.ends - self._clock())
        return f"the board is held by {lease.owner} for {lease.purpose}, for another {math.ceil(left)} s"


def check_seconds(seconds: float) -> float:
    """`seconds`, if a lease can last so long. Raises InputError."""
    if not 1 <= seconds <= MAXIMUM_SECONDS:
        raise InputError(f"a lease lasts 1 to {MAXIMUM_SECONDS:g} s, not {seconds:g}")
    return seconds
