"""Whether a bundle was made for this board: checked before anything of it is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edge_agent.devices.base import AcceleratorInfo
from edge_agent.errors import IncompatibleError
from edge_agent.runtime.cpu import processor_flags, this_machine

AGENT_PROTOCOL = 1
"""Version of the contract between a bundle and the runtime that executes it."""


def check_manifest(manifest: Mapping[str, Any], accelerator: AcceleratorInfo, cpu: str | None = None) -> None:
    """Raise IncompatibleError, naming both values and the repair, where the bundle does not fit.

    `cpu` is the machine to accept (default: this one). Keys: agent_protocol, config, features, cpu {machine, and
    optionally flags: the /proc/cpuinfo names of the instruction sets its kernels use}.
    """
    try:
        protocol, config = manifest["agent_protocol"], manifest["config"]
        features, machine = frozenset(manifest["features"]), manifest["cpu"]["machine"]
        flags = frozenset(manifest["cpu"].get("flags", ()))
    except (KeyError, TypeError, AttributeError) as error:
        raise IncompatibleError(f"the bundle's manifest lacks {error}; {_repair(manifest)}") from error
    if protocol != AGENT_PROTOCOL:
        raise IncompatibleError(f"the bundle is for agent protocol {protocol}, this agent has {AGENT_PROTOCOL}; "
                                "install the same version of edgectl here and on the host, then compile again")
    if config != accelerator.config:
        raise IncompatibleError(f"the bundle is for VTA configuration {config}, this board has {accelerator.config}; "
                                f"{_repair(manifest)}")
    if not features <= accelerator.features:
        raise IncompatibleError(f"the bundle needs VTA features {sorted(features)}, this board has "
                                f"{sorted(accelerator.features)}; {_repair(manifest)}")
    here = cpu or this_machine()
    if machine != here:
        raise IncompatibleError(f"the bundle's kernels are for {machine}, this board is {here}; {_repair(manifest)}")
    present = processor_flags()
    if present and not flags <= present:
        raise IncompatibleError(f"the bundle's kernels use {', '.join(sorted(flags - present))}, which this processor "
                                f"({machine}) lacks; {_repair(manifest)}")


def _repair(manifest: Mapping[str, Any]) -> str:
    model = manifest.get("model")
    name = model.get("name") if isinstance(model, Mapping) else model
    return f"compile again with `edgectl compile {name or 'MODEL'} --board NAME`, NAME being this board's profile"
