"""The agent as a process: how it starts, says where it is, ends, and what a kill leaves behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_agent.agent import parse_arguments
from edge_agent.state_file import AgentState
from edgectl.boards.client import Connection
from edgectl.errors import EdgectlError, IncompatibleError, UnreachableError, VerificationError
from tests.edge_agent.bundles import identity_bundle

DATA = {"data": np.arange(4, dtype=np.float32).reshape(1, 4)}


class Process:
    """An agent with its files in a directory."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.state_file = directory / "agent.json"
        command = [
            sys.executable,
            "-m",
            "edge_agent.agent",
            "--board",
            "sim",
            "--port",
            "0",
            "--http-port",
            "0",
            "--state-dir",
            str(directory / "state"),
            "--state-file",
            str(self.state_file),
            *options,
        ]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

    def ready(self) -> AgentState:
        deadline = time.monotonic() + 60
        while self.process.poll() is None and time.monotonic() < deadline:
            state = AgentState.read(self.state_file)
            if state is not None and state.pid == self.process.pid:
                return state
            time.sleep(0.02)
        raise AssertionError(self.ended()[1])

    def connect(self) -> Connection:
        state = self.ready()
        return Connection((state.host, state.rpc_port), state.key)

    def ended(self) -> tuple[int, str]:
        """Exit code and log, once it has ended."""
        _, log = self.process.communicate(timeout=60)
        return self.process.returncode, log


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Process]:
    running = Process(tmp_path)
    yield running
    running.process.kill()
    running.process.communicate()


@pytest.fixture(scope="module")
def shared_agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """One agent for tests that leave it as it was."""
    running = Process(tmp_path_factory.mktemp("agent"))
    yield running
    running.process.terminate()
    running.ended()


def test_it_says_where_it_is_and_leaves_nothing(agent: Process, tmp_path: Path) -> None:
    state = agent.ready()
    assert stat.S_IMODE(agent.state_file.stat().st_mode) == 0o600
    assert state.board == "sim" and state.host == "127.0.0.1" and state.is_running()
    with urllib.request.urlopen(f"http://127.0.0.1:{state.http_port}/status", timeout=10) as response:
        assert json.load(response)["rpc_port"] == state.rpc_port
    command_line = Path(f"/proc/{state.pid}/cmdline").read_bytes().decode()
    assert state.key.split(":")[1] not in command_line
    agent.process.send_signal(signal.SIGTERM)
    code, log = agent.ended()
    assert code == 0 and state.key.split(":")[1] not in log
    assert not agent.state_file.exists() and not state.is_running()
    assert sorted(path.name for path in (tmp_path / "state").iterdir()) == ["bundles", "identity", "lock"]


def test_upload_activate_infer_and_restore(agent: Process, tmp_path: Path) -> None:
    with agent.connect() as connection:
        digest = connection.upload(identity_bundle())
        assert connection.activate(digest)["model"] == "identity"
        assert connection.infer(DATA).outputs["result"].tolist() == [[0, 1, 2, 3]]
        with pytest.raises(VerificationError, match="self-test"):
            connection.activate(connection.upload(identity_bundle("wrong", golden=2.0)))
        assert connection.status()["live"]["digest"] == digest
    agent.process.send_signal(signal.SIGINT)
    assert agent.ended()[0] == 0
    again = Process(tmp_path)
    with again.connect() as connection:
        assert connection.status()["live"]["digest"] == digest
        connection.shutdown()
    assert again.ended()[0] == 0


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (
            {"config": "1x16_i8w8a32_15_15_18_16"},
            "configuration 1x16_i8w8a32_15_15_18_16, this board has 1x16_i8w8a32_15_15_18_17",
        ),
        ({"features": ["alu_multiply"]}, "needs VTA features .*alu_multiply"),
        ({"cpu": {"machine": "s390x"}}, "kernels are for s390x"),
        ({"agent_protocol": 99}, "agent protocol 99, this agent has 1"),
        ({"schema": 99}, "schema 99, this agent reads 1"),
    ],
)
def test_bundles_of_another_kind_are_refused_and_the_old_one_serves(
    shared_agent: Process, entries: dict[str, object], message: str
) -> None:
    with shared_agent.connect() as connection:
        digest = connection.activate(connection.upload(identity_bundle()))["digest"]
        with pytest.raises(IncompatibleError, match=message):
            connection.activate(connection.upload(identity_bundle(**entries)))
        assert connection.status()["live"]["digest"] == digest
        assert connection.infer(DATA).outputs["result"].tolist() == [[0, 1, 2, 3]]


def test_a_killed_agent_is_noticed_at_once_and_serves_again(agent: Process, tmp_path: Path) -> None:
    connection = agent.connect()
    connection.activate(connection.upload(identity_bundle()))
    # Kill it in the middle of a measurement, which would take long.
    threading.Timer(0.3, agent.process.kill).start()
    with pytest.raises(UnreachableError):
        connection.bench(50_000, 2)
    agent.ended()
    assert agent.state_file.exists()
    again = Process(tmp_path)
    with again.connect() as connection:
        assert connection.infer(DATA).outputs["result"].tolist() == [[0, 1, 2, 3]]
        connection.shutdown()
    again.ended()


def test_it_ends_when_idle_but_not_before(tmp_path: Path) -> None:
    agent = Process(tmp_path, "--idle-timeout", "0.6")
    with agent.connect() as connection:
        for _ in range(4):
            time.sleep(0.3)
            connection.status()
    assert agent.ended()[0] == 0 and not agent.state_file.exists()


