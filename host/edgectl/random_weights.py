"""Seeded weights for a network that has none, such that its activations look like a trained network's."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgectl.graph import Model, Node
from edgectl.operators.batch_norm import BatchNorm
from edgectl.operators.convolution import Convolution
from edgectl.operators.dense import Dense
from edgectl.quantization.calibration import synthetic_images

SAMPLES = 2


def random_parameters(model: Model, seed: int = 0) -> dict[str, np.ndarray]:
    """New arrays for every parameter of `model`, float32 and of the old shapes; the same for the same seed.

    Weights are He's (normal, variance 2 / fan-in), batch normalisation's gamma and beta vary mildly around 1 and 0,
    and its statistics are those of its input in a forward pass over synthetic images, which this performs layer by
    layer: so every layer sees a realistic range.
    """
    generator = np.random.default_rng(seed)
    parameters: dict[str, np.ndarray] = {}
    values = synthetic_inputs(model, SAMPLES, seed)
    remaining = {name: len(readers) for name, readers in model.consumers().items()}
    for node in model.nodes:
        operands = [model.parameters.get(name) for name in node.inputs]
        _draw(node, parameters, model.parameters, generator)
        if isinstance(node.operator, BatchNorm):
            mean, variance = node.inputs[3:5]
            x = values[node.inputs[0]]
            axes = tuple(axis for axis in range(x.ndim) if axis != 1)
            parameters[mean] = x.mean(axis=axes, dtype=np.float64).astype(np.float32)
            parameters[variance] = (x.var(axis=axes, dtype=np.float64) + 1e-3).astype(np.float32)
        arrays = [
            values[name] if operand is None else parameters.setdefault(name, np.asarray(operand))
            for name, operand in zip(node.inputs, operands, strict=True)
        ]
        values[node.name] = node.operator.evaluate(*arrays)
        for name in dict.fromkeys(node.inputs):
            remaining[name] -= 1
            if remaining[name] == 0:
                values.pop(name, None)
    return parameters


def _draw(
    node: Node, parameters: dict[str, np.ndarray], shapes: Mapping[str, np.ndarray], generator: np.random.Generator
) -> None:
    """Enter the trainable arrays of one layer, unless an earlier layer shares them."""
    if isinstance(node.operator, (Convolution, Dense)):
        weight, *bias = node.inputs[1:]
        if weight not in parameters:
            shape = shapes[weight].shape
            deviation = np.float32(np.sqrt(2 / np.prod(shape[1:])))
            parameters[weight] = generator.standard_normal(shape, np.float32) * deviation
        for name in bias:
            parameters.setdefault(name, generator.standard_normal(shapes[name].shape, np.float32) * np.float32(0.05))
    elif isinstance(node.operator, BatchNorm):
        gamma, beta = node.inputs[1:3]
        shape = shapes[gamma].shape
        parameters.setdefault(gamma, 1 + generator.standard_normal(shape, np.float32) * np.float32(0.1))
        parameters.setdefault(beta, generator.standard_normal(shape, np.float32) * np.float32(0.1))


def synthetic_inputs(model: Model, samples: int, seed: int) -> dict[str, np.ndarray]:
    """Inputs that resemble preprocessed photographs (N, C, H, W); normal noise where an input is no image."""
    generator = np.random.default_rng(seed)
    return {
        name: synthetic_images(model.preprocessing, kind.shape, samples, seed)
        if len(kind.shape) == 4
        else generator.standard_normal((samples, *kind.shape[1:]), np.float32)
        for name, kind in model.inputs.items()
    }
