"""Leases over RPC, between clients that really run at once: who gets the board, who is told, what a kill leaves."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgectl.boards import leasing
from edgectl.boards.client import Connection
from edgectl.errors import BusyError, IncompatibleError, UsageError
from tests.edge_agent.fakes import ID, KEY, Board, board, bundle_bytes

ONES = {"data": np.ones((1, 4), np.float32)}
DEPLOY = """
import sys
from pathlib import Path
from edgectl.boards import leasing
from edgectl.boards.client import Connection
connection = Connection(("127.0.0.1", int(sys.argv[1])), "sim:secret")
print("connected", flush=True)
sys.stdin.readline()
with leasing.leased(connection, connection.status(), "deploy", wait=60):
    digest = connection.upload(Path(sys.argv[2]).read_bytes())
    connection.activate(digest)
    for _ in range(20):
        status = connection.status()
        assert status["live"]["digest"] == digest and status["lease"]["purpose"] == "deploy", status
print("done", flush=True)
"""
HOLD = """
import sys, time
from edgectl.boards import leasing
from edgectl.boards.client import Connection
connection = Connection(("127.0.0.1", int(sys.argv[1])), "sim:secret")
leasing.take(connection, "flash", seconds=float(sys.argv[2]))
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGECTL_STATE", str(tmp_path / "state"))


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Board]:
    with board(tmp_path / "agent") as running:
        yield running


@pytest.fixture
def first(agent: Board) -> Iterator[Connection]:
    with Connection(agent.address, KEY) as opened:
        yield opened


@pytest.fixture
def second(agent: Board) -> Iterator[Connection]:
    with Connection(agent.address, KEY) as opened:
        yield opened


def client(program: str, agent: Board, *arguments: object) -> subprocess.Popen[str]:
    """A process of its own, once it has said something."""
    command = [sys.executable, "-c", program, str(agent.server.port), *map(str, arguments)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline()
    return process


def test_the_loser_is_told_who_has_it_until_when(agent: Board, first: Connection, second: Connection) -> None:
    agent.deploy(bundle_bytes())
    leasing.take(first, "deploy", 3600)
    for attempt in (
        lambda: leasing.take(second, "bench", wait=0),
        lambda: second.activate("x"),
        lambda: second.bench(1, 1, ONES),
        lambda: second.infer(ONES),
    ):
        with pytest.raises(BusyError, match=f"{leasing.owner()}.* deploy.*3[56]\\d\\d s") as raised:
            attempt()
        assert raised.value.exit_code == 6
    with pytest.raises(BusyError, match=r"until \d\d:\d\d:\d\d, .*--wait SECONDS"):
        leasing.take(second, "bench", wait=0)
    # What is free meanwhile: status, uploads, and what is deployed serves others over HTTP, which asks the service.
    assert second.status()["lease"]["purpose"] == "deploy" and second.manifest()
    second.upload(bundle_bytes("other"))
    assert agent.service.infer(ONES).outputs["result"].tolist() == [[2, 2, 2, 2]]
    assert first.infer(ONES).outputs["result"].tolist() == [[2, 2, 2, 2]]
    first.release_lease()
    assert second.infer(ONES).counters


def test_a_verb_is_waited_for_and_a_persons_lease_is_not(agent: Board, first: Connection, second: Connection) -> None:
    said: list[str] = []
    leasing.take(first, "a lease", 3600, automatic=False)
    with pytest.raises(BusyError, match="for a lease until"):
        leasing.take(second, "deploy", say=said.append)
    assert not said
    first.release_lease()
    leasing.take(first, "deploy")
    threading.Timer(0.4, agent.endpoint.leases.release, (first._lease,)).start()
    leasing.take(second, "bench", say=said.append)
    assert len(said) == 1 and "for deploy until" in said[0]


def test_a_stock_session_has_the_board_while_it_uses_modules(
    agent: Board, first: Connection, second: Connection
) -> None:
    first.call("tvm.rpc.server.upload", "model", bundle_bytes())
    first.call("tvm.rpc.server.load_module", "model")
    second.call("tvm.rpc.server.upload", "model", bundle_bytes())
    for attempt in (
        lambda: second.call("tvm.rpc.server.load_module", "model"),
        lambda: leasing.take(second, "deploy", wait=0),
    ):
        with pytest.raises(BusyError, match=r"a client at 127\.0\.0\.1:\d+"):
            attempt()
    first.close()
    second.call("tvm.rpc.server.load_module", "model")


def test_a_lease_survives_a_lost_connection(agent: Board, first: Connection, second: Connection) -> None:
    digest = first.upload(bundle_bytes())
    leasing.take(first, "deploy")
    first.drop()
    assert first.activate(digest)["digest"] == digest
    with pytest.raises(BusyError):
        leasing.take(second, "deploy", wait=0)


def test_a_lease_that_ran_out_is_said(agent: Board, first: Connection, second: Connection) -> None:
    digest = first.upload(bundle_bytes())
    token = leasing.take(first, "deploy")
    agent.endpoint.leases.release(token)
    with pytest.raises(BusyError, match="has run out; take the board again"):
        first.activate(digest)
    leasing.take(second, "bench")
    with pytest.raises(BusyError, match=r"has run out, and the board is held by .* for bench"):
        first.activate(digest)


def test_of_many_clients_at_once_each_gets_its_turn(agent: Board) -> None:
    inside, most = 0, 0

    def work(number: int) -> None:
        nonlocal inside, most
        with (
            Connection(agent.address, KEY) as connection,
            leasing.leased(connection, connection.status(), f"job {number}", wait=60),
        ):
            inside += 1
            most = max(most, inside)
            connection.status()
            inside -= 1

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(12)))
    assert (inside, most) == (0, 1) and agent.endpoint.leases.status() is None


