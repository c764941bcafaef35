"""An unmodified TVM client, in a process of its own, against an agent's RPC port."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgectl.deploying import compile_source
from edgectl.interpreter import interpret
from edgectl.simulated_board import SimulatedBoard
from edgectl.sources import Source
from edgectl.stages import Stages
from tests.edge_agent.bundles import identity_bundle
from tests.edge_agent.fakes import COUNTERS, KEY, Board, board, bundle_bytes

pytest.importorskip("tvm")


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Board]:
    with board(tmp_path / "state") as running:
        yield running


def run_client(scenario: str, address: tuple[str, int], key: str, bundle: Path) -> dict[str, Any]:
    """What the stock client found."""
    script = Path(__file__).with_name("stock_client.py")
    command = [sys.executable, str(script), scenario, address[0], str(address[1]), key, str(bundle)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = tmp_path / "double.bundle"
    path.write_bytes(bundle_bytes("double", bias=1))
    return path


def test_files(agent: Board, bundle: Path) -> None:
    found = run_client("files", agent.address, KEY, bundle)
    assert found["listed"] == "one.bin,two.bundle" and found["left"] == "two.bundle" and found["same"]
    assert all("input: " in error for error in [*found["refused"], found["missing"]])
    assert not (agent.endpoint.folder.parent / "x").exists()


def test_every_kind_of_argument(agent: Board, bundle: Path) -> None:
    found = run_client("arguments", agent.address, KEY, bundle)
    assert found["values"] == [None, 7, -(2**62), True, 2.5, "text", "a longer text" * 100]
    assert bytes.fromhex(found["bytes"]) == bytes(range(256)) and bytes.fromhex(found["short_bytes"]) == b"abc"
    assert found["dtype"] == "int8" and found["device"] == 1
    assert found["tensor"] == [[0, 1, 2], [3, 4, 5]]
    assert "edge.echo takes (value: any)" in found["too_many"]
    assert "'nbytes' is a string" in found["wrong_type"]
    assert "no.such.function" in found["unknown"]


def test_tensors_are_copied_there_back_and_among(agent: Board, bundle: Path) -> None:
    found = run_client("tensors", agent.address, KEY, bundle)
    assert found.pop("absent") is False
    assert found and all(found.values()), found


def test_a_bundle_is_a_module(agent: Board, bundle: Path) -> None:
    found = run_client("module", agent.address, KEY, bundle)
    expected = [[3, 5, 7, 9]]
    assert found["main"] == found["into"] == found["graph"] == expected
    assert found["counters"] == {"seconds": 0.004, "vta_seconds": 0.003, "counters": COUNTERS.as_dict()}
    assert found["described"]["model"] == "double"
    assert len(found["results"]) == 4 and len(found["longer"]) == 2
    assert all(0 < seconds < 1 for seconds in found["results"] + found["longer"])
    assert "not an edgectl bundle" in found["library"] and "no file 'none.bundle'" in found["missing"]
    assert "takes 'data' of shape" in found["wrong_shape"]
    assert "no_such_function" in found["unknown"]
    assert agent.runtime.loaded == 0


def test_an_agents_process_serves_both_clients(tmp_path: Path) -> None:
    path = tmp_path / "identity.bundle"
    path.write_bytes(identity_bundle())
    simulated = SimulatedBoard(directory=tmp_path / "state")
    with simulated.started_here() as running, running.connect() as connection:
        try:
            digest = connection.activate(connection.upload(identity_bundle("other")))["digest"]
            found = run_client("module", running.address, running.state.key, path)
            assert found["main"] == found["into"] == found["graph"] == [[1, 2, 3, 4]]
            assert found["described"]["model"] == "identity" and len(found["results"]) == 4
            assert connection.status()["live"]["digest"] == digest
        finally:
            simulated.stop()


def test_pixels_are_an_input(tmp_path: Path) -> None:
    built, _ = compile_source(Source("resnet20_cifar10", pixels=True), "sim", Stages())
    path = tmp_path / "pixels.bundle"
    path.write_bytes(built.data)
    simulated = SimulatedBoard(directory=tmp_path / "state")
    with simulated.started_here() as running:
        try:
            found = run_client("pixels", running.address, running.state.key, path)
        finally:
            simulated.stop()
    (expected,) = interpret(built.integer_model, {"data": np.array(found["image"], np.uint8)}).values()
    np.testing.assert_allclose(found["output"], expected, rtol=1e-5, atol=1e-6)
    assert "uint8" in found["floats"] and "float32" in found["floats"]


def test_a_wrong_key_is_refused(agent: Board, bundle: Path) -> None:
    assert "cannot find server that matches key" in run_client("wrong-key", agent.address, "sim:wrong", bundle)["error"]


def test_a_session_timeout_is_reported_as_one(agent: Board, bundle: Path) -> None:
    assert "RPCSessionTimeoutError" in run_client("expire", agent.address, KEY, bundle)["error"]
