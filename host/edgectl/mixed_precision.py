"""Mixed precision by measurement: which layers must stay in floating point for a network to keep its answers.

With all layers in floating point nothing is lost but at the input. Parts of the network go back to integers, halves
first, then quarters and so on to single layers, the most expensive on the CPU first, as long as enough answers stay
(Zeller's delta debugging). Neighbours stay together that way: a layer in floating point between two in integers gains
little, as its input and output are rounded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgectl.accuracy import Agreement, measure_agreement
from edgectl.accuracy_gate import measured
from edgectl.cpu_estimate import kernel_estimate
from edgectl.datasets import Dataset
from edgectl.graph import Model, Node
from edgectl.operators.batch_norm import BatchNorm
from edgectl.operators.convolution import Convolution
from edgectl.operators.dense import Dense
from edgectl.processor import Processor, processor
from edgectl.quantization.folding import fold_batch_norm
from edgectl.quantization.quantizer import quantize
from edgectl.stages import Stages

MOST_SHARE = 0.5
"""Of the layers with weights: a network that needs more of them in floating point is not one for VTA."""
MOST_TRIALS = 60
"""Sets that are measured, at most; what is left then is not reduced further."""

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
    """The set of layers found, None if none suffices that is small enough; `trials` are all that were measured."""

    chosen: Trial | None
    trials: tuple[Trial, ...]

    @property
    def best(self) -> Trial:
        """The smallest of the sets with the highest agreement."""
        return max(self.trials, key=lambda trial: (trial.agreement.agreement.value, -len(trial.in_float)))


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
    quantized: Quantized,
    data: Dataset,
    minimum: float,
    cpu: Processor,
    stages: Stages,
) -> Mixed:
    """Which layers of float `model` go to the CPU so that its integer form agrees on `minimum` (0..1) of `data`.

    Deterministic; each trial quantizes the model and runs it on all of `data`.
    """
    layers = weighted(model)
    search = _Search(model, quantized, data, minimum, stages)
    kept = list(layers)
    if not search.suffices(kept):
        return Mixed(None, tuple(search.trials))
    costs = {name: _cost(model, cpu, name) for name in layers}
    size = len(kept) // 2
    while size:
        parts = [kept[begin : begin + size] for begin in range(0, len(kept), size)]
        for part in sorted(parts, key=lambda names: -sum(costs[name] for name in names)):
            fewer = [name for name in kept if name not in part]
            if fewer and len(search.trials) < MOST_TRIALS and search.suffices(fewer):
                kept = fewer
        size //= 2
    if len(kept) > max(1.0, MOST_SHARE * len(layers)):
        return Mixed(None, tuple(search.trials))
    return Mixed(search.trial(kept), tuple(search.trials))


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


def _cost(model: Model, cpu: Processor, name: str) -> float:
    """Predicted seconds of a layer on the board's CPU."""
    folded = fold_batch_norm(model)
    return kernel_estimate([folded.producers()[name]], folded.types(), cpu).seconds
