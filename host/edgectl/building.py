"""The pipeline from a floating-point Model to a bundle: quantize, partition, compile, schedule, seal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.boards import BoardProfile, profile
from edge_agent.bundle import read_bundle
from edge_agent.runtime.compatibility import AGENT_PROTOCOL
from edge_agent.runtime.plan import ProgramStep
from edge_agent.version import VERSION
from edge_agent.vta.counters import Counters
from edge_agent.vta.features import PROGRAM_ACROSS_LAYERS
from edge_agent.vta.program import Program
from edge_agent.vta.program_file import read_program, write_program
from edge_agent.vta.verify import verify
from edgectl.accuracy_gate import check_options, enough, measured, remarks
from edgectl.bounds import layer_bounds, network_bound
from edgectl.build_cache import BuildCache, build_key
from edgectl.bundle import write_bundle
from edgectl.codegen.partition import AcceleratorStep, CpuStep, Fallback, Partition, partition
from edgectl.codegen.vta.compiler import compile_program
from edgectl.cpu_estimate import predict_inference
from edgectl.datasets import Data, read_calibration, read_data
from edgectl.decisions import MEMBER as DECISIONS_MEMBER
from edgectl.decisions import decision_of, decisions_member
from edgectl.golden import golden_sample, program_digests
from edgectl.graph import Model
from edgectl.mixed_precision import in_float_of, mixed
from edgectl.operators.base import Operator
from edgectl.pixels import with_pixel_input
from edgectl.quantization.quantizer import quantize
from edgectl.stages import Stages

# What imports TVM is imported where it is used: a bundle from the cache is there sooner than TVM.
if TYPE_CHECKING:
    from edgectl.codegen.cpu import CpuCode, CpuTarget


@dataclass(frozen=True)
class Build:
    """A built bundle: its bytes and digest, its manifest, and the integer Model and VTA programs it came from.

    `unchanged_since` is when it was built, where it was taken from the cache; `notices` are for the user.
    """

    data: bytes
    digest: str
    manifest: Mapping[str, Any]
    quantized: Callable[[], Model] = field(repr=False)
    unchanged_since: datetime | None = None
    notices: tuple[str, ...] = ()

    @property
    def cached(self) -> bool:
        """Whether the bundle was taken from the cache."""
        return self.unchanged_since is not None

    @property
    def how_made(self) -> str:
        """Where the bundle comes from, for people."""
        if self.unchanged_since is None:
            return "compiled"
        return f"unchanged since {self.unchanged_since:%Y-%m-%d %H:%M}, taken from the cache"

    @cached_property
    def integer_model(self) -> Model:
        """The integer Model: quantized again, when it is asked for, where the bundle was taken from the cache."""
        return self.quantized()

    @cached_property
    def packings(self) -> dict[str, tuple[str, Operator]]:
        """Of each packed tensor between programs and the CPU: the integer model's value, and what packs it."""
        board = profile(self.manifest["board"])
        across = PROGRAM_ACROSS_LAYERS in board.features
        return partition(self.integer_model, board.vta, across, self.manifest["model"]["offload"]).packings

    @cached_property
    def programs(self) -> tuple[Program, ...]:
        """The VTA programs in the bundle, in order of execution."""
        bundle = read_bundle(self.data)
        steps = [step for step in bundle.plan.steps if isinstance(step, ProgramStep)]
        return tuple(read_program(bundle.members[step.program]) for step in steps)

    @property
    def fallbacks(self) -> tuple[Fallback, ...]:
        """The layers that run on the CPU, and why."""
        return tuple(Fallback(**entry) for entry in self.manifest["layers"]["cpu"])

    @property
    def counters(self) -> Counters:
        """What one inference moves and computes on the accelerator."""
        return Counters(**self.manifest["counters"])


