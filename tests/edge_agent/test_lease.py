"""One lease at a time: who has it, how it ends, what else a session may do meanwhile."""

from __future__ import annotations

import threading
from contextlib import suppress

import pytest

from edge_agent.errors import BusyError, InputError
from edge_agent.lease import Leases


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def leases(clock: Clock) -> Leases:
    return Leases(clock)


def test_the_second_is_told_who_has_it_and_for_how_long(leases: Leases, clock: Clock) -> None:
    token = leases.take("ann@desk", "deploy", 30, True)
    clock.now += 12.5
    with pytest.raises(BusyError, match="the board is held by ann@desk for deploy, for another 18 s"):
        leases.take("bob@desk", "bench", 30, True)
    assert leases.status() == {"owner": "ann@desk", "purpose": "deploy", "seconds_left": 17.5, "automatic": True}
    assert token not in str(leases.status())
    leases.release("another's")
    assert leases.status() is not None
    leases.release(token)
    assert leases.status() is None
    leases.take("bob@desk", "bench", 30, True)


def test_it_runs_out(leases: Leases, clock: Clock) -> None:
    token = leases.take("ann", "flash", 30, False)
    leases.check(token)
    clock.now += 30
    assert leases.status() is None
    for late in (leases.check, leases.renew):
        with pytest.raises(BusyError, match="this lease has run out; take the board again"):
            late(token)
    leases.take("bob", "bench", 30, True)
    with pytest.raises(BusyError, match="this lease has run out, and the board is held by bob for bench"):
        leases.check(token)
    leases.release(token)  # not bob's
    assert leases.status() is not None


def test_a_use_prolongs_an_automatic_lease_only(leases: Leases, clock: Clock) -> None:
    for automatic, left in ((True, 30.0), (False, None)):
        token = leases.take("ann", "deploy", 30, automatic)
        with leases.in_use(token):
            clock.now += 100
            leases.check(token)  # it does not end during a use
            with pytest.raises(BusyError, match="for another 0 s"):
                leases.take("bob", "bench", 30, True)
        status = leases.status()
        assert (None if status is None else status["seconds_left"]) == left
        leases.release(token)


def test_what_is_released_during_a_use_ends_with_it(leases: Leases) -> None:
    token = leases.take("ann", "deploy", 30, True)
    with leases.in_use(token):
        leases.release(token)
        assert leases.status() is not None
        with pytest.raises(BusyError, match="held by ann"):
            leases.take("bob", "deploy", 30, True)
    assert leases.status() is None


def test_a_lease_is_renewed(leases: Leases, clock: Clock) -> None:
    token = leases.take("ann", "lease", 30, False)
    clock.now += 20
    leases.renew(token)
    clock.now += 20
    leases.renew(token, 100)
    status = leases.status()
    assert status is not None and status["seconds_left"] == 100


def test_using_what_has_run_out_prolongs_nothing(leases: Leases, clock: Clock) -> None:
    old = leases.take("ann", "deploy", 30, True)
    clock.now += 31
    new = leases.take("bob", "deploy", 30, True)
    with leases.in_use(old):
        clock.now += 10
    status = leases.status()
    assert status is not None and (status["owner"], status["seconds_left"]) == ("bob", 20)
    leases.check(new)


def test_sessions_without_a_lease_get_one(leases: Leases, clock: Clock) -> None:
    token = leases.take_for_session(None, "a client at 10.0.0.7:5")
    assert leases.take_for_session(token, "the same") == token
    with pytest.raises(BusyError, match=r"held by a client at 10.0.0.7:5 for a session without a lease, .* 60 s"):
        leases.take("bob", "deploy", 30, True)
    clock.now += 60
    named = leases.take("bob", "deploy", 30, True)
    with pytest.raises(BusyError, match="held by bob"):
        leases.take_for_session(token, "the same")
    leases.release(named)
    assert leases.take_for_session(token, "the same") != token


def test_the_next_session_waits_for_one_that_is_ending(leases: Leases) -> None:
    token = leases.take_for_session(None, "a client")
    threading.Timer(0.05, leases.release, (token,)).start()
    assert leases.take("bob", "deploy", 30, True)


def test_of_many_that_ask_at_once_one_gets_it(leases: Leases) -> None:
    got: list[str] = []

    def ask(number: int) -> None:
        with suppress(BusyError):
            got.append(leases.take(f"client {number}", "deploy", 30, True))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 1


@pytest.mark.parametrize("seconds", [0, 0.5, -1, 86401, float("nan"), float("inf")])
def test_durations_that_cannot_be(leases: Leases, seconds: float) -> None:
    with pytest.raises(InputError, match="lasts 1 to 86400 s"):
        leases.take("ann", "deploy", seconds, True)


@pytest.mark.parametrize("text", ["", " ", "x" * 65, "a\nb", "\x1b[2J", "\u202e"])
def test_texts_that_cannot_be(leases: Leases, text: str) -> None:
    for owner, purpose in ((text, "deploy"), ("ann", text)):
        with pytest.raises(InputError, match="printable"):
            leases.take(owner, purpose, 30, True)
