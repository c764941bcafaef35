"""How far channels may go on images that calibration has not shown, by what batch normalisations have learned.

A few dozen photographs leave many channels of a large network silent; the statistics of a batch normalisation come from
all images that it was trained on: over those, a channel of its result has mean beta and standard deviation |gamma|.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from edgectl.graph import Model
from edgectl.operators.activation import Relu
from edgectl.operators.batch_norm import BatchNorm
from edgectl.quantization.calibration import Observation

DEVIATIONS = 5.0
"""Standard deviations that a channel is taken to reach: compared in docs/quantization.md."""


def with_trained_ranges(model: Model, observations: Mapping[str, Observation]) -> dict[str, Observation]:
    """`observations`, with the channels of values behind batch normalisations of `model`, which is not folded, as large
    as their statistics let expect. What is known of the whole value, its scale, stays as observed."""
    ends: dict[str, tuple[np.ndarray, np.ndarray]] = {}  # of each channel, upper and lower, as magnitudes
    for node in model.nodes:
        x, operator = node.inputs[0], node.operator
        if isinstance(operator, BatchNorm) and all(name in model.parameters for name in node.inputs[1:3]):
            gamma, beta = (model.parameters[name].astype(np.float64) for name in node.inputs[1:3])
            spread = DEVIATIONS * (np.ones_like(gamma) if operator.fix_gamma else np.abs(gamma))
            ends[node.name] = (spread + beta, spread - beta)
        elif isinstance(operator, Relu) and x in ends:
            ends[node.name] = (ends[x][0], np.zeros_like(ends[x][1]))
    return {
        name: replace(seen, channels=np.maximum(seen.channels, np.maximum(*ends[name]))) if name in ends else seen
        for name, seen in observations.items()
    }