def test_a_taken_port_and_a_taken_state_directory_are_busy(agent: Process, tmp_path: Path) -> None:
    state = agent.ready()
    second = Process(tmp_path / "second", "--port", str(state.rpc_port))
    code, log = second.ended()
    assert code == 6 and f"cannot listen on 127.0.0.1:{state.rpc_port}" in log and "--port" in log
    third = Process(tmp_path)
    code, log = third.ended()
    assert code == 6 and "another agent uses the state directory" in log
    assert agent.ready() == state  # the one that runs is not harmed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--board", "pink"], "there is no board 'pink'"),
        (["--key-file", "/no/such/file"], "key file /no/such/file cannot be read"),
        (["--key", "two words"], "without spaces"),
        (["--host", "0.0.0.0", "--key", "pynq"], "needs a key TYPE:TOKEN with a token of at least 16"),
        (["--host", "::", "--key", "pynq:short"], "needs a key TYPE:TOKEN with a token of at least 16"),
        (["--state-file", "/proc/nowhere/agent.json"], "state file /proc/nowhere/agent.json cannot be written"),
        (["--state-dir", "/proc/nowhere"], "state directory /proc/nowhere cannot be used"),
        (["--host", "no.such.host.invalid"], "cannot listen on no.such.host.invalid"),
        (["--http-host", "no.such.host.invalid"], "with --http-host or --http-port"),
    ],
)
def test_what_cannot_be_is_said(tmp_path: Path, options: list[str], message: str) -> None:
    code, log = Process(tmp_path, *options).ended()
    assert code == 1 and message in log and "Traceback" not in log


def test_without_zeroconf_it_serves_unannounced_unless_told_to_announce(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "zeroconf.py").write_text("raise ImportError('not here')")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "hidden"), os.environ.get("PYTHONPATH", "")]))
    code, log = Process(tmp_path / "told", "--announce").ended()
    assert code == 1 and "pip install 'edgectl[announce]'" in log and "Traceback" not in log
    agent = Process(tmp_path / "untold", "--host", "0.0.0.0")
    with agent.connect() as connection:
        assert connection.status()["ready"] is False
    agent.process.terminate()
    code, log = agent.ended()
    assert code == 0 and "cannot be announced" in log


def test_a_key_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("bench:token\n")
    agent = Process(tmp_path, "--key-file", str(tmp_path / "key"))
    state = agent.ready()
    with pytest.raises(EdgectlError, match="refuses the key"):
        Connection((state.host, state.rpc_port), "bench:other")
    with Connection((state.host, state.rpc_port), "bench:token") as connection:
        connection.shutdown()
    agent.ended()


def test_only_a_simulated_board_on_loopback_can_be_shut_down(tmp_path: Path) -> None:
    agent = Process(tmp_path, "--host", "0.0.0.0")
    state = agent.ready()
    with (
        Connection(("127.0.0.1", state.rpc_port), state.key) as connection,
        pytest.raises(EdgectlError, match="only a simulated"),
    ):
        connection.shutdown()
    agent.process.terminate()
    agent.ended()


def test_it_needs_neither_the_controller_nor_tvm_nor_mxnet() -> None:
    code = "import sys, edge_agent.agent; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    packages = {name.split(".")[0] for name in done.stdout.split()}
    assert not packages & {"edgectl", "tvm", "tvm_ffi", "mxnet", "torch", "platformdirs", "rich", "typer"}


def test_a_state_file_of_another_process_with_the_same_id_is_not_running(tmp_path: Path) -> None:
    path = tmp_path / "agent.json"
    AgentState(os.getpid(), 1, "127.0.0.1", 1, 2, "sim", "key", "0.0.0.0").write(path)
    state = AgentState.read(path)
    assert state is not None and not state.is_running()
    for text in ("", "{}", "[]", "null", json.dumps({**json.loads(path.read_text()), "pid": "1"})):
        path.write_text(text)
        assert AgentState.read(path) is None


def test_a_state_file_of_an_agent_before_http_had_an_address_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "agent.json"
    state = AgentState(os.getpid(), 1, "127.0.0.1", 1, 2, "sim", "key", "127.0.0.1")
    state.write(path)
    document = json.loads(path.read_text())
    del document["http_host"]
    path.write_text(json.dumps(document))
    assert AgentState.read(path) == state


def test_http_listens_where_it_is_told_and_rpc_stays(tmp_path: Path) -> None:
    agent = Process(tmp_path, "--http-host", "127.0.0.3", "--key", "sim:short")
    state = agent.ready()
    assert (state.host, state.http_host) == ("127.0.0.1", "127.0.0.3")
    with urllib.request.urlopen(f"http://127.0.0.3:{state.http_port}/status", timeout=10) as response:
        assert json.load(response)["http_host"] == "127.0.0.3"
    for address in (("127.0.0.1", state.http_port), ("127.0.0.3", state.rpc_port)):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address, timeout=10)
    agent.process.terminate()
    code, log = agent.ended()
    assert code == 0 and f"RPC on 127.0.0.1:{state.rpc_port}, HTTP on http://127.0.0.3:{state.http_port}/" in log


def test_sockets_are_not_inherited(agent: Process) -> None:
    """Only the agent holds its ports: when it is gone, they are free."""
    state = agent.ready()
    agent.process.kill()
    agent.ended()
    with socket.create_server(("127.0.0.1", state.rpc_port)):
        pass


@pytest.mark.parametrize(
    "options",
    [
        ("--port", "70000"),
        ("--http-port", "-1"),
        ("--tracker", "localhost:99999"),
        ("--tracker", "localhost"),
        ("--idle-timeout", "nan"),
        ("--idle-timeout", "0"),
        ("--idle-timeout", "soon"),
    ],
)
def test_what_is_no_port_or_time_is_a_usage_error(options: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_arguments(["--board", "sim", "--state-dir", "unused", *options])
    assert ended.value.code == 2
    assert options[0] in capsys.readouterr().err
