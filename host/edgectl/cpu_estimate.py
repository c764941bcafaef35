"""Predicts one inference on a board, from the decoded image to the best classes: docs/timing.md has the formulas.

VTA's part is the replay of its programs (`edge_agent.vta.timing`). The CPU's part is estimated: each kernel as the
cycles that were counted for its operators, plus its bytes at the memory's rate; each call as a fixed cost.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import prod
from typing import Any

from edge_agent.boards import BoardProfile
from edge_agent.vta.program import Program, Role
from edge_agent.vta.timing import predict
from edgectl.codegen.partition import AcceleratorStep, CpuStep
from edgectl.graph import Model, Node
from edgectl.operators.base import TensorType
from edgectl.operators.convolution import Convolution
from edgectl.operators.dense import Dense
from edgectl.operators.integer import IntegerConvolution, IntegerDense, IntegerPoolSum, IntegerWindowSum
from edgectl.operators.pooling import AveragePool, GlobalPool, MaxPool
from edgectl.processor import Processor, processor

VTA, CPU, CALLS = "vta", "cpu", "calls"
"""The parts of an inference. Calls are the agent's own time."""
DEPTHWISE = " depthwise"


@dataclass(frozen=True)
class StepEstimate:
    """Seconds of a step of one inference, the part they belong to, and how they come about."""

    step: str
    part: str
    seconds: float
    why: str


@dataclass(frozen=True)
class InferencePrediction:
    """One inference (of a whole batch) on a board, step by step. `processor` names the CPU it was estimated for."""

    vta_cycles: int
    clock_hz: int
    processor: str
    steps: tuple[StepEstimate, ...]

    def seconds(self, part: str) -> float:
        return sum(step.seconds for step in self.steps if step.part == part)

    def as_dict(self) -> dict[str, Any]:
        """The manifest's `predicted`."""
        parts = {
            "vta_seconds": self.vta_cycles / self.clock_hz,
            "cpu_seconds": self.seconds(CPU),
            "overhead_seconds": self.seconds(CALLS),
        }
        return {
            "vta_cycles": self.vta_cycles,
            "clock_hz": self.clock_hz,
            **parts,
            "total_seconds": sum(parts.values()),
            "processor": self.processor,
            "steps": [asdict(step) for step in self.steps],
        }


def predict_inference(
    model: Model, steps: Sequence[CpuStep | AcceleratorStep], programs: Mapping[str, Program], board: BoardProfile
) -> InferencePrediction:
    """Predict `model`, divided into `steps` whose accelerator's are `programs`, by name, on a board.

    Raises IncompatibleError where the board's processor is not described.
    """
    cpu = processor(board.processor)
    estimates = [*_before(model, cpu)]
    cycles = kernels = 0
    for step in steps:
        if isinstance(step, CpuStep):
            found = kernel_estimates(step.segment, cpu)
            kernels += len(found)
            estimates += found
        else:
            program = programs[step.name]
            estimates += _program(program, step.name, taken := predict(program, board.bus_bytes).cycles, board, cpu)
            cycles += taken
    estimates += [*_after(model, cpu), calls_estimate(kernels, len(programs), cpu)]
    return InferencePrediction(cycles, board.clock_hz, cpu.name, tuple(estimates))


def kernel_estimates(segment: Model, cpu: Processor) -> tuple[StepEstimate, ...]:
    """The kernels of a segment in order, without what their calls cost."""
    # Imports TVM, which is loaded by the time kernels are compiled.
    from edgectl.codegen.cpu.fusion import fuse

    types = segment.types()
    return tuple(kernel_estimate(group, types, cpu) for group in fuse(segment, types))


def kernel_estimate(nodes: Sequence[Node], types: Mapping[str, TensorType], cpu: Processor) -> StepEstimate:
    """One kernel that computes `nodes`, given in order; only the last one's value leaves it.

    seconds = units * cycles per unit / clock + bytes read and written / memory's rate. Cycles are those of the whole
    kernel where its sequence of operators was counted, else the sum of its operators' own.
    """
    result = types[nodes[-1].name]
    inside = {node.name for node in nodes}
    read = {name for node in nodes for name in node.inputs} - inside
    nbytes = sum(types[name].nbytes for name in read) + result.nbytes
    whole = "+".join(node.operator.kind for node in nodes)
    counted = cpu.cycles(whole, types[nodes[0].inputs[0]].dtype)
    if counted is not None and len(nodes) > 1:
        work = [(prod(result.shape), counted)]
    else:
        work = [_work(node, types, cpu) for node in nodes]
    terms = [f"{units:,} x {each:g}" for units, each in work]
    return StepEstimate(
        ", ".join(dict.fromkeys(node.label for node in nodes)),
        CPU,
        cpu.seconds(sum(units * each for units, each in work), nbytes),
        f"{whole}: {' + '.join(terms)} cycles, {_size(nbytes)}",
    )


