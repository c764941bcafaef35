"""Whether a bundle was made for this board: checked before anything of it is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edge_agent.devices.base import AcceleratorInfo
from edge_agent.errors import IncompatibleError
from edge_agent.runtime.cpu import processor_flags, this_machine

AGENT_PROTOCOL = 1
"""Version of the contract between a bundle and the runtime that executes it."""


@dataclass(frozen=True)
class Processor:
    """A board's CPU: its machine name and the /proc/cpuinfo names of its instruction sets (empty: unknown)."""

    machine: str
    flags: frozenset[str]

    @classmethod
    def here(cls, machine: str | None = None) -> Processor:
        """This machine's; `machine` is accepted instead of its own name where given."""
        return cls(machine or this_machine(), processor_flags())


def check_manifest(manifest: Mapping[str, Any], accelerator: AcceleratorInfo, cpu: Processor, board: str = "") -> None:
    """Raise IncompatibleError, naming both values and the repair, where the bundle does not fit.

    The controller checks so before it uploads, the agent before it loads; `board` is the profile that the repair
    names, where it is known. Keys: agent_protocol, config, features,
    cpu {machine, and optionally flags: the /proc/cpuinfo names of the instruction sets its kernels use}.
    """
    repair = _repair(manifest, board)
    try:
        protocol, config = manifest["agent_protocol"], manifest["config"]
        features, machine = frozenset(manifest["features"]), manifest["cpu"]["machine"]
        flags = frozenset(manifest["cpu"].get("flags", ()))
    except (KeyError, TypeError, AttributeError) as error:
        raise IncompatibleError(f"the bundle's manifest lacks {error}; {repair}") from error
    if protocol != AGENT_PROTOCOL:
        raise IncompatibleError(
            f"the bundle is for agent protocol {protocol}, this agent has {AGENT_PROTOCOL}; "
            "install the same version of edgectl here and on the host, then compile again"
        )
    if config != accelerator.config:
        raise IncompatibleError(
            f"the bundle is for VTA configuration {config}, this board has {accelerator.config}; {repair}"
        )
    if not features <= accelerator.features:
        raise IncompatibleError(
            f"the bundle needs VTA features {sorted(features)}, this board has {sorted(accelerator.features)}; {repair}"
        )
    if machine != cpu.machine:
        raise IncompatibleError(f"the bundle's kernels are for {machine}, this board is {cpu.machine}; {repair}")
    if cpu.flags and not flags <= cpu.flags:
        raise IncompatibleError(
            f"the bundle's kernels use {', '.join(sorted(flags - cpu.flags))}, which this processor "
            f"({machine}) lacks; {repair}"
        )


def _repair(manifest: Mapping[str, Any], board: str) -> str:
    model = manifest.get("model")
    name = model.get("name") if isinstance(model, Mapping) else model
    option = f"--board {board}`" if board else "--board NAME`, NAME being this board's profile"
    return f"compile again with `edgectl compile {name or 'MODEL'} {option}"