def build(
    model: Model,
    board: str | BoardProfile = "sim",
    calibration: Data | None = None,
    origin: Mapping[str, Any] | None = None,
    stages: Stages | None = None,
    cache: BuildCache | None = None,
    offload: str = "all",
    data: Data | None = None,
    min_agreement: float | None = None,
    pixels: bool = False,
) -> Build:
    """Quantize and compile `model` for a board. `origin` says where it came from, for the manifest.

    `offload`: "all" gives the accelerator every layer it can compute, "reference" convolutions but the first.

    With `pixels`, the bundle's input is the decoded, resized and cropped image, uint8 (N, C, H, W), which the board
    normalises: UsageError where the model does not allow it (see `with_pixel_input`).

    `calibration` is what `quantize` takes; None: synthetic images. With a `cache`, what was built before
    from the same is taken from there, and what is built is kept there.

    On `data` (see `read_data`), the share of answers that integers keep of float's is measured before anything is
    compiled, and recorded in the manifest. Raises VerificationError where it is below `min_agreement` (0..1, needs
    `data`), CompileError where the model cannot be compiled for the board, UsageError where calibration or other data
    does not fit it.
    """
    check_options(min_agreement, data is not None)
    dataset = None if data is None else read_data(data, model)
    stages = stages or Stages()
    target = profile(board) if isinstance(board, str) else board
    images = None if calibration is None else read_calibration(calibration, model)
    calibrated = {"calibrated_on": "synthetic images" if images is None else f"{len(images)} images"}
    origin = {**(origin or {}), **calibrated}
    # All that build_integer is told besides: being one mapping, none can be missing from the key.
    options: dict[str, Any] = {"offload": offload, "pixels": pixels}

    def compiled() -> Build:
        with stages.stage("quantize"):
            integer = quantize(model, images, stages.progress)
        if dataset is None:
            return build_integer(integer, target, origin, stages, **options)
        with stages.stage("measure accuracy"):
            accuracy = measured(model, integer, dataset, stages.progress)
        if min_agreement is not None and accuracy["agreement"] < min_agreement:
            with stages.stage("find layers for float"):
                integer, accuracy = mixed(
                    model, integer, images, dataset, min_agreement, accuracy, target.processor, stages
                )
        document = {"model": {"name": model.name, **origin}, "accuracy": accuracy}
        notices = remarks(document, min_agreement)
        built = build_integer(integer, target, origin, stages, **options, accuracy=accuracy)
        return replace(built, notices=notices)

    if cache is None:
        return compiled()
    with stages.stage("look in the cache"):
        # What was measured depends on the data too, and where layers are in floating point, on what is required.
        keys = [
            build_key(model, images, target, origin, {**options, "data": dataset, **required})
            for required in ({}, {"minimum": min_agreement})
        ]
        problems = []
        for key in keys:
            entry, damaged = cache.find(key)
            problems.append(damaged)
            if entry is None:
                continue
            sealed = read_bundle(entry.data)
            if enough(sealed.manifest, min_agreement):
                again = partial(_quantized, model, images, pixels, in_float_of(sealed.manifest))
                notices = remarks(sealed.manifest, min_agreement)
                found = Build(entry.data, sealed.digest, sealed.manifest, again, entry.built, notices)
                stages.remark(found.how_made)
                return found
    built = compiled()
    with stages.stage("keep in the cache"):
        problems.append(cache.keep(keys[bool(in_float_of(built.manifest))], built.data))
    return replace(built, notices=(*built.notices, *filter(None, problems)))


def _quantized(model: Model, calibration: np.ndarray | None, pixels: bool, in_float: frozenset[str]) -> Model:
    integer = quantize(model, calibration, in_float=in_float)
    return with_pixel_input(integer) if pixels else integer


