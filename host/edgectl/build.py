"""The pipeline from a floating-point Model to a bundle: quantize, partition, compile, schedule, seal."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from edge_agent.boards import BoardProfile, profile
from edge_agent.bundle import read_bundle
from edge_agent.runtime.compatibility import AGENT_PROTOCOL
from edge_agent.version import VERSION
from edge_agent.vta.counters import Counters
from edge_agent.vta.program import Program
from edge_agent.vta.program_file import write_program
from edge_agent.vta.verify import verify
from edgectl.bundle import array_member, write_bundle
from edgectl.codegen.cpu import CONSTANTS_MEMBER, Fragment, compile_segments, cpu_target
from edgectl.codegen.partition import AcceleratorStep, CpuStep, Fallback, Partition, partition
from edgectl.codegen.scheduling import CompiledProgram, make_plan
from edgectl.codegen.vta.compiler import compile_program
from edgectl.graph import Model
from edgectl.interpreter import interpret
from edgectl.operators.layout import Pack
from edgectl.operators.quantization import Quantize
from edgectl.quantize.quantizer import quantize

Progress = Callable[[str], None]
"""Called with a stage's name when it begins."""

FLOAT_TOLERANCE = 1e-4
"""Float outputs of board and host may differ by this, relative and absolute: only integers are equal to the bit."""


@dataclass(frozen=True)
class Build:
    """A built bundle: its bytes, what it holds, and how long each stage took in seconds."""

    data: bytes
    digest: str
    manifest: dict[str, Any]
    integer_model: Model
    programs: tuple[Program, ...]
    fallbacks: tuple[Fallback, ...]
    timings: dict[str, float] = field(default_factory=dict)

    @property
    def counters(self) -> Counters:
        """What one inference moves and computes on the accelerator."""
        return sum((program.counters for program in self.programs), Counters())


class _Stages:
    """Times stages and announces them."""

    def __init__(self, progress: Progress | None) -> None:
        self.seconds: dict[str, float] = {}
        self._progress = progress

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        if self._progress is not None:
            self._progress(name)
        begin = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - begin


def build(
    model: Model,
    board: str | BoardProfile = "sim",
    calibration: np.ndarray | None = None,
    weights: str = "",
    progress: Progress | None = None,
) -> Build:
    """Quantize and compile `model` for a board. `weights` says where they came from, for the manifest.

    `calibration` is float32 (N, C, H, W), preprocessed; None: synthetic images. Raises CompileError where the model
    cannot be compiled for the board, UsageError where the calibration data does not fit it.
    """
    stages = _Stages(progress)
    with stages.stage("quantize"):
        integer = quantize(model, calibration)
    return build_integer(integer, board, weights, progress, "data" if calibration is not None else "synthetic", stages)


def build_integer(
    integer: Model,
    board: str | BoardProfile = "sim",
    weights: str = "",
    progress: Progress | None = None,
    calibrated_on: str = "",
    stages: _Stages | None = None,
) -> Build:
    """Compile an integer Model for a board: see `build`."""
    stages = stages or _Stages(progress)
    target = profile(board) if isinstance(board, str) else board
    config = target.vta
    with stages.stage("compile for VTA"):
        parts = partition(integer, config)
        programs = {
            step.name: compile_program(step.name, step.layers, step.outputs, config)
            for step in parts.steps
            if isinstance(step, AcceleratorStep)
        }
        for program in programs.values():
            verify(program, target.features)
    with stages.stage("compile for the CPU"):
        cpu = cpu_target(target.cpu)
        code = compile_segments([step.segment for step in parts.steps if isinstance(step, CpuStep)], cpu)
    with stages.stage("seal"):
        plan = make_plan(_schedule(parts, programs, code.fragments), integer, parts.observed)
        members = {
            "plan.json": plan.to_json().encode(),
            "kernels.so": code.library,
            CONSTANTS_MEMBER: code.constants,
            **{_member(name): write_program(program) for name, program in programs.items()},
        }
        golden, golden_members = golden_sample(integer, list(plan.observed), Pack(config.batch, config.block))
        members.update(golden_members)
        types = integer.types()
        counters = sum((program.counters for program in programs.values()), Counters())
        manifest = {
            "edgectl": VERSION,
            "agent_protocol": AGENT_PROTOCOL,
            "model": {"name": integer.name, "weights": weights},
            "board": target.name,
            "config": target.config,
            "features": sorted(set().union(*(program.features for program in programs.values()))),
            "cpu": {"name": cpu.name, "machine": cpu.machine, "flags": list(cpu.flags)},
            "inputs": [{"name": n, "shape": list(t.shape), "dtype": t.dtype} for n, t in integer.inputs.items()],
            "outputs": [{"name": n, "shape": list(types[n].shape), "dtype": types[n].dtype} for n in integer.outputs],
            "preprocessing": asdict(integer.preprocessing) if integer.preprocessing else None,
            "labels": list(integer.labels),
            "quantization": {"calibrated_on": calibrated_on},
            "fallbacks": [asdict(fallback) for fallback in parts.fallbacks],
            "counters": counters.as_dict(),
            "golden": golden,
        }
        data = write_bundle(manifest, members)
    sealed = read_bundle(data)
    return Build(
        data, sealed.digest, dict(sealed.manifest), integer, tuple(programs.values()), parts.fallbacks, stages.seconds
    )


def _member(program: str) -> str:
    return f"programs/{program}.vta"


def _schedule(
    parts: Partition, programs: dict[str, Program], fragments: tuple[Fragment, ...]
) -> list[Fragment | CompiledProgram]:
    remaining = iter(fragments)
    return [
        next(remaining) if isinstance(step, CpuStep) else CompiledProgram(_member(step.name), programs[step.name])
        for step in parts.steps
    ]


def golden_sample(
    model: Model, observed: list[str], pack: Pack, seed: int = 0
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """A seeded input and what the interpreter makes of it: (manifest entry, bundle members).

    Inputs are whole multiples of the model's input scale, so that quantizing them is exact on every processor.
    """
    generator = np.random.default_rng(seed)
    inputs: dict[str, np.ndarray] = {}
    members: dict[str, bytes] = {}
    values: dict[str, np.ndarray] = {}
    for name, declared in model.inputs.items():
        inputs[name] = _golden_input(model, name, declared.shape, generator).astype(declared.dtype)
        members[f"golden/input_{len(members)}.npy"] = array_member(inputs[name])
    input_members = dict(zip(inputs, list(members), strict=True))
    integers: dict[str, str] = {}

    def look(name: str, array: np.ndarray) -> None:
        values[name] = array

    outputs = interpret(model, inputs, look)
    for name in observed:
        value = values[name] if name in values else pack.evaluate(values[name.removesuffix(".packed")])
        integers[name] = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
    recorded: dict[str, dict[str, Any]] = {}
    for name, value in outputs.items():
        member = f"golden/output_{len(recorded)}.npy"
        members[member] = array_member(value)
        recorded[name] = {"member": member, "rtol": FLOAT_TOLERANCE, "atol": FLOAT_TOLERANCE}
    return {"inputs": input_members, "integers": integers, "outputs": recorded}, members


def _golden_input(model: Model, name: str, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    units = generator.integers(-100, 101, shape)
    for node in model.nodes:
        if isinstance(node.operator, Quantize) and node.inputs == (name,):
            axis = (1, -1) + (1,) * (len(shape) - 2)
            inverse = np.array(node.operator.inverses).reshape(axis)
            offset = np.array(node.operator.offsets or (0.0,)).reshape(axis)
            return units / inverse + offset
    return units / 64.0


__all__ = ["Build", "build", "build_integer", "golden_sample"]
