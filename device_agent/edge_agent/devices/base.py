"""The contract between the runtime and an accelerator. A new kind of board is one file beside this one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from edge_agent.vta.counters import Counters
from edge_agent.vta.program import Program


@dataclass(frozen=True)
class AcceleratorInfo:
    """What an accelerator is: its kind ("sim", ...), configuration name, features and clock in hertz."""

    kind: str
    config: str
    features: frozenset[str]
    clock_hz: int


@dataclass(frozen=True)
class RunStats:
    """One run: wall seconds inside the accelerator's driver, and what the program moved and computed."""

    seconds: float
    counters: Counters
    device: dict[str, float] = field(default_factory=dict)
    """Further numbers of this kind of device, by name."""


class LoadedProgram(ABC):
    """A program placed in an accelerator's memory; opaque to callers."""

    program: Program


class Accelerator(ABC):
    """Owned by one thread at a time; the agent's queue sees to that."""

    @abstractmethod
    def describe(self) -> AcceleratorInfo: ...

    @abstractmethod
    def load(self, program: Program) -> LoadedProgram:
        """Place and check a program. Raises IncompatibleError (config, features) or ProgramError (a broken rule)."""

    @abstractmethod
    def run(
        self, loaded: LoadedProgram, inputs: Mapping[str, np.ndarray], outputs: Mapping[str, np.ndarray]
    ) -> RunStats:
        """Run once. Arrays have the shapes and dtypes of the program's tensors; outputs are written in place.

        Raises DeadlineError where the accelerator does not finish; the caller then calls `reset`.
        """

    @abstractmethod
    def unload(self, loaded: LoadedProgram) -> None: ...

    @abstractmethod
    def reset(self) -> None:
        """Bring the accelerator back to its state after programming; loaded programs stay valid."""

    def condition(self) -> str:
        """Why it cannot be used until its FPGA is programmed again; "" while it can. From any thread."""
        return ""

    def reprogrammed(self) -> None:  # noqa: B027
        """The FPGA has just been programmed, with the same configuration; loaded programs stay valid."""

    def close(self) -> None:  # noqa: B027
        """Give back what the driver holds; nothing may be called after it."""
