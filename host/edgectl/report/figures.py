"""The figures that the report shows: predicted cycles of each layer, what they are spent on, and lower bounds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.boards import BoardProfile, profile
from edge_agent.bundle import Bundle
from edge_agent.runtime.plan import KernelStep, ProgramStep
from edge_agent.vta.config import Config
from edge_agent.vta.counters import Counters, count
from edge_agent.vta.isa import Opcode, layout, opcodes
from edge_agent.vta.program import Program
from edge_agent.vta.program_file import read_program
from edge_agent.vta.schedule import Module
from edge_agent.vta.timing import ALU_CYCLES, DEFAULT_PARAMETERS, GEMM_CYCLES, Sensitivity, Trace, Wait
from edge_agent.vta.timing import sensitivity as program_sensitivity
from edge_agent.vta.timing import trace as program_trace
from edgectl.bounds import Bound
from edgectl.decisions import Decision, read_decisions
from edgectl.errors import IncompatibleError

OUTSIDE = "(outside layers)"
"""Instructions that no layer has: FINISH, which waits for the last stores."""
WAITING = ("waiting for load", "waiting for store", "waiting for fetch", "loads on compute")
"""What compute does while it waits for transfers."""
BUSY = 0.75
"""Share of a layer's cycles above which its busiest module bounds it; below, the modules wait for each other."""


class Limit(str, Enum):
    """What bounds a layer."""

    GEMM = "GEMM"
    ALU = "ALU"
    LOAD = "load"
    STORE = "store"
    WAITING = "waiting"


@dataclass(frozen=True)
class Layer:
    """One layer of one program. All times are cycles.

    A layer's time is the compute module's: for `cycles` from `begin` on it works for the layer or waits to. The cycles
    of all layers add up to the total. `gemm` and `alu` are spent on instructions of that kind, `transfers` on compute's
    own loads (micro-ops, biases), `tokens` on passing tokens and FINISH, `wait_*` on waiting for a module's token or
    for fetch. `load_busy` and `store_busy` are those modules', at whatever time; `bus_wait` is what transfers of all
    modules waited for the bus while they were busy. `span` is from the start of the layer to the end of its last store.
    `decision` is None where it is not recorded.
    """

    name: str
    program: str
    instructions: int
    begin: int
    cycles: int
    gemm: int
    alu: int
    transfers: int
    tokens: int
    wait_fetch: int
    wait_load: int
    wait_store: int
    load_busy: int
    store_busy: int
    bus_wait: int
    span: int
    counters: Counters
    bound: Bound | None
    decision: Decision | None

    @property
    def compute_busy(self) -> int:
        return self.gemm + self.alu + self.transfers + self.tokens

    @property
    def nbytes(self) -> int:
        return moved_bytes(self.counters)

    @property
    def utilisation(self) -> float:
        """GEMM operations per cycle, of one that is possible."""
        return GEMM_CYCLES * self.counters.gemm_counter / self.cycles if self.cycles else 0.0

    @property
    def uses(self) -> dict[str, int]:
        """The layer's cycles by what compute did; adds up to `cycles`."""
        gemm, alu = GEMM_CYCLES * self.counters.gemm_counter, ALU_CYCLES * self.counters.alu_counter
        return {
            "GEMM": gemm,
            "GEMM overhead": self.gemm - gemm,
            "ALU": alu,
            "ALU overhead": self.alu - alu,
            "loads on compute": self.transfers,
            "tokens": self.tokens,
            "waiting for load": self.wait_load,
            "waiting for store": self.wait_store,
            "waiting for fetch": self.wait_fetch,
        }

    def losses(self, bus_bytes: int) -> dict[str, int]:
        """The cycles above the bound by cause, the largest first; empty without a bound.

        Where transfers need longer than arithmetic, compute has to wait: so much of waiting is no loss.
        """
        if self.bound is None:
            return {}
        uses = self.uses
        needed = self.bound.cycles(bus_bytes) - self.bound.compute_cycles
        for waiting in WAITING:
            uses[waiting], needed = max(0, uses[waiting] - needed), max(0, needed - uses[waiting])
        causes = {
            "GEMM operations beyond the bound": uses.pop("GEMM") - GEMM_CYCLES * self.bound.gemm,
            "ALU operations beyond the bound": uses.pop("ALU") - ALU_CYCLES * self.bound.alu,
            **uses,
        }
        return dict(sorted(causes.items(), key=lambda item: -item[1]))

    @property
    def limit(self) -> Limit:
        """The busiest module, if it is busy most of the time; compute by what it does most."""
        busiest = max(self.compute_busy, self.load_busy, self.store_busy)
        if busiest < BUSY * self.cycles or not busiest:
            return Limit.WAITING
        if busiest == self.load_busy:
            return Limit.LOAD
        if busiest == self.store_busy:
            return Limit.STORE
        kinds = {Limit.GEMM: self.gemm, Limit.ALU: self.alu, Limit.LOAD: self.transfers, Limit.WAITING: self.tokens}
        return max(kinds, key=lambda kind: kinds[kind])

    def as_dict(self, bus_bytes: int) -> dict[str, Any]:
        return {
            "name": self.name,
            "program": self.program,
            "begin": self.begin,
            "cycles": self.cycles,
            "span": self.span,
            "limit": self.limit.value,
            "utilisation": self.utilisation,
            "instructions": self.instructions,
            "uses": self.uses,
            "load_busy": self.load_busy,
            "store_busy": self.store_busy,
            "bus_wait": self.bus_wait,
            "counters": self.counters.as_dict(),
            "decision": None if self.decision is None else self.decision.as_dict(),
            "bound": None if self.bound is None else {**self.bound.as_dict(), "cycles": self.bound.cycles(bus_bytes)},
        }


