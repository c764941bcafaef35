"""Measure an agent's memory and how long it takes to be ready, on this machine and emulated (docs/arm.md).

    python -m benchmarks.agent_memory [NAME] [--architecture armhf|arm64] [--native] [--json]

The agent of a Pynq drives the register-level model, so that its driver's memory counts and a simulator's does not. It
serves NAME (default: resnet18_v1, seeded random weights), on VTA and on the CPU alone. Ready means: the state file is
there, RPC and HTTP answer; with a model, its self-test has passed. Memory is the kernel's account of the process: under
emulation the emulator and its translated code are part of it, which the line of an idle interpreter shows.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from scripts.emulated_agent import (
    THIS_MACHINE,
    InstalledAgent,
    Resident,
    agent_folder,
    idle_interpreter,
    install,
    running_agent,
)
from scripts.emulated_root import ARCHITECTURES, make_root
from scripts.project_wheel import build_wheel

from edge_agent.boards import BoardProfile, profile
from edgectl.boards.board import Board
from edgectl.build_cache import BuildCache
from edgectl.building import Build
from edgectl.codegen.cpu import cpu_target
from edgectl.deploying import compile_source
from edgectl.images import DEFAULT_IMAGE
from edgectl.sources import Source
from edgectl.stages import Stages

INFERENCES = 5


@dataclass(frozen=True)
class Row:
    """One measurement: MiB, and seconds from start to ready where something was started."""

    machine: str
    what: str
    resident: Resident
    ready_seconds: float | None = None

    def __str__(self) -> str:
        ready = "" if self.ready_seconds is None else f"{self.ready_seconds:.1f} s"
        mebibytes = (self.resident.now, self.resident.anonymous, self.resident.peak)
        return f"| {self.machine} | {self.what} | {' | '.join(f'{size:.0f}' for size in mebibytes)} | {ready} |"


def measure(installed: InstalledAgent, machine: str, builds: dict[str, Build]) -> Iterator[Row]:
    """An interpreter with NumPy, an agent without a model, and with each build: deployed, deployed over another version
    of itself, and started again with it."""
    yield Row(machine, "Python and NumPy, idle", idle_interpreter(installed))
    for what, build in builds.items():
        with agent_folder(installed) as folder:
            with running_agent(installed, "pynq", folder) as agent:
                yield Row(machine, "agent without a model", Resident.of(agent.pid), agent.seconds_to_ready)
                with Board(agent.address, agent.state.key, deadline=900) as board:
                    board.deploy(build)
                    for _ in range(INFERENCES):
                        board.run(DEFAULT_IMAGE)
                    yield Row(machine, f"serving {what}", Resident.of(agent.pid))
                    board.connection.activate(build.digest)  # beside the live one, as a new version is
                    board.run(DEFAULT_IMAGE)
                    yield Row(machine, f"{what}, activated again", Resident.of(agent.pid))
            with running_agent(installed, "pynq", folder) as agent:
                yield Row(machine, f"{what}, started again", Resident.of(agent.pid), agent.seconds_to_ready)


def builds_for(name: str, kind: BoardProfile) -> dict[str, Build]:
    cache = BuildCache.from_environment()
    return {
        f"{name} on {device}": compile_source(Source(name, weights="random", offload=offload), kind, Stages(), cache)[0]
        for device, offload in (("VTA", "all"), ("the CPU", "none"))
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", nargs="?", default="resnet18_v1")
    parser.add_argument("--architecture", default="armhf", choices=list(ARCHITECTURES))
    parser.add_argument("--native", action="store_true", help="this machine's processor alone")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    places: list[tuple[str, InstalledAgent, BoardProfile]] = []
    pynq = profile("pynq")
    places.append(("native", THIS_MACHINE, replace(pynq, cpu=cpu_target("host").name)))
    if not options.native:
        architecture = ARCHITECTURES[options.architecture]
        with tempfile.TemporaryDirectory() as folder:
            installed = install(make_root(architecture), build_wheel(Path(folder)))
        places.append((options.architecture, installed, pynq))
    rows = []
    if not options.json:
        print("| machine | what | resident MiB | of it anonymous | at most | ready after |\n|---|---|---|---|---|---|")
    for machine, installed, kind in places:
        for row in measure(installed, machine, builds_for(options.name, kind)):
            rows.append(row)
            if not options.json:
                print(row, flush=True)
    if options.json:
        print(json.dumps([asdict(row) for row in rows], indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