def test_two_deploys_at_once_from_two_processes_are_serialised(agent: Board, tmp_path: Path) -> None:
    clients = []
    for number in range(2):
        file = tmp_path / f"{number}.bundle"
        file.write_bytes(bundle_bytes(f"model{number}", bias=number))
        clients.append(client(DEPLOY, agent, file))
    for process in clients:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    results = [process.communicate(timeout=120)[0] for process in clients]
    assert results == ["done\n", "done\n"] and [process.returncode for process in clients] == [0, 0]


def test_the_lease_of_a_client_that_was_killed_runs_out(agent: Board, second: Connection) -> None:
    held = client(HOLD, agent, 2)
    with pytest.raises(BusyError, match="for flash until"):
        leasing.take(second, "deploy", wait=0)
    os.kill(held.pid, signal.SIGKILL)
    held.communicate()
    lease = second.status()["lease"]
    assert lease is None or lease["seconds_left"] <= 2
    leasing.take(second, "deploy", wait=60)
    assert second.status()["lease"]["purpose"] == "deploy"


def test_a_persons_lease_is_kept_for_later_verbs(
    agent: Board, first: Connection, second: Connection, tmp_path: Path
) -> None:
    status = first.status()
    assert not leasing.resume(first, status)
    leasing.keep(status, leasing.take(first, "a lease", 3600, automatic=False))
    file = tmp_path / "state" / "leases" / f"{ID}.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert leasing.resume(second, status) and second.leased
    with leasing.leased(second, status, "deploy"):
        second.activate(second.upload(bundle_bytes()))
    assert second.status()["lease"]["purpose"] == "a lease"  # the verb did not end it
    first.release_lease()
    with Connection(agent.address, KEY) as third:
        assert not leasing.resume(third, status) and not file.exists()


def test_verbs_under_one_lease_take_turns(agent: Board, first: Connection, second: Connection) -> None:
    status = first.status()
    leasing.keep(status, leasing.take(first, "a lease", 3600, automatic=False))
    leasing.resume(second, status)
    with (
        leasing.leased(first, status, "deploy"),
        pytest.raises(BusyError, match="another edgectl of yours"),
        leasing.leased(second, status, "bench", wait=0),
    ):
        pytest.fail("both have it")
    with leasing.leased(second, status, "bench", wait=0):
        pass


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"token": "old"}', '{"token": 7}'])
def test_a_damaged_or_old_token_is_no_lease(first: Connection, tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "state" / "leases"
    folder.mkdir(parents=True)
    (folder / f"{ID}.json").write_text(damage)
    assert not leasing.resume(first, first.status())
    assert not first.leased


def test_an_agent_before_leases_is_used_as_it_is(first: Connection) -> None:
    status: dict[str, Any] = {key: value for key, value in first.status().items() if key != "lease"}
    assert not leasing.resume(first, status)
    with leasing.leased(first, status, "deploy"):
        assert first.status()["lease"] is None
    with pytest.raises(IncompatibleError, match="does not know leases"):
        leasing.keep(status, "token")


def test_a_holder_cannot_write_on_the_terminal() -> None:
    lease = {"owner": "\x1b[2Jroot\u202e", "purpose": "x" * 1000, "seconds_left": 5.0, "automatic": True}
    assert "\x1b" not in leasing.in_words(lease) and "\u202e" not in leasing.in_words(lease)
    assert len(leasing.in_words(lease)) < 250


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("30m", 1800), ("24h", 86400)])
def test_durations(text: str, seconds: float) -> None:
    assert leasing.duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "m", "-5m", "1.5h", "25h", "9999999s", "5 m", "٣m"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(UsageError, match="is not a duration"):
        leasing.duration(text)


def test_the_agent_proves_that_it_knows_the_key(agent: Board) -> None:
    agent.server.offer("sim:once", lambda: None)
    with Connection(agent.address, "sim:once") as connection:
        assert not connection.prove("sim:other")
        assert connection.prove(KEY)
        connection.drop()  # the one-time key is used up, the proven one is not
        assert json.dumps(connection.status())
