"""Fits the integer weights and biases of a network to calibration images, layer by layer, each on what the layers
before it really compute.

Weights are rounded one input after the other; what the rounding of one changes in a layer's results, those that are
still to come make up for as far as their inputs go together (Frantar et al., GPTQ, 2022). A bias then takes the mean
error of its channel (Nagel et al., Data-Free Quantization, 2019).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from edgectl.graph import Model, Node
from edgectl.interpreter import in_parallel
from edgectl.operators.integer import IntegerConvolution, IntegerDense
from edgectl.operators.windows import pad, windows

LARGEST_BIAS = 2**30
BATCH = 4
POSITIONS = 1 << 15
"""Where inputs are looked at, roughly, of all images together."""
LARGEST_VALUE = 1 << 28
"""Bytes that one value of all images may take up; more images than fit are not used."""
MOST_INPUTS = 1152
"""Weights of one result that are rounded together, as time grows with their cube."""
DAMPINGS = (0.01, 0.1, 1.0)
"""Parts of the mean power of inputs that may be added to each: what few images say of correlations is not all true."""
FEW = 16
"""Times as many positions as inputs that go together are enough for the least of these."""
TRIED = 64
"""Results, of at most so many and of as many groups, on which dampings are compared."""
BLOCK = 64
"""Inputs whose corrections are applied to the rest at once, by one product."""


@dataclass(frozen=True)
class LinearLayer:
    """What an IntegerConvolution or IntegerDense approximates: `weight`, not rounded, in units of the integer weights,
    and the mean of each channel's sum, `mean`, in units of the accumulator."""

    weight: np.ndarray
    mean: np.ndarray


