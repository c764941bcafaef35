"""A real Prometheus with the shipped configuration finds a board through `edgectl sd`, scrapes it, and knows what its
client measured. Only addresses and intervals are replaced."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgectl.boards.board import Board
from edgectl.boards.inventory import Inventory, InventoryBoard
from edgectl.building import build
from edgectl.simulated_board import SimulatedBoard
from tests.deploy.expressions import dashboard_expressions, rules
from tests.edgectl.quantization.networks import NETWORKS

pytestmark = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="needs the system's package prometheus (apt-get install prometheus)"
)
FOLDER = Path(__file__).parents[2] / "deploy" / "prometheus"
PATIENCE = 60.0
LATENCY = 'sum(edge_sample_latency_seconds_sum{board="sim"}) / sum(edge_sample_latency_seconds_count{board="sim"})'
EMPTY_WHERE_ALL_IS_WELL = {"Failed inferences", "Refused connections"}
"""Panels that show only what goes wrong."""


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-c", "from edgectl.cli import main; main()", *map(str, arguments)]


def eventually(what: Callable[[], Any]) -> Any:
    """The first result of `what` that is true."""
    deadline = time.monotonic() + PATIENCE
    while not (found := what()):
        assert time.monotonic() < deadline, found
        time.sleep(0.2)
    return found


@dataclass(frozen=True)
class Prometheus:
    """A server that runs."""

    url: str

    def get(self, path: str, **parameters: str) -> Any:
        """Raises HTTPError where an expression is none."""
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{query}", timeout=30) as response:
            return json.load(response)["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get("query", query=expression)["result"]
        return found

    def number(self, expression: str) -> float | None:
        """The value of an expression with one series; None where there is none yet."""
        found = self.query(expression)
        assert len(found) < 2, found
        return float(found[0]["value"][1]) if found else None

    def ready(self) -> bool:
        try:
            return bool(urllib.request.urlopen(f"{self.url}/-/ready", timeout=5).status == 200)
        except (urllib.error.URLError, OSError):
            return False


class Started:
    """Processes that end with a test module."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, *arguments: object, **options: Any) -> subprocess.Popen[str]:
        process = subprocess.Popen([str(argument) for argument in arguments], text=True, **options)
        self.processes.append(process)
        return process

    def prometheus(self, name: str, configuration: str) -> Prometheus:
        folder = self.folder / name
        folder.mkdir()
        shutil.copy(FOLDER / "edge.rules.yml", folder)
        (folder / "prometheus.yml").write_text(re.sub(r"_interval: \d+s", "_interval: 1s", configuration))
        with socket.create_server(("127.0.0.1", 0)) as free:
            place = f"127.0.0.1:{free.getsockname()[1]}"
        with (folder / "log").open("wb") as log:
            process = self.start(
                "prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address={place}", stdout=log, stderr=log,
            )  # fmt: skip
        server = Prometheus(f"http://{place}")
        eventually(lambda: server.ready() or process.poll() is not None)
        assert process.poll() is None, (folder / "log").read_text()
        return server


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    """With a state directory and an inventory of its own, and a simulated board on which a small model is live."""
    made = Started(tmp_path_factory.mktemp("prometheus"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGECTL_STATE", str(made.folder / "state"))
        patch.setenv("EDGECTL_INVENTORY", str(made.folder / "boards.toml"))
        board = SimulatedBoard()
        try:
            with Board() as opened:
                opened.deploy(build(NETWORKS["residual"](), "sim"))
            yield made
        finally:
            for process in made.processes:
                process.kill()
                process.communicate()
            board.stop()


@pytest.fixture(scope="module")
def prometheus(started: Started) -> Prometheus:
    """As docs/prometheus.md says: the list over HTTP, the configuration as it is shipped."""
    served = started.start(*command("sd", "--http", "127.0.0.1:0", "--json"), stdout=subprocess.PIPE)
    assert served.stdout is not None
    text = ""
    while not text.endswith("\n}\n"):
        line = served.stdout.readline()
        assert line, text
        text += line
    url = json.loads(text)["url"]
    configuration = (FOLDER / "prometheus.yml").read_text()
    assert configuration.count("http://127.0.0.1:9095/") == 1
    return started.prometheus("http", configuration.replace("http://127.0.0.1:9095/", url))


def image(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((1, 3, 16, 16)).astype(np.float32)


def test_latency_is_what_the_client_measured(prometheus: Prometheus, started: Started) -> None:
    assert eventually(lambda: prometheus.number('up{board="sim"}')) == 1.0
    (series,) = prometheus.query('up{board="sim"}')
    assert series["metric"]["board_type"] == "sim" and series["metric"]["job"] == "edge"
    before = prometheus.number("edge_samples_total") or 0.0
    told, clock = [], []
    with Board(start=False) as board:
        for seed in range(9):
            begin = time.perf_counter()
            told.append(board.infer({"data": image(seed)}).seconds)
            clock.append(time.perf_counter() - begin)
    assert before == 0.0  # self-tests are no inferences
    eventually(lambda: prometheus.number("edge_samples_total") == 9)
    found = prometheus.number(LATENCY)
    assert found is not None and math.isclose(found, sum(told) / 9, rel_tol=1e-9)
    assert 0 < found <= sum(clock) / 9  # the wire and this process come on top

    # One run of the command: what it shows a person is the growth of the sum.
    np.save(started.folder / "x.npy", image(9))
    total = prometheus.number("edge_sample_latency_seconds_sum")
    begin = time.perf_counter()
    ran = subprocess.run(
        command("run", "--input", started.folder / "x.npy", "--json"), capture_output=True, text=True, check=True
    )
    wall = time.perf_counter() - begin
    shown = json.loads(ran.stdout)["latency"]["per_sample_ms"] / 1e3
    eventually(lambda: prometheus.number("edge_samples_total") == 10)
    after = prometheus.number("edge_sample_latency_seconds_sum")
    assert total is not None and after is not None and math.isclose(after - total, shown, rel_tol=1e-6)
    assert shown < wall


def test_every_expression_answers(prometheus: Prometheus, started: Started) -> None:
    def groups() -> list[dict[str, Any]]:
        return [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]

    def measured() -> bool:
        """Whether rates have something to be computed from: inferences between two scrapes."""
        with Board(start=False) as board:
            board.infer({"data": image(0)})
        mean = prometheus.number("instance:edge_sample_latency_seconds:mean5m")
        return mean is not None and mean > 0

    eventually(measured)
    eventually(lambda: all(rule["health"] == "ok" for rule in groups()))
    assert {rule["name"] for rule in groups()} == {rule.name for rule in rules()}
    assert [rule["name"] for rule in groups() if rule.get("state", "inactive") != "inactive"] == []
    for rule in rules():
        if not rule.alert:
            values = [float(each["value"][1]) for each in prometheus.query(rule.name)]
            assert len(values) == 1 and values[0] >= 0, rule.name
    for title, expression in dashboard_expressions(board="sim", rate_interval="1m"):
        result = prometheus.query(expression)
        assert bool(result) != (title in EMPTY_WHERE_ALL_IS_WELL), (title, expression)
    bytes_moved = prometheus.query("edge_vta_bytes_total > 0")
    assert {each["metric"]["stream"] for each in bytes_moved} >= {"inp", "wgt", "out"}
    (measured_to_predicted,) = prometheus.query("instance:edge_inference_seconds:measured_to_predicted5m")
    assert float(measured_to_predicted["value"][1]) > 0


def test_a_board_that_is_down_stays_a_target_and_is_told(prometheus: Prometheus) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    Inventory().add(
        InventoryBoard("gone", "ab" * 16, "pynq", address="127.0.0.1:9091", http_host="127.0.0.1", http_port=port)
    )
    try:
        eventually(lambda: prometheus.number('up{board="gone"}') == 0)
        (series,) = prometheus.query('up{board="gone"}')
        expected = {"board": "gone", "board_type": "pynq", "board_id": "ab" * 16, "instance": f"127.0.0.1:{port}"}
        assert {name: series["metric"][name] for name in expected} == expected
        pending = 'ALERTS{alertname="EdgeAgentDown", alertstate="pending", board="gone"}'
        eventually(lambda: prometheus.query(pending))
    finally:
        Inventory().remove("gone")


def test_through_a_file(started: Started) -> None:
    file = started.folder / "edge.json"
    started.start(*command("sd", "--file", file, "--every", 1), stdout=subprocess.DEVNULL)
    shipped = (FOLDER / "prometheus.yml").read_text()
    # As its comment says: one block of comments for the other.
    without = re.sub(r"    http_sd_configs:\n(      .*\n)+", "", shipped)
    configuration = re.sub(r"    # (file_sd_configs:\n)    # (  - .*)\[edge.json\]", rf"    \1    \2[{file}]", without)
    assert "http_sd_configs" not in configuration and f"- files: [{file}]" in configuration
    server = started.prometheus("file", configuration)
    eventually(lambda: server.number('up{board="sim"}') == 1)
    running = SimulatedBoard().find()
    assert running is not None
    (series,) = server.query('edge_ready{board="sim"}')
    assert series["metric"]["instance"] == f"127.0.0.1:{running.state.http_port}" and series["value"][1] == "1"
    inode = os.stat(file).st_ino
    time.sleep(2.5)
    assert os.stat(file).st_ino == inode  # nothing has changed, so nothing was written
