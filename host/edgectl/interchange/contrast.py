"""A model and its conversion side by side: every layer, every parameter, how far their values differ."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgectl.errors import VerificationError
from edgectl.graph import Model, Node
from edgectl.interchange.translation import Translation

TOLERANCE = 1e-4
"""Of a layer's largest difference against its largest value. Frameworks sum in other orders: a layer by itself differs
by 1e-7 to 1e-5, what a hundred of them add up to by 1e-6 to 1e-4."""
ADDED_UP = 10
"""How many tolerances the outputs may differ by: rounding adds up along hundreds of layers, in random networks most."""
NEGLIGIBLE = 1e-12
"""A difference that is none, where a layer's values are all zero."""
TOP = 5


@dataclass(frozen=True)
class LayerContrast:
    """`source` and `target` are the layer's names; `difference` is the largest of any value, `largest` the source's
    largest absolute value. `own` is the largest difference, relative to the largest value, of the layer alone: between
    what the target computes and what the source's layer makes of the same, the target's, operands. All are over all
    inputs.
    """

    source: str
    target: str
    operator: str
    source_shape: tuple[int, ...]
    target_shape: tuple[int, ...]
    difference: float
    largest: float
    own: float
    output: bool = False

    @property
    def relative(self) -> float:
        if self.difference == 0:
            return 0.0
        return self.difference / self.largest if self.largest > NEGLIGIBLE else math.inf

    def agrees(self, tolerance: float) -> bool:
        """Whether the layer does the same, and, of an output, whether what all layers add up to is the same."""
        same = self.source_shape == self.target_shape and self.own <= tolerance
        return same and (not self.output or self.difference <= NEGLIGIBLE or self.relative <= ADDED_UP * tolerance)


@dataclass(frozen=True)
class ParameterContrast:
    """A parameter: names, shapes and the largest difference of its values; `source` is empty for what is new."""

    source: str
    target: str
    source_shape: tuple[int, ...]
    target_shape: tuple[int, ...]
    difference: float


@dataclass(frozen=True)
class TopContrast:
    """The best classes of both on one input: (index, label, score) of each, best first."""

    image: str
    source: tuple[tuple[int, str, float], ...]
    target: tuple[tuple[int, str, float], ...]

    @property
    def equal(self) -> bool:
        return [index for index, _, _ in self.source] == [index for index, _, _ in self.target]