@dataclass(frozen=True)
class Run:
    """One program's run: its trace, and the cycle at which it begins when programs run one after the other."""

    program: Program
    trace: Trace
    offset: int


@dataclass(frozen=True)
class Figures:
    """Everything that the report shows. `runs`, `layers` and, one for each run, `outside` are in order of execution.

    `predicted` is the manifest's: it has the whole inference, unless an older edgectl wrote it. `inputs` are names and
    types, for people.
    """

    model: str
    digest: str
    board: BoardProfile
    runs: tuple[Run, ...]
    layers: tuple[Layer, ...]
    outside: tuple[Layer, ...]
    bound: Bound
    sensitivity: tuple[Sensitivity, ...]
    cpu_kernels: int
    fallbacks: tuple[tuple[str, str], ...]
    predicted: Mapping[str, Any] = field(default_factory=dict)
    inputs: tuple[str, ...] = ()

    @property
    def cycles(self) -> int:
        return sum(run.trace.timing.cycles for run in self.runs)

    @property
    def seconds(self) -> float:
        return self.cycles / self.board.clock_hz

    @property
    def counters(self) -> Counters:
        return sum((layer.counters for layer in (*self.layers, *self.outside)), Counters())

    def as_dict(self) -> dict[str, Any]:
        """The same as plain data."""
        bus = self.board.bus_bytes
        return {
            "model": self.model,
            "digest": self.digest,
            "inputs": list(self.inputs),
            "board": self.board.name,
            "config": self.board.config,
            "bus_bytes": bus,
            "parameters": asdict(DEFAULT_PARAMETERS),
            "predicted": {
                **self.predicted,
                "vta_cycles": self.cycles,
                "clock_hz": self.board.clock_hz,
                "vta_seconds": self.seconds,
            },
            "predicted_cycles": self.cycles,
            "counters": self.counters.as_dict(),
            "bound": {**self.bound.as_dict(), "bytes": self.bound.nbytes, "cycles": self.bound.cycles(bus)},
            "layers": [layer.as_dict(bus) for layer in self.layers],
            "outside_cycles": sum(rest.cycles for rest in self.outside),
            "sensitivity": [asdict(entry) for entry in self.sensitivity],
            "cpu": {
                "kernels": self.cpu_kernels,
                "layers": [{"layer": layer, "reason": reason} for layer, reason in self.fallbacks],
            },
        }


