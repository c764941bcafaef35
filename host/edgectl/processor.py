"""What a board's CPU is, to predict its time: read from bitstreams/edge_bitstreams/processors. See docs/timing.md."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from edge_agent.tables import read_table, resolve, table_names
from edgectl.errors import IncompatibleError

_FOLDER = "processors"
OTHER = "other"
"""The entry of `kernel_cycles` for operators that have none of their own."""


@dataclass(frozen=True)
class Processor:
    """A board's CPU, of which kernels use one core, and its memory.

    `memory_bytes_per_second` counts bytes read and bytes written. All cycles are the CPU's. The agent spends
    `kernel_call_cycles` and `program_call_cycles` on each call of a kernel or a VTA program, `inference_cycles` on each
    request; `normalise_cycles` are for each value of a decoded image, `rank_cycles` for each score of which the best
    are wanted. `kernel_cycles` are a kernel's, by its operators' kinds and the dtype they read, for each unit of work
    (`cpu_estimate.work_of`). `sources` says where the figures come from.
    """

    name: str
    description: str
    clock_hz: int
    memory_bytes_per_second: int
    kernel_call_cycles: int
    program_call_cycles: int
    inference_cycles: int
    normalise_cycles: float
    rank_cycles: float
    kernel_cycles: Mapping[str, Mapping[str, float]]
    sources: str

    def cycles(self, kind: str, dtype: str) -> float | None:
        """Cycles of a unit of work of `kind` on `dtype`; None where that was not counted."""
        return self.kernel_cycles.get(kind, {}).get(dtype)

    def other_cycles(self, dtype: str) -> float:
        """Cycles of a unit of any work that was not counted."""
        return self.kernel_cycles[OTHER]["float32" if dtype.startswith("float") else "int8"]

    def seconds(self, cycles: float, nbytes: float = 0) -> float:
        """Of computing and then moving: a Cortex-A9 waits for its cache lines, so they are not taken to overlap."""
        return cycles / self.clock_hz + nbytes / self.memory_bytes_per_second


def processor(name: str) -> Processor:
    """The description called `name`. Raises IncompatibleError where there is none or it is malformed."""
    known = table_names(_FOLDER)
    if name not in known:
        raise IncompatibleError(f"there is no description of the processor '{name}'; known are {', '.join(known)}")
    return parse_processor(name, read_table(_FOLDER, name))


def parse_processor(name: str, text: str) -> Processor:
    """A description from its JSON text. Raises IncompatibleError on missing, unknown or impossible entries."""
    try:
        entries: dict[str, Any] = resolve(_FOLDER, json.loads(text))
        wanted = {field.name for field in fields(Processor)} - {"name"}
        if set(entries) != wanted:
            raise IncompatibleError(
                f"the processor '{name}' must have exactly the entries {sorted(wanted)}, it has {sorted(entries)}"
            )
        numbers = {
            **{key: value for key, value in entries.items() if key not in ("description", "sources", "kernel_cycles")},
            **{f"{kind} {t}": n for kind, by_type in entries["kernel_cycles"].items() for t, n in by_type.items()},
        }
        for key, value in numbers.items():
            if type(value) not in (int, float) or not 0 < value < float("inf"):
                raise IncompatibleError(f"the processor '{name}': {key} is {value!r}, not a number above 0")
        if set(entries["kernel_cycles"].get(OTHER, {})) != {"float32", "int8"}:
            raise IncompatibleError(f"the processor '{name}' lacks the kernel cycles '{OTHER}' of float32 and int8")
    except (ValueError, TypeError, AttributeError) as error:
        raise IncompatibleError(f"the processor '{name}' is malformed: {error}") from error
    return Processor(name=name, **entries)
