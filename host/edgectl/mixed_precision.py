"""Mixed precision by measurement: which layers must stay in floating point for a network to keep its answers.

Layers are tried in the order of the noise that they add by themselves (layer_errors), the noisiest first: the fewest of
that order that suffice are found by halving, then those that turn out not to be needed go back to integers, the most
expensive on the CPU first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from edgectl.accuracy import Agreement, measure_agreement
from edgectl.accuracy_gate import measured
from edgectl.cpu_estimate import kernel_estimate
from edgectl.datasets import Dataset
from edgectl.graph import Model, Node
from edgectl.layer_errors import layer_errors
from edgectl.operators.batch_norm import BatchNorm
from edgectl.operators.convolution import Convolution
from edgectl.operators.dense import Dense
from edgectl.processor import Processor, processor
from edgectl.quantization.folding import fold_batch_norm
from edgectl.quantization.quantizer import quantize
from edgectl.stages import Stages

MOST_SHARE = 0.5
"""Of the layers with weights: a network that needs more of them in floating point is not one for VTA."""

Quantized = Callable[[frozenset[str]], Model]
"""The integer model with the layers of these names in floating point."""


@dataclass(frozen=True)
class Trial:
    """The agreement with these layers in floating point."""

    in_float: frozenset[str]
    integer: Model
    agreement: Agreement


@dataclass(frozen=True)
class Mixed:
    """The cheapest set of layers found, None if none suffices; `trials` are all that were measured, in order."""

    chosen: Trial | None
    trials: tuple[Trial, ...]

    @property
    def best(self) -> Trial:
        return max(self.trials, key=lambda trial: trial.agreement.agreement.value)


def mixed(
    model: Model,
    integer: Model,
    calibration: np.ndarray | None,
    data: Dataset,
    minimum: float,
    accuracy: Mapping[str, Any],
    board_processor: str,
    stages: Stages,
) -> tuple[Model, dict[str, Any]]:
    """(integer model, manifest's entry `accuracy`) with as few layers in floating point as give `minimum` on `data`.

    Where no such set is found, those of all integers, the entry saying what the best set would give.
    """
    found = find_mixed(
        model,
        integer,
        lambda layers: quantize(model, calibration, in_float=layers),
        data,
        minimum,
        processor(board_processor),
        stages,
    )
    if found.chosen is None:
        best = found.best
        tried = {"layers": len(best.in_float), "agreement": best.agreement.agreement.value}
        return integer, {**accuracy, "best_mixed": tried}
    chosen = found.chosen
    return chosen.integer, {
        **measured(model, chosen.integer, data),
        "in_float": sorted(chosen.in_float),
        "agreement_all_integer": accuracy["agreement"],
    }


def in_float_of(manifest: Mapping[str, Any]) -> frozenset[str]:
    """The layers that a build left in floating point for the sake of its answers."""
    return frozenset((manifest.get("accuracy") or {}).get("in_float", ()))


def find_mixed(
    model: Model,
    integer: Model,
    quantized: Quantized,
    data: Dataset,
    minimum: float,
    cpu: Processor,
    stages: Stages,
) -> Mixed:
    """Which layers of float `model`, whose integer form `integer` agrees on less than `minimum` (0..1) of `data`, go to
    the CPU so that enough answers stay. Deterministic; each trial quantizes the model and runs it on all of `data`.
    """
    order = _noisiest(model, integer, data)
    most = max(1, math.floor(len(order) * MOST_SHARE))
    search = _Search(model, quantized, data, minimum, stages)
    failed, count = 0, 1
    while not search.suffices(order[:count]):
        if count >= min(most, len(order)):
            return Mixed(None, tuple(search.trials))
        failed, count = count, min(2 * count, most)
    while count - failed > 1:
        middle = (failed + count) // 2
        if search.suffices(order[:middle]):
            count = middle
        else:
            failed = middle
    chosen = list(order[:count])
    for name in sorted(chosen, key=partial(_cost, model, cpu), reverse=True):
        fewer = [other for other in chosen if other != name]
        # Without the last one it was too little.
        if fewer and name != order[count - 1] and search.suffices(fewer):
            chosen = fewer
    return Mixed(search.trial(chosen), tuple(search.trials))


class _Search:
    def __init__(self, model: Model, quantized: Quantized, data: Dataset, minimum: float, stages: Stages) -> None:
        self._model, self._quantized, self._data, self._minimum = model, quantized, data, minimum
        self._stages = stages
        self.trials: list[Trial] = []

    def trial(self, layers: Sequence[str]) -> Trial:
        """Measured once for each set."""
        wanted = frozenset(layers)
        for known in self.trials:
            if known.in_float == wanted:
                return known
        integer = self._quantized(wanted)
        self.trials.append(
            Trial(wanted, integer, measure_agreement(self._model, integer, self._data, self._stages.progress))
        )
        return self.trials[-1]

    def suffices(self, layers: Sequence[str]) -> bool:
        return self.trial(layers).agreement.agreement.value >= self._minimum


def weighted(model: Model) -> dict[str, Node]:
    """The layers of a float model that have a choice, by name: those with weights, as batch norms are folded."""
    folded = fold_batch_norm(model)
    return {node.name: node for node in folded.nodes if isinstance(node.operator, BatchNorm | Convolution | Dense)}


def _noisiest(model: Model, integer: Model, data: Dataset) -> list[str]:
    """The layers with weights by the noise that each adds by itself, the most first."""
    noise = {error.layer: error.own for error in layer_errors(model, integer, data.images) if error.own is not None}
    layers = weighted(model)
    return sorted(layers, key=lambda name: noise.get(layers[name].label, math.inf))


def _cost(model: Model, cpu: Processor, name: str) -> float:
    """Predicted seconds of a layer on the board's CPU."""
    folded = fold_batch_norm(model)
    return kernel_estimate([folded.producers()[name]], folded.types(), cpu).seconds