def fitted(
    model: Model,
    layers: Mapping[str, LinearLayer],
    images: np.ndarray,
    progress: Callable[[int, int], None] | None = None,
) -> Model:
    """The integer `model` with other weights and biases, fitted to `images` (N, C, H, W). Deterministic.

    `layers` go by the names of their weights; `progress(done, total)` counts them.
    """
    (only,) = model.inputs
    largest = max(t.nbytes // t.shape[0] for name, t in model.types().items() if name not in model.parameters)
    values = {only: images[: max(1, LARGEST_VALUE // largest)]}
    constants = dict(model.parameters)
    remaining = {name: len(readers) for name, readers in model.consumers().items()}
    done = 0
    for node in model.nodes:
        layer = layers.get(node.inputs[1]) if len(node.inputs) > 1 else None
        if layer is not None:
            _fit(node, layer, values, constants)
            done += 1
            if progress is not None:
                progress(done, len(layers))
        if any(name in values for name in node.inputs):
            values[node.name] = np.concatenate(_by_batches(node.operator.evaluate, node, values, constants))
        else:
            constants[node.name] = node.operator.evaluate(*(constants[name] for name in node.inputs))
        for name in dict.fromkeys(node.inputs):
            remaining[name] -= 1
            if remaining[name] == 0:
                values.pop(name, None)
    return replace(model, parameters={name: constants[name] for name in model.parameters})


def _fit(node: Node, layer: LinearLayer, values: Mapping[str, np.ndarray], constants: dict[str, np.ndarray]) -> None:
    """Replace the weights and the bias of `node` in `constants`."""
    operator = node.operator
    assert isinstance(operator, IntegerConvolution | IntegerDense)
    x, weight, bias = node.inputs[:3]
    groups = operator.groups if isinstance(operator, IntegerConvolution) else 1
    inputs = _inputs(operator, values[x], layer.weight.shape)
    inputs = inputs.reshape(groups, len(inputs) // groups, -1)
    integers = layer.weight.astype(np.float64).reshape(groups, len(layer.weight) // groups, -1)
    damping = best_damping(integers[:, :, :MOST_INPUTS], inputs[:, :MOST_INPUTS])
    for group, begin in product(range(groups), range(0, integers.shape[2], MOST_INPUTS)):
        several = slice(begin, begin + MOST_INPUTS)
        covariance = _covariance(inputs[group, several])
        integers[group, :, several] = rounded(integers[group, :, several], covariance, damping)
    constants[weight] = integers.reshape(layer.weight.shape).astype(np.int8)
    sums = operator.accumulate if isinstance(operator, IntegerConvolution) else operator.evaluate

    def mean(*inputs: np.ndarray) -> np.ndarray:
        total = sums(*inputs)
        return total.reshape(*total.shape[:2], -1).mean(axis=2, dtype=np.float64)

    error = layer.mean - np.concatenate(_by_batches(mean, node, values, constants)).mean(axis=0)
    corrected = constants[bias] + np.rint(error)
    constants[bias] = np.clip(corrected, -LARGEST_BIAS, LARGEST_BIAS).astype(np.int32)


def _by_batches(
    function: Callable[..., np.ndarray],
    node: Node,
    values: Mapping[str, np.ndarray],
    constants: Mapping[str, np.ndarray],
) -> list[np.ndarray]:
    """`function` of the inputs of `node`, a few images at a time."""
    count = next(len(values[name]) for name in node.inputs if name in values)

    def of(part: np.ndarray) -> np.ndarray:
        return function(*(values[name][part] if name in values else constants[name] for name in node.inputs))

    return list(in_parallel(of, np.arange(count), BATCH))


def _inputs(operator: IntegerConvolution | IntegerDense, x: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """What the weights are multiplied with, float32 (channels * taps, positions)."""
    if isinstance(operator, IntegerDense):
        return x.T.astype(np.float32)
    view = windows(pad(x, operator.padding), (shape[2], shape[3]), operator.strides, operator.dilation)
    images, channels, height, width = view.shape[:4]
    # An odd stride does not lock on to image rows.
    places = np.arange(0, height * width, max(1, images * height * width // POSITIONS) | 1)
    taken = view[:, :, places // width, places % width]
    return taken.transpose(1, 3, 4, 0, 2).reshape(channels * shape[2] * shape[3], -1).astype(np.float32)


def _covariance(inputs: np.ndarray) -> np.ndarray:
    """Float64 (K, K) of `inputs` (K, positions). What the mean does is the bias's."""
    centred = inputs - inputs.mean(axis=1, keepdims=True)
    return (centred @ centred.T / centred.shape[1]).astype(np.float64)


def best_damping(weight: np.ndarray, inputs: np.ndarray) -> float:
    """The one of DAMPINGS with which `weight` (groups, O, K), rounded on the first half of the positions of `inputs`
    (groups, K, positions), which are those of the first images, does best on the second."""
    groups, results, size = weight.shape
    half = inputs.shape[2] // 2
    if inputs.shape[2] >= FEW * size or half == 0:
        return DAMPINGS[0]
    some = range(0, groups, -(-groups // TRIED))
    rows = slice(None, None, -(-results * len(some) // TRIED))
    errors = np.zeros(len(DAMPINGS))
    for group in some:
        exact = weight[group, rows]
        seen, unseen = (_covariance(part) for part in (inputs[group, :, :half], inputs[group, :, half:]))
        for index, damping in enumerate(DAMPINGS):
            error = rounded(exact, seen, damping) - exact
            errors[index] += float(np.einsum("ok,kl,ol->", error, unseen, error, optimize=True))
    return DAMPINGS[int(errors.argmin())]


def rounded(weight: np.ndarray, covariance: np.ndarray, damping: float = DAMPINGS[0]) -> np.ndarray:
    """Integers in -127..127 near `weight` (O, K) whose results vary nearly as those of `weight`, for inputs with that
    `covariance` (K, K), of whose mean power the part `damping` is added to each."""
    # Strong inputs first: weak ones correct them, and what they cannot correct themselves weighs little.
    order = np.argsort(-np.diag(covariance), kind="stable")
    added = damping * float(np.diag(covariance).mean()) + 1e-6
    inverse = np.linalg.inv(covariance[np.ix_(order, order)] + added * np.eye(len(order)))
    factor = np.linalg.cholesky((inverse + inverse.T) / 2).T
    rest = weight[:, order].astype(np.float64)
    integers = np.empty_like(rest)
    for begin in range(0, len(order), BLOCK):
        end = min(begin + BLOCK, len(order))
        errors = np.empty((len(rest), end - begin))
        for column in range(begin, end):
            integers[:, column] = np.clip(np.rint(rest[:, column]), -127, 127)
            error = (rest[:, column] - integers[:, column]) / factor[column, column]
            rest[:, column:end] -= np.outer(error, factor[column, column:end])
            errors[:, column - begin] = error
        rest[:, end:] -= errors @ factor[begin:end, end:]
    restored = np.empty_like(integers)
    restored[:, order] = integers
    return restored
