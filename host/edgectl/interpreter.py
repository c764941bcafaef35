"""Executes a Model with NumPy. For an integer Model this is the definition of the result."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from edgectl.errors import UsageError
from edgectl.graph import Model


def interpret(
    model: Model, inputs: Mapping[str, np.ndarray], observe: Callable[[str, np.ndarray], None] | None = None
) -> dict[str, np.ndarray]:
    """The outputs of `model`, by name, on `inputs` (any batch size). `observe(name, array)` sees every node's output.

    Raises UsageError where an input is missing or has another shape (batch aside) or dtype than the model's.
    """
    values: dict[str, np.ndarray] = dict(model.parameters)
    for name, expected in model.inputs.items():
        if name not in inputs:
            raise UsageError(f"input '{name}' is missing; the model has inputs {sorted(model.inputs)}")
        array = np.asarray(inputs[name])
        if array.shape[1:] != expected.shape[1:] or str(array.dtype) != expected.dtype:
            raise UsageError(f"input '{name}' is {array.dtype}{list(array.shape)}, the model needs {expected}")
        values[name] = array
    remaining = {name: len(readers) for name, readers in model.consumers().items()}
    for node in model.nodes:
        values[node.name] = node.operator.evaluate(*(values[name] for name in node.inputs))
        if observe is not None:
            observe(node.name, values[node.name])
        for name in dict.fromkeys(node.inputs):
            remaining[name] -= 1
            if remaining[name] == 0 and name not in model.outputs and name not in model.parameters:
                del values[name]
    return {name: values[name] for name in model.outputs}
