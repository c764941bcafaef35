"""Runs compiled segments on this machine, and builds one-operator models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edge_agent.runtime.cpu import processor_flags, this_machine
from edge_agent.runtime.kernels import KernelLibrary
from edge_agent.runtime.memory import allocate_buffers
from edge_agent.runtime.plan import Plan
from edgectl.codegen.cpu import CONSTANTS_MEMBER, TARGETS, CpuCode, CpuTarget, compile_segments, cpu_target
from edgectl.graph import Model, Node
from edgectl.operators.base import Operator, TensorType

HOST = cpu_target("host")
RUNNABLE = [t for t in TARGETS.values() if t.machine == this_machine() and processor_flags().issuperset(t.flags)]
"""The targets whose code this machine can execute."""


def one_operator(operator: Operator, inputs: Sequence[np.ndarray], parameters: Sequence[np.ndarray] = ()) -> Model:
    """A model of `operator` on inputs x0, x1, ... followed by parameters p0, p1, ...; its output is `y`."""
    values = {f"x{i}": array for i, array in enumerate(inputs)}
    constants = {f"p{i}": array for i, array in enumerate(parameters)}
    types = {name: TensorType(array.shape, str(array.dtype)) for name, array in values.items()}
    return Model("one", types, (Node("y", operator, (*values, *constants)),), constants, ("y",))


def run_fragment(code: CpuCode, index: int, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The outputs of one fragment, by name."""
    fragment = code.fragments[index]
    plan = Plan(fragment.buffers, fragment.storages, fragment.steps, fragment.inputs, fragment.outputs)
    plan.check()
    buffers = allocate_buffers(plan, {CONSTANTS_MEMBER: code.constants})
    for storage in {id(b.base): b.base for b in buffers if b.flags.writeable and b.base is not None}.values():
        storage.view(np.uint8)[:] = 0xA5  # what kernels do not write must show
    library = KernelLibrary(code.library)
    try:
        for name, buffer in fragment.inputs.items():
            buffers[buffer][...] = inputs[name]
        for step in fragment.steps:
            library.bind(step.kernel, [buffers[argument] for argument in step.arguments])()
        return {name: buffers[buffer].copy() for name, buffer in fragment.outputs.items()}
    finally:
        library.close()


def run_model(model: Model, inputs: Mapping[str, np.ndarray], target: CpuTarget = HOST) -> dict[str, np.ndarray]:
    """Compile a model as one segment and run it."""
    return run_fragment(compile_segments([model], target), 0, inputs)


def run_operator(
    operator: Operator, inputs: Sequence[np.ndarray], parameters: Sequence[np.ndarray] = (), target: CpuTarget = HOST
) -> np.ndarray:
    """One operator's compiled output."""
    named = {f"x{i}": array for i, array in enumerate(inputs)}
    return run_model(one_operator(operator, inputs, parameters), named, target)["y"]
