"""The golden sample: a known input with what it must give, with which a board tests itself after every load."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edge_agent.runtime.program_check import digest, seeded_inputs
from edge_agent.vta.config import Config
from edgectl.bundle import array_member
from edgectl.codegen.partition import AcceleratorStep
from edgectl.codegen.vta.reference import evaluate
from edgectl.graph import Model
from edgectl.interpreter import interpret
from edgectl.operators.activation import Clip, Relu
from edgectl.operators.base import Operator, TensorType
from edgectl.operators.pooling import MaxPool
from edgectl.operators.quantization import Dequantize, Quantize
from edgectl.operators.shape import Concatenate, Flatten, Pad, Reshape, Slice, Transpose

FLOAT_TOLERANCE = 1e-4
"""Float outputs of board and host may differ by this, relative and absolute: only integers are equal to the bit."""
ROUNDED_TOLERANCE = 0.1
"""The same, of the largest output, where a float inside the network was rounded to an integer again: processors may
round it differently."""
MOVING = (Clip, Concatenate, Flatten, MaxPool, Pad, Relu, Reshape, Slice, Transpose)
"""Float operators that only select or move values, so that every processor gets the same."""


def exact_values(model: Model) -> set[str]:
    """The values that every processor computes to the bit: integers, unless a float operator had a part in them."""
    exact = {*model.inputs, *model.parameters}
    types = model.types()
    for node in model.nodes:
        integer = all(types[name].dtype != "float32" for name in node.inputs)
        same = integer or isinstance(node.operator, (Quantize, Dequantize, *MOVING))
        if same and exact.issuperset(node.inputs):
            exact.add(node.name)
    return exact


def rounded_again(model: Model, exact: set[str] | None = None) -> bool:
    """Whether the network quantizes a float that processors may compute differently. `exact`: its exact values."""
    exact = exact_values(model) if exact is None else exact
    return any(isinstance(node.operator, Quantize) and node.name not in exact for node in model.nodes)


def program_digests(
    step: AcceleratorStep, packings: Mapping[str, tuple[str, Operator]], types: Mapping[str, TensorType], config: Config
) -> dict[str, str]:
    """What a program alone must make of `seeded_inputs`: the SHA-256 of each output by name, from its layers."""
    shapes = {name: _packed_type(name, packings, types).shape for name in step.inputs}
    tensors = evaluate(step.layers, seeded_inputs(shapes), config)
    return {name: digest(tensors[name]) for name in step.outputs}


def _packed_type(
    name: str, packings: Mapping[str, tuple[str, Operator]], types: Mapping[str, TensorType]
) -> TensorType:
    value, operator = packings[name]
    return operator.infer(types[value])


def golden_sample(
    model: Model, observed: list[str], packings: Mapping[str, tuple[str, Operator]], seed: int = 0
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """A seeded input and what the interpreter makes of it: (manifest entry, bundle members).

    Inputs are whole multiples of the model's input scale, so that quantizing them is exact on every processor.
    """
    generator = np.random.default_rng(seed)
    inputs: dict[str, np.ndarray] = {}
    members: dict[str, bytes] = {}
    values: dict[str, np.ndarray] = {}
    for name, declared in model.inputs.items():
        inputs[name] = _golden_input(model, name, declared, generator)
        members[f"golden/input_{len(members)}.npy"] = array_member(inputs[name])
    input_members = dict(zip(inputs, list(members), strict=True))
    integers: dict[str, str] = {}
    values.update(inputs)
    outputs = interpret(model, inputs, values.__setitem__)
    exact = exact_values(model)
    for name in observed:
        source, operator = packings.get(name, (name, None))
        if source in exact:
            integers[name] = digest(values[source] if operator is None else operator.evaluate(values[source]))
    recorded: dict[str, dict[str, Any]] = {}
    rough = rounded_again(model, exact)
    for name, value in outputs.items():
        member = f"golden/output_{len(recorded)}.npy"
        members[member] = array_member(value)
        absolute = ROUNDED_TOLERANCE * float(np.abs(value).max()) if rough else FLOAT_TOLERANCE
        recorded[name] = {"member": member, "rtol": FLOAT_TOLERANCE, "atol": absolute}
    return {"inputs": input_members, "integers": integers, "outputs": recorded}, members


def _golden_input(model: Model, name: str, declared: TensorType, generator: np.random.Generator) -> np.ndarray:
    if declared.dtype == "uint8":
        return generator.integers(0, 256, declared.shape).astype(np.uint8)
    units = generator.integers(-100, 101, declared.shape)
    if declared.dtype != "float32":
        return units.astype(declared.dtype)
    for node in model.nodes:
        if isinstance(node.operator, Quantize) and node.inputs == (name,):
            axis = (1, -1) + (1,) * (len(declared.shape) - 2)
            inverse = np.array(node.operator.inverses).reshape(axis)
            offset = np.array(node.operator.offsets or (0.0,)).reshape(axis)
            return (units / inverse + offset).astype(np.float32)
    return (units / 64.0).astype(np.float32)
