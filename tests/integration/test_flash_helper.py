"""An agent that leaves programming to edge-fpga: both as processes, on the modelled board."""

from __future__ import annotations

import getpass
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from edge_agent.devices.zynq_model import FOLDER
from edge_agent.register_model.files import ROOT
from edge_agent.state_file import AgentState
from edgectl.boards.client import Connection
from tests.edge_agent.fpga.bitfiles import bit_file, configuration

SECONDS = 120.0


def wait_for(condition: Callable[[], object], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)


def test_the_helper_programs_for_the_agent(tmp_path: Path) -> None:
    state_file, path, log = tmp_path / "agent.json", tmp_path / "fpga.socket", tmp_path / "helper.log"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    agent = [sys.executable, "-m", "edge_agent.agent", "--board", "pynq-model", "--port", "0", "--http-port", "0"]
    agent += ["--state-dir", str(tmp_path / "state"), "--state-file", str(state_file), "--fpga-helper", str(path)]
    helper = [sys.executable, "-m", "edge_agent.fpga.helper", "--board", "pynq-model", "--socket", str(path)]
    processes = [subprocess.Popen(agent, env=environment)]
    try:
        wait_for(lambda: AgentState.read(state_file), processes[0])
        system = {**environment, "EDGE_AGENT_ROOT": str(tmp_path / "state" / FOLDER / ROOT)}
        with log.open("wb") as file:
            processes.append(subprocess.Popen([*helper, "--user", getpass.getuser()], env=system, stderr=file))
        wait_for(path.exists, processes[1])
        state = AgentState.read(state_file)
        assert state is not None
        with Connection((state.host, state.rpc_port), state.key) as connection:
            sha256 = connection.upload(bit_file(configuration()), family="edge.flash")
            account = connection.program(sha256, "vta.bit", "1x16_i8w8a32_15_15_18_17", "0.0.2")
            assert account["bitstream"]["id"] == "vta.bit" and len(account["self_test"]["cases"]) == 8
            assert connection.status()["fpga"]["bitstream"]["sha256"] == sha256
        assert f"programmed {sha256[:12]}" in log.read_text()
    finally:
        for process in reversed(processes):
            process.send_signal(signal.SIGTERM)
            process.wait(60)
    assert [process.returncode for process in processes] == [0, 0]
