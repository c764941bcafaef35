"""Runs a partitioned Model as a board does and compares it, to the bit, with the interpreter."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from edge_agent.runtime.program_check import seeded_inputs
from edge_agent.vta.config import Config
from edge_agent.vta.counters import count
from edge_agent.vta.program import Program, Role
from edge_agent.vta.simulator import Simulation
from edge_agent.vta.verify import verify
from edgectl.bounds import layer_bounds
from edgectl.codegen.matching.context import packed
from edgectl.codegen.partition import AcceleratorStep, CpuStep, Partition, partition
from edgectl.codegen.vta.compiler import compile_program
from edgectl.codegen.vta.reference import evaluate
from edgectl.graph import Model
from edgectl.interpreter import interpret
from edgectl.operators.layout import Pack, Unpack
from edgectl.operators.patches import PackPatches
from edgectl.operators.planes import JoinPlanes, SplitPlanes
from edgectl.operators.quantization import Dequantize, Quantize
from edgectl.operators.shape import Concatenate, Flatten, Reshape
from tests.edge_agent.vta.reference import ReferenceMachine

FEATURES = frozenset({"program_across_layers"})
LAYOUTS = (Pack, Unpack, PackPatches, SplitPlanes, JoinPlanes)
UNREMARKABLE = (*LAYOUTS, Quantize, Dequantize, Flatten, Reshape)
"""What may be on the CPU without a reason."""


def check(
    model: Model,
    inputs: Mapping[str, np.ndarray],
    config: Config,
    across_layers: bool = True,
    reasons: Sequence[str] = (),
    interleavings: Sequence[int] = (),
) -> Partition:
    """Partition, compile, verify and run `model`: every value that crosses steps must be the interpreter's.

    What stays on the CPU must say why, in words that match one of `reasons` (patterns). Programs run in the simulator
    and, for each seed of `interleavings`, on a naive machine whose modules take turns at random.
    """
    parts = partition(model, config, across_layers)
    check_reasons(model, parts, reasons)
    expected: dict[str, np.ndarray] = {}
    outputs = interpret(model, inputs, expected.__setitem__)
    expected.update(inputs)
    values: dict[str, np.ndarray] = dict(inputs)
    for step in parts.steps:
        if isinstance(step, CpuStep):
            step.segment.types()
            values.update(interpret(step.segment, {name: values[name] for name in step.segment.inputs}))
            continue
        program = compile_program(step.name, step.layers, step.outputs, config)
        if not across_layers:
            assert len(step.layers) == 1 and not program.features
        check_bounds(model, step, program, config)
        made = run(step, program, {name: values[name] for name in step.inputs}, config, interleavings)
        values.update(made)
    for name in parts.observed:
        source, operator = parts.packings.get(name, (name, None))
        value = expected[source] if operator is None else operator.evaluate(expected[source])
        np.testing.assert_array_equal(values[name], value, name)
    for name, value in outputs.items():
        assert values[name].dtype == value.dtype
        np.testing.assert_array_equal(values[name], value, name)
    return parts


def run(
    step: AcceleratorStep,
    program: Program,
    inputs: Mapping[str, np.ndarray],
    config: Config,
    interleavings: Sequence[int],
) -> dict[str, np.ndarray]:
    """What `program` makes of `inputs`: the same on every machine and by the layers' definition."""
    shapes = {tensor.name: tensor.shape for tensor in program.tensors if tensor.role is Role.OUTPUT}
    assert set(shapes) == set(step.outputs)
    assert {tensor.name for tensor in program.tensors if tensor.role is Role.INPUT} == set(step.inputs)
    outputs = {name: np.zeros(shape, np.int8) for name, shape in shapes.items()}
    simulation = Simulation(verify(program, FEATURES))
    # What fills up the last block of channels is not zero in a self-test of the program alone.
    filled = seeded_inputs({name: array.shape for name, array in inputs.items()})
    for given in (filled, inputs):
        simulation.run(dict(given), outputs)
        defined = evaluate(step.layers, given, config)
        for name, value in outputs.items():
            np.testing.assert_array_equal(value, defined[name], name)
    for seed in interleavings:
        for name, value in ReferenceMachine(program, seed).run(dict(inputs)).items():
            np.testing.assert_array_equal(value, outputs[name], name)
    return outputs


def check_bounds(model: Model, step: AcceleratorStep, program: Program, config: Config) -> None:
    """No layer does or moves less than its lower bound says that it must."""
    bounds = layer_bounds(model, {layer.name: layer.covers for layer in step.layers if layer.covers}, config)
    for layer, compiled in zip(step.layers, program.layers, strict=True):
        if not layer.covers:
            continue
        bound, reached = bounds[layer.name], count(program.instructions[compiled.begin : compiled.end], config)
        assert bound.gemm <= reached.gemm_counter and bound.alu <= reached.alu_counter, layer.name
        assert bound.input_bytes + bound.residual_bytes <= reached.inp_load_nbytes, layer.name
        assert bound.weight_bytes <= reached.wgt_load_nbytes, layer.name
        assert bound.output_bytes <= reached.out_store_nbytes, layer.name


def check_reasons(model: Model, parts: Partition, reasons: Sequence[str]) -> None:
    """Exactly what is on the CPU and is no border or layout has a reason, one of those that are expected."""
    on_cpu = {
        node.label
        for step in parts.steps
        if isinstance(step, CpuStep)
        for node in step.segment.nodes
        if not isinstance(node.operator, UNREMARKABLE)
    }
    assert {fallback.layer for fallback in parts.fallbacks} == on_cpu
    on_vta = {
        name
        for step in parts.steps
        if isinstance(step, AcceleratorStep)
        for layer in step.layers
        for name in layer.covers
    }
    for node in model.nodes:
        if isinstance(node.operator, Concatenate):
            # It is where its parts are stored: a tensor's name at most, no layer.
            assert node.label in on_cpu or packed(node.name) in parts.packings
        elif not isinstance(node.operator, UNREMARKABLE):
            assert (node.name in on_vta) != (node.label in on_cpu), node
    for fallback in parts.fallbacks:
        assert any(re.search(reason, fallback.reason) for reason in reasons), fallback
