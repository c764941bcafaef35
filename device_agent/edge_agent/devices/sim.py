"""The simulated accelerator: keeps the hardware's rules, computes with NumPy."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from edge_agent.boards import BoardProfile
from edge_agent.devices.base import Accelerator, AcceleratorInfo, LoadedProgram, RunStats
from edge_agent.errors import IncompatibleError, InputError
from edge_agent.vta.program import Program
from edge_agent.vta.simulator import Simulation
from edge_agent.vta.verify import verify


class SimulatedProgram(LoadedProgram):
    """A program compiled for the simulator."""

    def __init__(self, program: Program, simulation: Simulation) -> None:
        self.program = program
        self.simulation = simulation


class Simulator(Accelerator):
    """An accelerator of a profile's configuration and features, in this process."""

    def __init__(self, profile: BoardProfile) -> None:
        self._info = AcceleratorInfo("sim", profile.config, profile.features, profile.clock_hz)
        self._loaded: set[SimulatedProgram] = set()

    def describe(self) -> AcceleratorInfo:
        return self._info

    def load(self, program: Program) -> SimulatedProgram:
        if program.config != self._info.config:
            raise IncompatibleError(
                f"program '{program.name}' is for configuration {program.config}, this accelerator "
                f"has {self._info.config}; compile the model for this board"
            )
        loaded = SimulatedProgram(program, Simulation(verify(program, self._info.features)))
        self._loaded.add(loaded)
        return loaded

    def run(
        self, loaded: LoadedProgram, inputs: Mapping[str, np.ndarray], outputs: Mapping[str, np.ndarray]
    ) -> RunStats:
        """Run once. Raises InputError where an array is not the program's, or the program is not loaded here."""
        if not isinstance(loaded, SimulatedProgram) or loaded not in self._loaded:
            raise InputError(f"program '{loaded.program.name}' is not loaded on this accelerator; load it again")
        begin = time.perf_counter()
        loaded.simulation.run(inputs, outputs)
        return RunStats(time.perf_counter() - begin, loaded.program.counters)

    def unload(self, loaded: LoadedProgram) -> None:
        self._loaded.discard(loaded)

    def reset(self) -> None:
        """Nothing to do: a run leaves no state behind."""


def open_device(profile: BoardProfile, directory: Path) -> Accelerator:
    return Simulator(profile)
