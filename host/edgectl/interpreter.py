"""Executes a Model with NumPy. For an integer Model this is the definition of the result."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from threadpoolctl import threadpool_limits

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


Result = TypeVar("Result")


def in_parallel(function: Callable[[np.ndarray], Result], images: np.ndarray, chunk: int) -> Iterator[Result]:
    """`function` of each `chunk` images in turn, computed on all cores, in order.

    Each call gets one BLAS thread: images are independent, while BLAS threads on small matrices wait for each other.
    """
    parts: Sequence[np.ndarray] = [images[begin : begin + chunk] for begin in range(0, len(images), chunk)]
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        yield from pool.map(function, parts)


def interpret_images(model: Model, images: np.ndarray, chunk: int = 8) -> np.ndarray:
    """The first output of a model with one input, on `images` (N, ...), in parallel over chunks."""
    (name,) = model.inputs

    def one(part: np.ndarray) -> np.ndarray:
        return interpret(model, {name: part})[model.outputs[0]]

    return np.concatenate(list(in_parallel(one, images, chunk)))
