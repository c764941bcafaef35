"""Runs the self-test on an accelerator."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_agent.devices.base import Accelerator
from edge_agent.errors import AgentError, DeadlineError, VerificationError
from edge_agent.self_test.cases import Case, cases
from edge_agent.vta.config import Config

_NEVER = 0x55
"""What outputs hold before a run; no output of the cases is full of it."""


@dataclass(frozen=True)
class SelfTest:
    """A self-test that was passed: the seconds of each case by its name."""

    seconds: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        return {"seconds": sum(self.seconds.values()), "cases": dict(self.seconds)}


def self_test(accelerator: Accelerator) -> SelfTest:
    """Compute every case of `cases` on an accelerator and compare to the bit.

    Raises VerificationError, naming the case and the first difference, where a result is wrong or does not come.
    """
    info = accelerator.describe()
    seconds = {}
    for case in cases(Config.parse(info.config), info.features):
        begin = time.perf_counter()
        _run(accelerator, case)
        seconds[case.name] = time.perf_counter() - begin
    return SelfTest(seconds)


def _run(accelerator: Accelerator, case: Case) -> None:
    try:
        loaded = accelerator.load(case.program)
        try:
            outputs = {name: np.full_like(array, _NEVER) for name, array in case.expected.items()}
            accelerator.run(loaded, case.inputs, outputs)
        finally:
            accelerator.unload(loaded)
    except DeadlineError as error:
        accelerator.reset()
        raise VerificationError(f"the self-test of {case.name} does not end: {error}") from error
    except AgentError as error:
        raise VerificationError(f"the self-test of {case.name} cannot run: {error}") from error
    for name, expected in case.expected.items():
        wrong = np.argwhere(outputs[name] != expected)
        if len(wrong):
            first = tuple(wrong[0].tolist())
            raise VerificationError(
                f"the self-test of {case.name} is wrong in {len(wrong)} of {expected.size} values: {name}{list(first)} "
                f"is {outputs[name][first]}, it must be {expected[first]}"
            )
