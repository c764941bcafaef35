"""`edgectl sd`: the list on the terminal, over HTTP and in a file."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgectl.boards.adding import _http
from edgectl.boards.client import Address
from edgectl.boards.inventory import Inventory, InventoryBoard
from edgectl.boards.scrape_target_file import write_targets
from edgectl.boards.scrape_target_server import ScrapeTargetServer
from edgectl.boards.scrape_targets import ScrapeTarget, Targets
from edgectl.errors import EdgectlError, UsageError
from edgectl.simulated_board import SimulatedBoard
from tests.edge_agent.test_agent import Process
from tests.edgectl.cli.conftest import Edgectl, spawn

DESK = ScrapeTarget(Address("10.0.0.7", 9092), "desk", "inventory", "pynq")
SIM = ScrapeTarget(Address("127.0.0.1", 4711), "sim", "simulated", "sim")
GROUP = {"targets": ["10.0.0.7:9092"], "labels": {"__meta_edge_board": "desk", "__meta_edge_source": "inventory"}}


@pytest.fixture(autouse=True)
def own_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGECTL_INVENTORY", str(tmp_path / "boards.toml"))
    monkeypatch.setenv("EDGECTL_STATE", str(tmp_path / "state"))


@pytest.fixture
def desk() -> None:
    Inventory().add(InventoryBoard("desk", address="10.0.0.7:9091"))


def get(url: str, method: str = "GET") -> tuple[int, str, bytes]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=30) as response:
            return response.status, response.headers["Content-Type"], response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers["Content-Type"], error.read()


def document(process: subprocess.Popen[str]) -> dict:
    """The JSON document that a process prints before it goes on."""
    assert process.stdout is not None
    text = ""
    while not text.endswith("\n}\n"):
        line = process.stdout.readline()
        assert line, text
        text += line
    found: dict = json.loads(text)
    return found


def test_the_list(edgectl: Edgectl) -> None:
    empty = edgectl("sd")
    assert empty.code == 0 and "no board: write one down with `edgectl boards add`" in empty.out
    assert edgectl("sd", "--json").document == []
    Inventory().add(InventoryBoard("desk", address="10.0.0.7:9091"))
    shown = edgectl("sd")
    assert shown.code == 0 and "desk" in shown.out and "10.0.0.7:9092" in shown.out and "inventory" in shown.out
    assert edgectl("sd", "--json").document == [GROUP]


def test_a_simulated_board_while_it_runs_and_it_is_left_alone(edgectl: Edgectl, own_board: SimulatedBoard) -> None:
    running = own_board.ensure(idle_seconds=1.5)
    (group,) = edgectl("sd", "--json").document
    assert group["targets"] == [f"127.0.0.1:{running.state.http_port}"]
    assert group["labels"] == {
        "__meta_edge_board": "sim", "__meta_edge_source": "simulated", "__meta_edge_type": "sim",
    }  # fmt: skip
    # Looking does not keep it from being idle.
    while running.state.is_running():
        assert edgectl("sd", "--json").code == 0
    assert edgectl("sd", "--json").document == []


@pytest.mark.usefixtures("desk")
def test_over_http_until_interrupted(edgectl: Edgectl) -> None:
    process = spawn("sd", "--http", "127.0.0.1:0", "--json")
    said = document(process)
    assert said["targets"] == [GROUP]
    status, kind, body = get(said["url"])
    assert (status, kind, json.loads(body)) == (200, "application/json", [GROUP])
    assert get(said["url"], "HEAD")[::2] == (200, b"")
    assert get(said["url"], "POST")[0] == 501 and get(said["url"] + "etc/passwd")[0] == 404
    port = said["url"].rstrip("/").rpartition(":")[2]
    taken = edgectl("sd", "--http", f"127.0.0.1:{port}")
    assert taken.code == 6 and "choose another address or port: edgectl sd --http HOST:PORT" in taken.err
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in err and out == ""
    with socket.create_server(("127.0.0.1", int(port))):
        pass


@pytest.fixture
def server() -> Iterator[ScrapeTargetServer]:
    answers: list[Targets | EdgectlError] = [
        Targets((SIM, DESK)),
        UsageError("the inventory is damaged"),
        Targets(()),
    ]

    def find() -> Targets:
        answer = answers.pop(0)
        if isinstance(answer, EdgectlError):
            raise answer
        return answer

    made = ScrapeTargetServer(Address("127.0.0.1", 0), find, fresh_seconds=0.0)
    made.start()
    yield made
    made.close()


def test_what_cannot_be_found_is_no_empty_list(server: ScrapeTargetServer) -> None:
    assert [group["targets"] for group in json.loads(get(server.url)[2])] == [["127.0.0.1:4711"], ["10.0.0.7:9092"]]
    status, kind, body = get(server.url)
    assert (status, kind, json.loads(body)) == (503, "application/json", {"error": "the inventory is damaged"})
    assert get(server.url)[2] == b"[]\n"


def test_other_machines_are_not_sent_to_this_machines_loopback(server: ScrapeTargetServer) -> None:
    assert [group["targets"] for group in json.loads(server.answer("/", "", "10.0.0.9")[2])] == [["10.0.0.7:9092"]]


def test_one_look_around_serves_all_who_ask_meanwhile() -> None:
    looks: list[int] = []
    made = ScrapeTargetServer(Address("127.0.0.1", 0), lambda: looks.append(1) or Targets((DESK,)), fresh_seconds=60.0)
    made.start()
    try:
        assert {get(made.url)[2] for _ in range(5)} == {made.answer("/", "", "10.0.0.9")[2]} and len(looks) == 1
    finally:
        made.close()


@pytest.mark.usefixtures("desk")
def test_a_file_once(edgectl: Edgectl, tmp_path: Path) -> None:
    file = tmp_path / "new" / "edge.json"
    first = edgectl("sd", "--file", file, "--once", "--json").document
    assert first == {"file": str(file), "written": True, "targets": [GROUP]} and json.loads(file.read_bytes()) == [
        GROUP
    ]
    before = os.stat(file)
    assert edgectl("sd", "--file", file, "--once", "--json").document["written"] is False
    assert (os.stat(file).st_ino, os.stat(file).st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    Inventory().remove("desk")
    assert edgectl("sd", "--file", file, "--once").code == 0 and file.read_bytes() == b"[]\n"
    assert os.stat(file).st_mode & 0o777 == 0o644 and [path.name for path in file.parent.iterdir()] == ["edge.json"]


@pytest.mark.usefixtures("desk")
def test_a_file_is_kept_and_left_alone_while_the_inventory_is_damaged(tmp_path: Path) -> None:
    file, inventory = tmp_path / "edge.json", tmp_path / "boards.toml"
    process = spawn("sd", "--file", file, "--every", 1)
    assert process.stdout is not None and process.stderr is not None
    while "Ctrl-C" not in (line := process.stdout.readline()):
        assert line
    good = inventory.read_text()
    inventory.write_text("nonsense")
    assert "error: the inventory" in process.stderr.readline()
    assert json.loads(file.read_bytes()) == [GROUP]
    # In one step: a file that is half written is another inventory.
    (tmp_path / "next").write_text(good.replace("10.0.0.7", "10.0.0.8"))
    (tmp_path / "next").rename(inventory)
    assert [process.stderr.readline() for _ in range(2)] == ["- desk 10.0.0.7:9092\n", "+ desk 10.0.0.8:9092\n"]
    while json.loads(file.read_bytes())[0]["targets"] != ["10.0.0.8:9092"]:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert "Traceback" not in process.communicate(timeout=60)[1] and process.returncode == 130


def test_a_file_that_cannot_be_written_stays(tmp_path: Path) -> None:
    (tmp_path / "edge.json").mkdir()
    with pytest.raises(EdgectlError, match="cannot write"):
        write_targets(tmp_path / "edge.json", (DESK,))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["edge.json", "work"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--http", "--file", "a.json"), "choose one"),
        (("127.0.0.1:9095",), "edgectl sd --http 127.0.0.1:9095"),
        (("--once",), "--once is for --file"),
        (("--http", "9095"), "is not HOST:PORT"),
        (("--http", "127.0.0.1:99999"), "is not HOST:PORT"),
        (("--file", "edge.txt", "--once"), "give edge.txt.json"),
        (("--tracker", "nowhere"), "is not HOST:PORT"),
    ],
)
def test_wrong_usage(edgectl: Edgectl, arguments: tuple[str, ...], message: str) -> None:
    result = edgectl("sd", *arguments)
    assert result.code == 2 and message in result.err, result.err
    assert list(Path.cwd().iterdir()) == []


def test_a_damaged_inventory_ends_it_before_it_listens(edgectl: Edgectl, tmp_path: Path) -> None:
    (tmp_path / "boards.toml").write_text("nonsense")
    assert edgectl("sd", "--http", "127.0.0.1:0").code == 2


def test_where_http_listens_is_written_down_and_shown(edgectl: Edgectl, tmp_path: Path) -> None:
    """A board whose RPC and HTTP listen on different addresses, from `boards add` to what Prometheus is told."""
    agent = Process(tmp_path / "agent", "--http-host", "127.0.0.3")
    try:
        state = agent.ready()
        (tmp_path / "key").write_text(state.key)
        (tmp_path / "key").chmod(0o600)
        place = f"127.0.0.1:{state.rpc_port}"
        added = edgectl("boards", "add", "desk", "--address", place, "--key-file", tmp_path / "key", "--json").document
        assert (added["http_host"], added["http_port"]) == ("127.0.0.3", state.http_port)
        url = f"http://127.0.0.3:{state.http_port}/metrics"
        assert edgectl("status", "--board", "desk", "--json").document["metrics_url"] == url
        assert url in edgectl("status", "--board", "desk").out
        (entry,) = [each for each in edgectl("boards", "--json").document if each["name"] == "desk"]
        assert entry["metrics_url"] == url and entry["state"] == "running"
        agent.process.kill()
        agent.ended()
        (entry,) = [each for each in edgectl("boards", "--json").document if each["name"] == "desk"]
        assert entry["metrics_url"] == url and entry["state"] == "not answering"
        (group,) = edgectl("sd", "--json").document
        assert group["targets"] == [f"127.0.0.3:{state.http_port}"]
        assert group["labels"]["__meta_edge_id"] == added["id"] and group["labels"]["__meta_edge_type"] == "sim"
    finally:
        agent.process.kill()
        agent.process.communicate()


@pytest.mark.parametrize(
    ("status", "written"),
    [
        ({"http_port": 80, "http_host": "10.0.0.7"}, {"http_port": 80, "http_host": "10.0.0.7"}),
        ({"http_port": 80}, {"http_port": 80}),
        ({"http_port": 80, "http_host": "a b"}, {"http_port": 80}),
        ({"http_port": 0, "http_host": "10.0.0.7"}, {}),
        ({"http_port": "80"}, {}),
        ({"http_port": True}, {}),
    ],
)
def test_what_an_agent_says_is_written_down_where_it_can_be(status: dict, written: dict) -> None:
    assert _http(status) == written