@dataclass(frozen=True)
class Contrast:
    """`executed_by` says what ran the source and the target; empty where nothing was run. `tolerance`: see TOLERANCE.

    `layers` are in topological order.
    """

    model: str
    direction: str
    tolerance: float
    executed_by: tuple[str, str]
    inputs: tuple[str, ...]
    layers: tuple[LayerContrast, ...]
    parameters: tuple[ParameterContrast, ...]
    top: TopContrast | None = None
    framework: tuple[str, float] | None = None
    notes: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def first_diverging(self) -> LayerContrast | None:
        """The first layer beyond `tolerance`; None too where nothing was run."""
        if not self.executed_by[1]:
            return None
        return next((layer for layer in self.layers if not layer.agrees(self.tolerance)), None)

    @property
    def max_difference(self) -> float:
        """The largest difference of a layer, relative to its largest value."""
        return max((layer.relative for layer in self.layers), default=0.0)

    @property
    def max_own_difference(self) -> float:
        """The largest difference of a layer alone."""
        return max((layer.own for layer in self.layers), default=0.0)

    @property
    def output_difference(self) -> float:
        """The same of the outputs alone."""
        return max((layer.relative for layer in self.layers if layer.output), default=0.0)

    def verify(self) -> None:
        """Raise VerificationError, naming the first diverging layer, where the two differ by more than `tolerance`."""
        if self.framework is not None and not self.framework[1] <= ADDED_UP * self.tolerance:
            raise VerificationError(
                f"{self.model}: {self.framework[0]} itself gives other outputs than the imported model: they differ by "
                f"{self.framework[1]:.3g} of the largest, {ADDED_UP * self.tolerance:.3g} is allowed (--tolerance)"
            )
        wrong = [
            p for p in self.parameters if p.source and (p.difference or _size(p.source_shape) != _size(p.target_shape))
        ]
        if wrong:
            names = f"'{wrong[0].source}' -> '{wrong[0].target}'"
            raise VerificationError(
                f"{self.model}: {len(wrong)} parameters were not written as they are, first {names}"
            )
        layer = self.first_diverging
        if layer is None:
            return
        over = sum(not other.agrees(self.tolerance) for other in self.layers)
        if layer.source_shape != layer.target_shape:
            found = f"it gives shape {list(layer.target_shape)} instead of {list(layer.source_shape)}"
        elif layer.own > self.tolerance:
            found = f"of the same operands it makes values that differ by {layer.own:.3g} of the largest"
        else:
            found = f"each layer alone agrees, but what they add up to differs by {layer.relative:.3g} of the largest"
        raise VerificationError(
            f"{self.model} ({self.direction}) does not compute the same, first at layer '{layer.source}' "
            f"({layer.operator}, in the target '{layer.target}'): {found}; {self.tolerance:.3g} is allowed "
            f"of a layer alone, {ADDED_UP * self.tolerance:.3g} of outputs (--tolerance), "
            f"{over} of {len(self.layers)} layers are beyond it"
        )

    def document(self) -> dict[str, Any]:
        """For JSON."""
        first = self.first_diverging
        return {
            "model": self.model,
            "direction": self.direction,
            "tolerance": self.tolerance,
            "executed": bool(self.executed_by[1]),
            "source_executed_by": self.executed_by[0],
            "target_executed_by": self.executed_by[1],
            "equal_within_tolerance": first is None if self.executed_by[1] else None,
            "first_diverging_layer": first.source if first else None,
            "max_relative_difference": _number(self.max_difference) if self.executed_by[1] else None,
            "max_own_relative_difference": _number(self.max_own_difference) if self.executed_by[1] else None,
            "output_relative_difference": _number(self.output_difference) if self.executed_by[1] else None,
            "source_framework": None
            if self.framework is None
            else {"name": self.framework[0], "relative_difference": _number(self.framework[1])},
            "inputs": list(self.inputs),
            "top": None
            if self.top is None
            else {
                "image": self.top.image,
                "equal": self.top.equal,
                "source": [_score(score) for score in self.top.source],
                "target": [_score(score) for score in self.top.target],
            },
            "layers": [
                {
                    "source": layer.source,
                    "target": layer.target,
                    "operator": layer.operator,
                    "source_shape": list(layer.source_shape),
                    "target_shape": list(layer.target_shape),
                    "max_difference": _number(layer.difference),
                    "relative_difference": _number(layer.relative),
                    "own_relative_difference": _number(layer.own),
                }
                for layer in self.layers
            ],
            "parameters": [
                {
                    "source": parameter.source,
                    "target": parameter.target,
                    "source_shape": list(parameter.source_shape),
                    "target_shape": list(parameter.target_shape),
                    "max_difference": _number(parameter.difference),
                }
                for parameter in self.parameters
            ],
            "notes": list(self.notes),
            "sha256": dict(self.files),
        }

    def markdown(self) -> str:
        """For people."""
        first = self.first_diverging
        if not self.executed_by[1]:
            verdict = "**Not proved**: nothing was executed (`--no-proof`)."
        elif first is None:
            verdict = (
                f"Same within {self.tolerance:.3g}: a layer alone differs by at most {self.max_own_difference:.3g} of "
                f"its largest value, the outputs by {self.output_difference:.3g}, any layer in its place by at most "
                f"{self.max_difference:.3g}."
            )
        else:
            verdict = f"**Different** from layer `{first.source}` on; {self.tolerance:.3g} is allowed."
        lines = [f"# {self.model}: {self.direction}", "", verdict, ""]
        if self.executed_by[1]:
            lines += [
                f"Source: {self.executed_by[0]}. Target: {self.executed_by[1]}. Inputs: {', '.join(self.inputs)}."
            ]
        if self.framework:
            lines += [f"{self.framework[0]} itself gives the source's outputs within {self.framework[1]:.3g}."]
        lines += [*(f"{note[0].upper()}{note[1:]}." for note in self.notes), ""]
        if self.top:
            equal = "equal" if self.top.equal else "not equal"
            lines += [f"## Top {len(self.top.source)} on {self.top.image}: {equal}", ""]
            lines += _table(
                ("source", "score", "target", "score"),
                [
                    (f"{a[0]} {a[1]}".strip(), f"{a[2]:.4g}", f"{b[0]} {b[1]}".strip(), f"{b[2]:.4g}")
                    for a, b in zip(self.top.source, self.top.target, strict=True)
                ],
            )
        lines += ["## Layers", ""]
        lines += _table(
            ("source", "target", "operator", "shape", "max difference", "relative", "alone"),
            [
                (
                    f"`{layer.source}`", f"`{layer.target}`", layer.operator, _shape(layer.source_shape),
                    _shown(layer.difference), _shown(layer.relative), _shown(layer.own),
                )
                for layer in self.layers
            ],
        )  # fmt: skip
        lines += ["## Parameters", ""]
        lines += _table(
            ("source", "target", "shape", "max difference"),
            [
                (
                    f"`{p.source}`" if p.source else "(new)",
                    f"`{p.target}`",
                    _shape(p.target_shape),
                    _shown(p.difference),
                )
                for p in self.parameters
            ],
        )
        return "\n".join(lines)


