"""What each step of the quantizer brings: answers and logits of a model in integers beside those in float.

    python benchmarks/quantization.py MODEL --data TEST.npz --calibration CALIBRATION.npz [--mean ...] [--std ...]
        [--limit N] [--ranges]

The rows of docs/quantization.md come from this. With --ranges, all steps are taken, and scales of activations are
chosen as other quantizers do: by the maximum, a percentile, or the divergence of histograms (KL). SQNR is that of the
logits less their mean over the classes, since only differences between classes make an answer.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from unittest import mock

import numpy as np

from edgectl.datasets import as_input, read_dataset
from edgectl.graph import Model
from edgectl.interpreter import interpret_images
from edgectl.quantization import builder, common_scales, fitting, scales
from edgectl.quantization.calibration import observe
from edgectl.quantization.equalization import equalized
from edgectl.quantization.folding import fold_batch_norm
from edgectl.quantization.quantizer import quantize
from edgectl.quantization.rewrite import rewrite
from edgectl.quantization.trained_ranges import with_trained_ranges
from edgectl.sources import Source, prepare


def stepwise(model: Model, images: np.ndarray, free: bool, bias: bool, weights: bool, equal: bool) -> Model:
    """The quantizer with only some of its steps."""
    folded = fold_batch_norm(model)
    seen = with_trained_ranges(model, observe(folded, images))
    chosen = scales.best_free_scale if free else scales.best_scale
    nearest = fitting.rounded if weights else lambda weight, *_: np.clip(np.rint(weight), -127, 127)
    with mock.patch.object(builder, "best_free_scale", chosen), mock.patch.object(fitting, "rounded", nearest):
        integer, layers = rewrite(*(equalized(folded, seen) if equal else (folded, seen)))
        return fitting.fitted(integer, layers, images) if bias else integer


Choice = Callable[[np.ndarray, list[float], int], float]
"""Of values, scales from the coarsest to the finest, and the largest integer: the scale to take."""
BINS = 2048
"""Of a histogram whose divergence is measured."""


def by_percentile(percent: float) -> Choice:
    """The finest scale at which no more than the rest is clipped."""

    def choose(values: np.ndarray, candidates: list[float], limit: int) -> float:
        reached = np.percentile(np.abs(values), percent)
        return min((s for s in candidates if s * limit >= reached * (1 - 1e-6)), default=candidates[0])

    return choose


def by_divergence(values: np.ndarray, candidates: list[float], limit: int) -> float:
    """The scale whose rounded histogram diverges least from that of the values."""
    # Zeros, which every scale keeps, would outweigh all else.
    magnitudes = np.abs(values[values != 0])
    counts, edges = np.histogram(magnitudes, BINS, (0, max(float(magnitudes.max()), 1e-30)))
    centres = (edges[1:] + edges[:-1]) / 2

    def divergence(scale: float) -> float:
        levels = np.minimum(np.rint(centres / scale), limit).astype(np.int64)
        kept = centres <= scale * limit
        p = np.where(kept, counts, 0).astype(np.float64)
        p[np.flatnonzero(kept)[-1]] += counts[~kept].sum()
        filled = np.bincount(levels[kept], (counts[kept] > 0).astype(np.float64), limit + 1)
        sums = np.bincount(levels[kept], counts[kept].astype(np.float64), limit + 1)
        q = np.where(kept & (counts > 0), (sums / np.maximum(filled, 1))[levels], 0)
        both = (p > 0) & (q > 0)
        p, q = p / p.sum(), q / q.sum()
        return float((p[both] * np.log(p[both] / q[both])).sum())

    return min(candidates, key=divergence)


def with_choice(choice: Choice) -> Callable[[Model, np.ndarray], Model]:
    """The quantizer, with another choice among the same scales of activations."""

    def best(values: np.ndarray, largest: float, unit: float = 1.0, units: tuple[float, ...] = ()) -> float:
        if not largest > 0:
            return unit
        tops = [(u, int(np.ceil(np.log2(largest / (u * 127))))) for u in units or (unit,)]
        candidates = [u * 2.0**k for u, top in tops for k in range(top, top - scales.CANDIDATES, -1)]
        return choice(values.ravel(), sorted(candidates, reverse=True), 127)

    free = partial(best, units=tuple(2.0 ** (step / scales.STEPS) for step in range(scales.STEPS)))

    def make(model: Model, images: np.ndarray) -> Model:
        with (
            mock.patch.object(builder, "best_scale", best),
            mock.patch.object(builder, "best_free_scale", free),
            mock.patch.object(common_scales, "best_scale", best),
        ):
            return quantize(model, images)

    return make


RANGES: dict[str, Callable[[Model, np.ndarray], Model]] = {
    "maximum": with_choice(by_percentile(100)),
    "99.99 % percentile": with_choice(by_percentile(99.99)),
    "99.9 % percentile": with_choice(by_percentile(99.9)),
    "KL divergence": with_choice(by_divergence),
    "least squares (what ships)": lambda m, x: quantize(m, x),
}
STEPS: dict[str, Callable[[Model, np.ndarray], Model]] = {
    "powers of two": lambda m, x: stepwise(m, x, False, False, False, False),
    "free scales": lambda m, x: stepwise(m, x, True, False, False, False),
    "free scales, biases": lambda m, x: stepwise(m, x, True, True, False, False),
    "free scales, biases, weights": lambda m, x: stepwise(m, x, True, True, True, False),
    "free scales, biases, equalization": lambda m, x: stepwise(m, x, True, True, False, True),
    "biases, weights, equalization": lambda m, x: stepwise(m, x, False, True, True, True),
    "all": lambda m, x: quantize(m, x),
    "without data": lambda m, x: quantize(m),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--data", required=True)
    parser.add_argument("--calibration", required=True)
    parser.add_argument("--mean", type=float, nargs="+", default=())
    parser.add_argument("--std", type=float, nargs="+", default=())
    parser.add_argument("--shape", type=int, nargs="+", default=())
    parser.add_argument("--limit", type=int)
    parser.add_argument("--ranges", action="store_true", help="compare ways to choose scales")
    options = parser.parse_args()
    source = Source(options.model, mean=tuple(options.mean), std=tuple(options.std), shape=tuple(options.shape))
    model = prepare(source).model.with_batch(1)
    data = read_dataset(options.data, options.limit)
    assert data.labels is not None, "the data has no labels"
    images, calibration = (as_input(part.images, model) for part in (data, read_dataset(options.calibration)))
    expected = interpret_images(model, images)
    answers = expected.argmax(axis=1)
    print(f"{len(images)} images, float top-1 {100 * (answers == data.labels).mean():.2f} %")
    for name, make in (RANGES if options.ranges else STEPS).items():
        found = interpret_images(make(model, calibration), images)
        signal, noise = (np.square(x - x.mean(axis=1, keepdims=True)).sum() for x in (expected, found - expected))
        same, right = (found.argmax(axis=1) == answers).mean(), (found.argmax(axis=1) == data.labels).mean()
        decibels = 10 * np.log10(signal / noise)
        print(f"{name:34s} {100 * same:6.2f} % same, {100 * right:6.2f} % right, {decibels:5.1f} dB", flush=True)


if __name__ == "__main__":
    main()
