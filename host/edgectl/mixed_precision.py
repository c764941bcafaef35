"""Mixed precision by measurement: which layers must stay in floating point for a network to keep its answers.

With all layers in floating point nothing is lost but at the input. Parts of the network go back to integers, halves
first, then quarters and so on to single layers, the most expensive on the CPU first, as long as enough answers stay
(Zeller's delta debugging). Neighbours stay together that way: a layer in floating point between two in integers gains
little, as its input and output are rounded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgectl.accuracy import answers_of, outputs_of
from edgectl.accuracy_gate import measured
from edgectl.cpu_estimate import kernel_estimate
from edgectl.datasets import Dataset
from edgectl.graph import Model, Node
from edgectl.operators.base import TensorType
from edgectl.operators.batch_norm import BatchNorm
from edgectl.operators.convolution import Convolution
from edgectl.operators.dense import Dense
from edgectl.processor import Processor, processor
from edgectl.quantization.folding import fold_batch_norm
from edgectl.quantization.quantizer import observed
from edgectl.stages import Stages

MOST_SHARE = 0.5
"""Of all multiplications: a network that needs more of them in floating point is not one for VTA."""
MOST_TRIALS = 60
"""Sets that are tried, at most; what is left then is not reduced further."""
AT_ONCE = 64
"""Images between two looks at whether too many answers differ."""

Quantized = Callable[[frozenset[str]], Model]
"""The integer model with the layers of these names in floating point."""


@dataclass(frozen=True)
class Mixed:
    """The smallest set of layers found that keeps enough answers: all of `layers`, where no set does. `share` is the
    part of all multiplications that it computes."""

    in_float: frozenset[str]
    layers: int
    share: float
    suffices: bool

    @property
    def is_worthwhile(self) -> bool:
        return self.suffices and self.share <= MOST_SHARE


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

    Where no such set is found, those of all integers, the entry saying what the smallest sufficient set has.
    """
    seen = observed(model, calibration)
    found = find_mixed(model, seen.quantized, data, minimum, processor(board_processor), stages)
    if not found.is_worthwhile:
        needed = {"layers": len(found.in_float), "of": found.layers, "share": found.share, "suffices": found.suffices}
        return integer, {**accuracy, "mixed": needed}
    chosen = seen.quantized(found.in_float)
    return chosen, {
        **measured(model, chosen, data),
        "in_float": {name: node.label for name, node in weighted(model).items() if name in found.in_float},
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

    Deterministic. Each trial quantizes the model and runs it on `data`, until too many answers differ.
    """
    layers = weighted(model)
    judge = _Judge(model, data, minimum)
    kept, trials = list(layers), 1
    if not judge.suffices(quantized(frozenset(kept))):
        return Mixed(frozenset(kept), len(layers), 1.0, False)
    folded = fold_batch_norm(model)
    types = folded.types()
    costs = {name: kernel_estimate([node], types, cpu).seconds for name, node in layers.items()}
    size = len(kept) // 2
    while size:
        parts = [kept[begin : begin + size] for begin in range(0, len(kept), size)]
        for part in sorted(parts, key=lambda names: -sum(costs[name] for name in names)):
            fewer = [name for name in kept if name not in part]
            if fewer and trials < MOST_TRIALS:
                trials += 1
                stages.progress(trials, MOST_TRIALS)
                if judge.suffices(quantized(frozenset(fewer))):
                    kept = fewer
        size //= 2
    products = {name: _multiplications(node, types) for name, node in layers.items()}
    share = sum(products[name] for name in kept) / sum(products.values())
    return Mixed(frozenset(kept), len(layers), share, True)


class _Judge:
    """Whether integer models keep enough of a float model's answers. The closest calls come first: where a model fails,
    it shows there."""

    def __init__(self, model: Model, data: Dataset, minimum: float) -> None:
        self._model = model
        scores = outputs_of({"float": answers_of(fold_batch_norm(model))}, data, model)["float"]
        best = np.sort(scores, axis=1)
        margins = best[:, -1] - best[:, -2] if scores.shape[1] > 1 else np.zeros(len(scores))
        order = np.argsort(margins, kind="stable")
        self._images, self._answers = data.images[order], scores.argmax(axis=1)[order]
        # As Proportion.value >= minimum decides.
        self._enough = next(k for k in range(len(order) + 1) if k / len(order) >= minimum)

    def suffices(self, integer: Model) -> bool:
        answers, differing = answers_of(integer), 0
        for begin in range(0, len(self._images), AT_ONCE):
            part = slice(begin, begin + AT_ONCE)
            found = outputs_of({"integer": answers}, Dataset(self._images[part], None), self._model)["integer"]
            differing += int((found.argmax(axis=1) != self._answers[part]).sum())
            if len(self._images) - differing < self._enough:
                return False
        return True


def weighted(model: Model) -> dict[str, Node]:
    """The layers of a float model that have a choice, by name: those with weights, as batch norms are folded."""
    folded = fold_batch_norm(model)
    return {node.name: node for node in folded.nodes if isinstance(node.operator, BatchNorm | Convolution | Dense)}


def _multiplications(node: Node, types: Mapping[str, TensorType]) -> int:
    """Of a layer with weights, for one image."""
    weight, result = types[node.inputs[1]].shape, types[node.name].shape
    return math.prod(weight[1:] if len(weight) > 1 else ()) * math.prod(result[1:])