def _size(shape: Sequence[int]) -> int:
    return math.prod(shape)


def _number(value: float) -> float | str | None:
    """JSON has no infinity, and null for what was not measured."""
    return value if math.isfinite(value) else None if math.isnan(value) else str(value)


def _score(score: tuple[int, str, float]) -> dict[str, Any]:
    return {"index": score[0], "label": score[1], "score": _number(score[2])}


def _shape(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape)) or "1"


def _shown(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2g}"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    escaped = (" | ".join(cell.replace("|", "\\|") for cell in row) for row in rows)
    return [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}", *(f"| {row} |" for row in escaped), ""]


def difference(source: np.ndarray, target: np.ndarray) -> float:
    """The largest absolute difference; infinite where the shapes differ, or one has a number and the other none."""
    if source.shape != target.shape:
        return math.inf
    if np.array_equal(source, target, equal_nan=True):
        return 0.0
    with np.errstate(invalid="ignore"):
        apart = np.abs(source.astype(np.float64) - target)
    apart = np.where((source == target) | (np.isnan(source) & np.isnan(target)), 0, apart)
    worst = float(apart.max(initial=0))
    return math.inf if math.isnan(worst) else worst


def relative_difference(source: np.ndarray, target: np.ndarray) -> float:
    """`difference` in units of the source's largest value."""
    worst = difference(source, target)
    largest = float(np.abs(source).max(initial=0))
    return 0.0 if worst <= NEGLIGIBLE else worst / largest if largest > NEGLIGIBLE else math.inf


def contrast_layers(
    model: Model,
    translation: Translation,
    inputs: Mapping[str, np.ndarray],
    source: Mapping[str, np.ndarray],
    target: Mapping[str, np.ndarray],
    before: Sequence[LayerContrast] = (),
) -> tuple[LayerContrast, ...]:
    """Every layer's values on one set of inputs, joined with those `before` on others."""
    layers = []
    given = {**model.parameters, **inputs, **target}
    for index, node in enumerate(model.nodes):
        ours, theirs = source[node.name], target.get(node.name)
        operands = [given.get(name) for name in node.inputs]
        own = math.inf
        if theirs is not None and all(operand is not None for operand in operands):
            own = _own(node, operands, theirs)
        shape = () if theirs is None else theirs.shape
        worst = math.inf if theirs is None else difference(ours, theirs)
        finite = ours[np.isfinite(ours)] if not np.isfinite(ours).all() else ours
        largest = float(np.abs(finite).max(initial=0))
        if before:
            worst, largest = max(worst, before[index].difference), max(largest, before[index].largest)
            own = max(own, before[index].own)
        layers.append(
            LayerContrast(
                node.label, translation.layers[node.name], node.operator.kind, ours.shape, shape, worst, largest, own,
                node.name in model.outputs,
            )
        )  # fmt: skip
    return tuple(layers)


def _own(node: Node, operands: Sequence[Any], result: np.ndarray) -> float:
    """How far `result` is from what the layer makes of `operands`."""
    try:
        return relative_difference(node.operator.evaluate(*operands), result)
    except (ValueError, IndexError):  # operands of other shapes than the layer's
        return math.inf


def contrast_parameters(
    model: Model, translation: Translation, written: Mapping[str, np.ndarray]
) -> tuple[ParameterContrast, ...]:
    """Every parameter against what the written files hold, read again."""
    rows = []
    for parameter in translation.parameters:
        there = written.get(parameter.target)
        expected = np.asarray(parameter.array)
        shape = () if there is None else there.shape
        own = np.asarray(model.parameters[parameter.source]).shape if parameter.source else expected.shape
        worst = math.inf if there is None else difference(expected, there)
        rows.append(ParameterContrast(parameter.source, parameter.target, own, shape, worst))
    return tuple(rows)


def contrast_top(
    image: str, source: np.ndarray, target: np.ndarray, labels: Sequence[str], count: int = TOP
) -> TopContrast | None:
    """The best classes of the first sample; None where the outputs, (N, classes), are no scores of classes."""
    if source.ndim != 2 or source.shape[1] < 2 or source.shape != target.shape:
        return None

    def best(scores: np.ndarray) -> tuple[tuple[int, str, float], ...]:
        order = np.argsort(-scores, kind="stable")[:count]
        return tuple((int(i), labels[i] if i < len(labels) else "", float(scores[i])) for i in order)

    return TopContrast(image, best(source[0]), best(target[0]))
