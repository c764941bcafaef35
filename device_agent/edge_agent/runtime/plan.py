"""The plan: the static schedule of one inference, written by the host as JSON and read by the agent."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edge_agent.errors import IncompatibleError

PLAN_VERSION = 1
DTYPES = ("float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool")
MAXIMUM_BYTES = 1 << 31
"""Of all storages together; a damaged plan must not exhaust the board's memory."""


@dataclass(frozen=True)
class Buffer:
    """A tensor of the plan. `storage` and `offset` (bytes) place it; buffers of one storage may overlap in time.

    A constant has `constant` set: the name of the bundle member with its bytes, `offset` counting into it.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    storage: int = -1
    offset: int = 0
    constant: str = ""

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class KernelStep:
    """Call `kernel` of the bundle's library on buffers: inputs first, the output last. `layers`: what it computes."""

    kernel: str
    arguments: tuple[int, ...]
    layers: tuple[str, ...] = ()


@dataclass(frozen=True)
class ProgramStep:
    """Run the VTA program `program` (a bundle member) with its tensors bound to buffers."""

    program: str
    inputs: Mapping[str, int] = field(default_factory=dict)
    outputs: Mapping[str, int] = field(default_factory=dict)


Step = KernelStep | ProgramStep


@dataclass(frozen=True)
class Plan:
    """Steps run in order. `storages` are sizes in bytes; `inputs`/`outputs` map the model's names to buffers.

    `observed` names integer buffers that a self-test compares by digest; each keeps its value until the end of a run.
    """

    buffers: tuple[Buffer, ...]
    storages: tuple[int, ...]
    steps: tuple[Step, ...]
    inputs: Mapping[str, int]
    outputs: Mapping[str, int]
    observed: Mapping[str, int] = field(default_factory=dict)

    def to_json(self) -> str:
        steps = [
            {"kernel": s.kernel, "arguments": list(s.arguments), "layers": list(s.layers)}
            if isinstance(s, KernelStep)
            else {"program": s.program, "inputs": dict(s.inputs), "outputs": dict(s.outputs)}
            for s in self.steps
        ]
        document = {
            "version": PLAN_VERSION,
            "buffers": [
                {
                    "name": b.name,
                    "shape": list(b.shape),
                    "dtype": b.dtype,
                    "storage": b.storage,
                    "offset": b.offset,
                    "constant": b.constant,
                }
                for b in self.buffers
            ],
            "storages": list(self.storages),
            "steps": steps,
            "inputs": dict(self.inputs),
            "outputs": dict(self.outputs),
            "observed": dict(self.observed),
        }
        return json.dumps(document, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Parse and check. Raises IncompatibleError on another version, malformed or out-of-range content."""
        try:
            document: dict[str, Any] = json.loads(text)
            if document["version"] != PLAN_VERSION:
                raise IncompatibleError(
                    f"plan version {document['version']}, this agent reads {PLAN_VERSION}; "
                    "compile the model again with the agent's version of edgectl"
                )
            plan = cls(
                buffers=tuple(
                    Buffer(
                        str(b["name"]),
                        tuple(int(n) for n in b["shape"]),
                        str(b["dtype"]),
                        int(b["storage"]),
                        int(b["offset"]),
                        str(b["constant"]),
                    )
                    for b in document["buffers"]
                ),
                storages=tuple(int(n) for n in document["storages"]),
                steps=tuple(_step(s) for s in document["steps"]),
                inputs={str(k): int(v) for k, v in document["inputs"].items()},
                outputs={str(k): int(v) for k, v in document["outputs"].items()},
                observed={str(k): int(v) for k, v in document["observed"].items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise IncompatibleError(f"the plan is malformed: {error!r}") from error
        plan.check()
        return plan

    def check(self) -> None:
        """Raise IncompatibleError unless every buffer lies inside its storage and every index exists."""
        if min(self.storages, default=0) < 0 or sum(self.storages) > MAXIMUM_BYTES:
            raise IncompatibleError(
                f"the plan's storages add up to {sum(self.storages)} bytes, or one is negative; "
                f"at most {MAXIMUM_BYTES} are accepted"
            )
        for buffer in self.buffers:
            if buffer.dtype not in DTYPES:
                raise IncompatibleError(
                    f"the plan's buffer '{buffer.name}' has dtype '{buffer.dtype}'; known are {', '.join(DTYPES)}"
                )
            if any(extent < 0 for extent in buffer.shape) or buffer.offset < 0:
                raise IncompatibleError(f"the plan's buffer '{buffer.name}' has a negative extent or offset")
            if not buffer.constant:
                if not 0 <= buffer.storage < len(self.storages):
                    raise IncompatibleError(
                        f"the plan's buffer '{buffer.name}' lies in storage {buffer.storage}, "
                        f"there are {len(self.storages)}"
                    )
                if buffer.offset + buffer.nbytes > self.storages[buffer.storage]:
                    raise IncompatibleError(f"the plan's buffer '{buffer.name}' exceeds its storage")
        indices = [*self.inputs.values(), *self.outputs.values(), *self.observed.values()]
        for step in self.steps:
            if isinstance(step, KernelStep):
                indices += step.arguments
            else:
                indices += [*step.inputs.values(), *step.outputs.values()]
        bad = [index for index in indices if not 0 <= index < len(self.buffers)]
        if bad:
            raise IncompatibleError(f"the plan names buffer {bad[0]}, there are {len(self.buffers)}")


def _step(document: dict[str, Any]) -> Step:
    if "kernel" in document:
        return KernelStep(
            str(document["kernel"]),
            tuple(int(i) for i in document["arguments"]),
            tuple(str(name) for name in document["layers"]),
        )
    return ProgramStep(
        str(document["program"]),
        {str(k): int(v) for k, v in document["inputs"].items()},
        {str(k): int(v) for k, v in document["outputs"].items()},
    )