def _work(node: Node, types: Mapping[str, TensorType], cpu: Processor) -> tuple[int, float]:
    """Units of a node's work and cycles of each."""
    kind, dtype, units = work_of(node, types)
    counted = cpu.cycles(kind, dtype)
    return units, cpu.other_cycles(dtype) if counted is None else counted


def work_of(node: Node, types: Mapping[str, TensorType]) -> tuple[str, str, int]:
    """What kind of work a node is, on which dtype, and how many units of it.

    Units are multiply-accumulates of convolutions and dense layers, elements in windows of pools, and elements of the
    output of everything else.
    """
    operator, x, elements = node.operator, types[node.inputs[0]], prod(types[node.name].shape)
    kind, units = operator.kind, elements
    if isinstance(operator, Convolution | IntegerConvolution | Dense | IntegerDense):
        weight = types[node.inputs[1]].shape
        units = elements * prod(weight[1:])
        if isinstance(operator, Convolution | IntegerConvolution) and operator.groups > 1 and weight[1] == 1:
            kind += DEPTHWISE
    elif isinstance(operator, MaxPool | AveragePool | IntegerWindowSum):
        units = elements * prod(operator.kernel)
    elif isinstance(operator, GlobalPool | IntegerPoolSum):
        units = prod(x.shape)
    return kind, x.dtype, units


def calls_estimate(kernels: int, programs: int, cpu: Processor) -> StepEstimate:
    """What the agent's own code takes, which calls `kernels` and `programs`."""
    cycles = kernels * cpu.kernel_call_cycles + programs * cpu.program_call_cycles + cpu.inference_cycles
    return StepEstimate(
        "calls",
        CALLS,
        cpu.seconds(cycles),
        f"1 request of {cpu.inference_cycles:,} cycles, {_number(kernels, 'kernel')} of {cpu.kernel_call_cycles:,}, "
        f"{_number(programs, 'program')} of {cpu.program_call_cycles:,}",
    )


def _before(model: Model, cpu: Processor) -> Iterator[StepEstimate]:
    """Normalising an image, and copying the inputs to where the plan has them."""
    values = sum(prod(declared.shape) for declared in model.inputs.values())
    nbytes = sum(declared.nbytes for declared in model.inputs.values())
    # Pixels are normalised by a kernel, which counts as such.
    if model.preprocessing is not None and any(declared.dtype == "float32" for declared in model.inputs.values()):
        yield StepEstimate(
            "normalise the image",
            CPU,
            cpu.seconds(values * cpu.normalise_cycles, values + nbytes),
            f"{values:,} x {cpu.normalise_cycles:g} cycles, {_size(values + nbytes)}",
        )
    yield StepEstimate("copy the inputs", CPU, cpu.seconds(0, 2 * nbytes), _size(2 * nbytes))


def _after(model: Model, cpu: Processor) -> Iterator[StepEstimate]:
    """Copying the outputs, and finding the best classes."""
    types = model.types()
    nbytes = sum(types[name].nbytes for name in model.outputs)
    yield StepEstimate("copy the outputs", CPU, cpu.seconds(0, 2 * nbytes), _size(2 * nbytes))
    scores = types[model.outputs[0]]
    if len(scores.shape) == 2:
        values = prod(scores.shape)
        cycles = values * cpu.rank_cycles
        yield StepEstimate("rank the classes", CPU, cpu.seconds(cycles), f"{values:,} x {cpu.rank_cycles:g} cycles")


def _program(
    program: Program, name: str, cycles: int, board: BoardProfile, cpu: Processor
) -> tuple[StepEstimate, StepEstimate]:
    """VTA's run, and the copies between the plan's buffers and the memory that VTA reaches."""
    moved = 2 * sum(
        TensorType(tensor.shape, tensor.dtype).nbytes
        for role in (Role.INPUT, Role.OUTPUT)
        for tensor in program.tensors_of(role)
    )
    run = f"{cycles:,} cycles at {board.clock_hz / 1e6:g} MHz"
    return (
        StepEstimate(name, VTA, cycles / board.clock_hz, run),
        StepEstimate(f"{name}: copy its inputs and outputs", CPU, cpu.seconds(0, moved), _size(moved)),
    )


def _number(count: int, name: str) -> str:
    return f"{count} {name}{'s' * (count != 1)}"


def _size(nbytes: int) -> str:
    return f"{nbytes / 1e3:,.1f} kB moved"