def build_integer(
    integer: Model,
    board: str | BoardProfile = "sim",
    origin: Mapping[str, Any] | None = None,
    stages: Stages | None = None,
    offload: str = "all",
    accuracy: Mapping[str, Any] | None = None,
    pixels: bool = False,
) -> Build:
    """Compile an integer Model for a board: see `build`. `accuracy` is the manifest's entry of that name."""
    stages = stages or Stages()
    target = profile(board) if isinstance(board, str) else board
    config = target.vta
    integer = with_pixel_input(integer) if pixels else integer
    with stages.stage("compile for VTA"):
        parts = partition(integer, config, PROGRAM_ACROSS_LAYERS in target.features, offload)
        programs = {
            step.name: compile_program(step.name, step.layers, step.outputs, config)
            for step in parts.steps
            if isinstance(step, AcceleratorStep)
        }
        for program in programs.values():
            verify(program, target.features)
    with stages.stage("compile for the CPU"):
        # Here, as importing TVM takes seconds, which are this stage's.
        from edgectl.codegen.cpu import compile_segments, cpu_target

        cpu = cpu_target(target.cpu)
        code = compile_segments([step.segment for step in parts.steps if isinstance(step, CpuStep)], cpu)
    with stages.stage("seal"):
        data = _seal(integer, target, parts, programs, code, cpu, {**(origin or {}), "offload": offload}, accuracy)
        sealed = read_bundle(data)
    return Build(data, sealed.digest, sealed.manifest, lambda: integer)


def _seal(
    integer: Model,
    board: BoardProfile,
    parts: Partition,
    programs: Mapping[str, Program],
    code: CpuCode,
    cpu: CpuTarget,
    origin: Mapping[str, Any],
    accuracy: Mapping[str, Any] | None,
) -> bytes:
    """The bundle's bytes."""
    from edgectl.codegen.cpu import CONSTANTS_MEMBER
    from edgectl.codegen.scheduling import CompiledProgram, make_plan

    remaining = iter(code.fragments)
    steps = [
        next(remaining) if isinstance(step, CpuStep) else CompiledProgram(_member(step.name), programs[step.name])
        for step in parts.steps
    ]
    plan = make_plan(steps, integer, parts.observed)
    golden, golden_members = golden_sample(integer, list(plan.observed), parts.packings)
    # Where floats are inside the network, its programs are tested alone too.
    golden["programs"] = {
        _member(step.name): program_digests(step, parts.packings, integer.types(), board.vta)
        for step in parts.steps
        if isinstance(step, AcceleratorStep) and not set(step.outputs) <= set(golden["integers"])
    }
    types, producers = integer.types(), integer.producers()
    layers = [layer for step in parts.steps if isinstance(step, AcceleratorStep) for layer in step.layers]
    members = {
        "plan.json": plan.to_json().encode(),
        "kernels.so": code.library,
        CONSTANTS_MEMBER: code.constants,
        DECISIONS_MEMBER: decisions_member(
            decision_of(layer, producers, parts.packings, board.vta) for layer in layers
        ),
        **{_member(name): write_program(program) for name, program in programs.items()},
        **golden_members,
    }
    bounds = layer_bounds(integer, {layer.name: layer.covers for layer in layers if layer.covers}, board.vta)
    manifest = {
        "edgectl": VERSION,
        "agent_protocol": AGENT_PROTOCOL,
        "model": {"name": integer.name, **origin},
        "board": board.name,
        "config": board.config,
        "features": sorted(set().union(*(program.features for program in programs.values()))),
        "cpu": {"name": cpu.name, "machine": cpu.machine, "flags": list(cpu.flags)},
        "inputs": [{"name": n, "shape": list(t.shape), "dtype": t.dtype} for n, t in integer.inputs.items()],
        "outputs": [{"name": n, "shape": list(types[n].shape), "dtype": types[n].dtype} for n in integer.outputs],
        "preprocessing": asdict(integer.preprocessing) if integer.preprocessing else None,
        "labels": list(integer.labels),
        "layers": {
            "vta": [layer.name for layer in layers],
            "cpu": [asdict(fallback) for fallback in parts.fallbacks],
        },
        "counters": sum((program.counters for program in programs.values()), Counters()).as_dict(),
        "predicted": predict_inference(integer, parts.steps, programs, board).as_dict(),
        "bounds": {
            "network": network_bound(integer, bounds).as_dict(),
            "layers": {name: bound.as_dict() for name, bound in bounds.items()},
        },
        **({"accuracy": accuracy} if accuracy else {}),
        "golden": golden,
    }
    return write_bundle(manifest, members)


def _member(program: str) -> str:
    return f"programs/{program}.vta"
