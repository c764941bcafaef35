"""The agent on an emulated armv7 processor, installed and started as on a board: docs/arm.md.

`pytest -m emulated`, as root, with the system packages debootstrap and qemu-user-static; the first run makes the root.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scripts.emulated_agent import InstalledAgent, Resident, RunningAgent, install, running_agent
from scripts.emulated_root import ARCHITECTURES, make_root, obstacle
from scripts.project_wheel import TREE, build_wheel

from edge_agent.boards import profile
from edge_agent.bundle import read_bundle
from edge_agent.register_model.files import QUIRKS
from edge_agent.register_model.quirks import Quirks
from edge_agent.runtime.cpu import this_machine
from edgectl.boards.board import Board, model_inputs
from edgectl.building import Build, build_integer
from edgectl.bundle import write_bundle
from edgectl.deploying import compile_source
from edgectl.errors import DeadlineError, IncompatibleError
from edgectl.images import DEFAULT_IMAGE
from edgectl.interpreter import interpret
from edgectl.sources import Source
from edgectl.stages import Stages

pytestmark = [pytest.mark.slow, pytest.mark.emulated, pytest.mark.timeout(3600)]

DEMO = "resnet20_cifar10"
RESIDENT_MIB = 150
"""What an agent that serves resnet18_v1 may take of a Pynq's 512 MiB."""
PHOTOGRAPHS = TREE.parent / "shared" / "data" / "cifar10_evaluation.npz"
SIMULATED = ("sim", "de10nano-sim", "ultra96-sim", "zcu104-sim")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> InstalledAgent:
    architecture = ARCHITECTURES["armhf"]
    if problem := obstacle(architecture):
        pytest.skip(problem)
    return install(make_root(architecture), build_wheel(tmp_path_factory.mktemp("wheel")))


@pytest.fixture(scope="module")
def pynq(installed: InstalledAgent) -> Iterator[RunningAgent]:
    """A Pynq: the agent and its driver on armv7, in front of the register-level model."""
    with running_agent(installed, "pynq") as agent:
        yield agent