def by_reason(fallbacks: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """The layers on the CPU, given as (layer, reason), for each reason."""
    layers: dict[str, list[str]] = {}
    for layer, reason in fallbacks:
        layers.setdefault(reason, []).append(layer)
    return layers


def moved_bytes(counters: Counters) -> int:
    """All bytes that a run moves from and to DRAM, except its instructions."""
    return sum(value for name, value in counters.as_dict().items() if name.endswith("_nbytes"))


def figures_of(bundle: Bundle) -> Figures:
    """Replay the programs of a bundle. Raises IncompatibleError where its board or its lower bounds are not known."""
    manifest = bundle.manifest
    if "predicted" not in manifest:
        raise IncompatibleError(
            "the bundle is for the CPU of a host: reports are of VTA; compile the model with --board NAME"
        )
    board = profile(manifest["board"])
    if "bounds" not in manifest:
        raise IncompatibleError(
            f"the bundle was compiled by edgectl {manifest['edgectl']}, which recorded no lower bounds; compile the "
            "model again"
        )
    bounds = {name: Bound.from_dict(entry) for name, entry in manifest["bounds"]["layers"].items()}
    decisions = read_decisions(bundle)
    # Copies into concatenations: nothing of them is needed.
    bounds.update({decision.name: Bound() for decision in decisions if not decision.computes})
    steps = bundle.plan.steps
    runs: list[Run] = []
    layers: list[Layer] = []
    outside: list[Layer] = []
    changes: list[tuple[Sensitivity, ...]] = []
    offset = 0
    for step in steps:
        if isinstance(step, ProgramStep):
            program = read_program(bundle.members[step.program])
            run = Run(program, program_trace(program, board.bus_bytes), offset)
            runs.append(run)
            inside, rest = layers_of(run, Path(step.program).stem, bounds)
            layers += inside
            outside.append(rest)
            changes.append(program_sensitivity(program, board.bus_bytes))
            offset += run.trace.timing.cycles
    if decisions:
        layers = [replace(layer, decision=made) for layer, made in zip(layers, decisions, strict=True)]
    return Figures(
        model=manifest["model"]["name"],
        digest=bundle.digest,
        board=board,
        runs=tuple(runs),
        layers=tuple(layers),
        outside=tuple(outside),
        bound=Bound.from_dict(manifest["bounds"]["network"]),
        sensitivity=tuple(_added(entries) for entries in zip(*changes, strict=True)),
        cpu_kernels=sum(isinstance(step, KernelStep) for step in steps),
        fallbacks=tuple((entry["layer"], entry["reason"]) for entry in manifest["layers"]["cpu"]),
        predicted=manifest["predicted"],
        inputs=tuple(f"{spec['name']} {spec['dtype']}{spec['shape']}" for spec in manifest["inputs"]),
    )


def _added(entries: Sequence[Sensitivity]) -> Sensitivity:
    """One parameter's entries of programs that run one after the other."""
    halved, doubled = sum(entry.halved for entry in entries), sum(entry.doubled for entry in entries)
    return Sensitivity(entries[0].parameter, entries[0].value, halved, doubled)


def layers_of(run: Run, name: str, bounds: Mapping[str, Bound]) -> tuple[list[Layer], Layer]:
    """The layers of a program in order, and what is outside them; their cycles add up to the run's."""
    program, trace = run.program, run.trace
    columns = _columns(run)
    owner = np.full(len(program.instructions), -1)
    for index, layer in enumerate(program.layers):
        owner[layer.begin : layer.end] = index
    rows = [
        _layer(run, name, layer.name, owner == index, columns, bounds.get(layer.name))
        for index, layer in enumerate(program.layers)
    ]
    rest = _layer(run, name, OUTSIDE, owner == -1, columns, None)
    # Other modules may still work when compute has done its last instruction.
    cycles = trace.timing.cycles - sum(row.cycles for row in rows)
    rest = replace(
        rest,
        cycles=cycles,
        begin=run.offset + trace.timing.cycles - cycles,
        wait_store=rest.wait_store + cycles - rest.cycles,
    )
    return rows, rest


def _columns(run: Run) -> dict[str, np.ndarray]:
    """Cycles of each instruction, int64 (n,), by the field of Layer that sums them."""
    trace, words = run.trace, run.program.instructions
    kinds = opcodes(words)
    size = layout(Opcode.LOAD, Config.parse(run.program.config))["x_size"].extract(words)
    moves = (kinds == Opcode.LOAD) & (size > 0)
    compute, busy = trace.module == Module.COMPUTE, trace.end - trace.start
    gemm, alu = kinds == Opcode.GEMM, kinds == Opcode.ALU
    return {
        "cycles": (busy + trace.idle) * compute,
        "gemm": busy * gemm,
        "alu": busy * alu,
        "transfers": busy * (compute & moves),
        "tokens": busy * (compute & ~moves & ~gemm & ~alu),
        "wait_fetch": trace.idle * (compute & (trace.reason == Wait.FETCH)),
        "wait_load": trace.idle * (compute & (trace.reason == Wait.LOAD)),
        "wait_store": trace.idle * (compute & (trace.reason == Wait.STORE)),
        "load_busy": busy * (trace.module == Module.LOAD),
        "store_busy": busy * (trace.module == Module.STORE),
        "bus_wait": trace.bus_wait,
    }


def _layer(
    run: Run, program: str, name: str, mine: np.ndarray, columns: Mapping[str, np.ndarray], bound: Bound | None
) -> Layer:
    trace, words = run.trace, run.program.instructions
    compute = mine & (trace.module == Module.COMPUTE)
    return Layer(
        name=name,
        program=program,
        instructions=int(mine.sum()),
        begin=run.offset + int((trace.start - trace.idle)[compute].min(initial=trace.timing.cycles)),
        span=int(trace.end[mine].max() - trace.start[mine].min()) if mine.any() else 0,
        counters=count(words[mine], Config.parse(run.program.config)),
        bound=bound,
        decision=None,
        **{field: int(column[mine].sum()) for field, column in columns.items()},
    )