def edgectl(agent: RunningAgent, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line, in a process of its own."""
    program = "import sys; from edgectl.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", program, *arguments, "--board", agent.address]
    environment = {**os.environ, "EDGECTL_KEY": agent.state.key, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1500, check=False)


def deployed(agent: RunningAgent, *arguments: str) -> dict[str, Any]:
    """What `edgectl deploy ARGUMENTS... --json` prints: it has passed its self-test."""
    result = edgectl(agent, "deploy", *arguments, "--json")
    assert result.returncode == 0, result.stderr
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def connect(agent: RunningAgent) -> Board:
    return Board(agent.address, agent.state.key, deadline=600)


def compiled(source: Source, board: str) -> Build:
    return compile_source(source, board, Stages())[0]


def images(manifest: Mapping[str, Any]) -> list[dict[str, np.ndarray]]:
    """The photograph that ships, whole and mirrored; and others, where they are at hand."""
    (spec,) = manifest["inputs"]
    (cat,) = model_inputs(manifest, DEFAULT_IMAGE).values()
    found = [cat, np.ascontiguousarray(cat[..., ::-1])]
    if PHOTOGRAPHS.exists() and tuple(spec["shape"][-2:]) == (32, 32):
        pixels = np.load(PHOTOGRAPHS)["x"][:4].transpose(0, 3, 1, 2).astype(np.float32) / 255
        how = manifest["preprocessing"]
        mean, std = (np.array(how[name], np.float32).reshape(1, 3, 1, 1) for name in ("mean", "std"))
        found += list(((pixels - mean) / std)[:, None])
    return [{spec["name"]: image} for image in found]


def check_equal(agent: RunningAgent, build: Build) -> None:
    """What is live there computes what the interpreter does, to the bit: scores are int32, scaled once."""
    with connect(agent) as board:
        assert board.status()["live"]["digest"] == build.digest
        for inputs in images(build.manifest):
            expected = interpret(build.integer_model, inputs)
            reply = board.infer(inputs)
            assert reply.counters == build.counters.as_dict()
            for name, array in expected.items():
                assert array.std() > 0
                np.testing.assert_array_equal(reply.outputs[name], array)


def test_it_is_installed_as_on_a_board(installed: InstalledAgent) -> None:
    """Wheels alone, NumPy the distribution's, nothing of the host."""
    program = (
        "import importlib.util, json, numpy, platform, prometheus_client, zeroconf;"
        "foreign = [name for name in ('tvm', 'typer', 'rich', 'ziglang') if importlib.util.find_spec(name)];"
        "print(json.dumps([platform.machine(), numpy.__file__, zeroconf.__version__, foreign]))"
    )
    machine, numpy_file, zeroconf, foreign = json.loads(installed.root.run([installed.python, "-c", program]))
    assert machine == "armv7l" and foreign == []
    assert numpy_file.startswith("/usr/lib/python3/dist-packages/")
    assert (0, 147) <= tuple(map(int, zeroconf.split(".")[:2])) < (0, 153)


@pytest.mark.parametrize("device", ["vta", "cpu"])
def test_a_network_is_deployed_over_rpc(pynq: RunningAgent, device: str) -> None:
    """Compiled here for a Pynq, which its driver then runs on the register-level model, or its CPU alone."""
    measured = deployed(pynq, DEMO, "--device", device)
    assert measured["board"]["profile"] == "pynq" and measured["top"][0]["label"] == "cat"
    build = compiled(Source(DEMO, offload="none" if device == "cpu" else "all"), "pynq")
    assert bool(build.programs) == (device == "vta")
    check_equal(pynq, build)


@pytest.mark.parametrize("device", ["vta", "cpu"])
def test_resnet18_fits_the_memory_of_a_pynq(installed: InstalledAgent, device: str) -> None:
    """The emulator's own memory and, on VTA, that of programs included, which a board takes from its DMA memory."""
    source = Source("resnet18_v1", weights="random", offload="none" if device == "cpu" else "all")
    build = compiled(source, "pynq")
    with running_agent(installed, "pynq") as agent:
        with connect(agent) as board:
            board.deploy(build)
        check_equal(agent, build)
        resident = Resident.of(agent.pid)
    assert resident.now < RESIDENT_MIB, resident


def test_a_run_that_does_not_end_is_reset(pynq: RunningAgent) -> None:
    """Through the system registers of /dev/mem, beyond the 2 GiB that an offset of 32 bits would reach."""
    build = compiled(Source(DEMO), "pynq")
    assert pynq.model is not None
    with connect(pynq) as board:
        board.deploy(build)
        (inputs, *_) = images(build.manifest)
        Quirks(hang="start").write(pynq.model / QUIRKS)
        with pytest.raises(DeadlineError, match="did not finish within"):
            board.infer(inputs)
        Quirks().write(pynq.model / QUIRKS)
        board.infer(inputs)
        assert board.status()["degraded"] == ""
    assert "the accelerator was reset" in pynq.log.read_text()
    check_equal(pynq, build)


@pytest.mark.parametrize("board", SIMULATED)
def test_a_simulated_board_on_another_machine(installed: InstalledAgent, board: str) -> None:
    """Kernels are for the machine that its agent says it runs on, not for this one."""
    with running_agent(installed, board) as agent:
        deployed(agent, DEMO)
        kind = replace(profile(board), cpu="armv7")
        check_equal(agent, compile_source(Source(DEMO), kind, Stages())[0])


def repackaged(build: Build, manifest: Mapping[str, Any], members: Mapping[str, bytes]) -> bytes:
    kept = {key: value for key, value in build.manifest.items() if key not in ("schema", "members")}
    return write_bundle({**kept, **manifest}, {**read_bundle(build.data).members, **members})


def test_libraries_that_are_no_good_never_go_live(pynq: RunningAgent) -> None:
    """Another processor's, by manifest and by ELF header, both named; truncated; garbage. What is live stays."""
    good = compiled(Source(DEMO), "pynq")
    foreign = build_integer(good.integer_model, replace(profile("pynq"), cpu="x86_64"))
    library = read_bundle(good.data).members["kernels.so"]
    with connect(pynq) as board:
        live = board.deploy(good)["digest"]
        with pytest.raises(IncompatibleError, match="kernels are for x86_64, this board is armv7l"):
            board.deploy(foreign)
        for data, message in (
            (foreign.data, "kernels are for x86_64, this board is armv7l"),
            (
                repackaged(good, {}, {"kernels.so": read_bundle(foreign.data).members["kernels.so"]}),
                "the kernel library is for x86_64, this board is armv7l",
            ),
            (repackaged(good, {}, {"kernels.so": library[: len(library) // 2]}), "its segments reach to"),
            (repackaged(good, {}, {"kernels.so": b"garbage"}), "not a little-endian ELF"),
        ):
            digest = board.connection.upload(data)  # past what the controller checks
            with pytest.raises(IncompatibleError, match=message):
                board.connection.activate(digest)
            assert board.status()["live"]["digest"] == live
    check_equal(pynq, good)


def test_this_machine_is_another() -> None:
    """Else nothing here would show that kernels are compiled for another processor."""
    assert this_machine() != "armv7l"
