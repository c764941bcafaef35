"""What each step of the quantizer brings: answers and logits of a model in integers beside those in float.

    python benchmarks/quantization.py MODEL --data TEST.npz --calibration CALIBRATION.npz [--mean ...] [--std ...]
        [--limit N]

The rows of docs/quantization.md come from this. SQNR is that of the logits less their mean over the classes, since only
differences between classes make an answer.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from unittest import mock

import numpy as np

from edgectl.datasets import as_input, read_dataset
from edgectl.graph import Model
from edgectl.interpreter import interpret_images
from edgectl.quantization import builder, fitting, scales
from edgectl.quantization.calibration import observe
from edgectl.quantization.equalization import equalized
from edgectl.quantization.folding import fold_batch_norm
from edgectl.quantization.quantizer import quantize
from edgectl.quantization.rewrite import rewrite
from edgectl.sources import Source, prepare


def stepwise(model: Model, images: np.ndarray, free: bool, bias: bool, weights: bool, equal: bool) -> Model:
    """The quantizer with only some of its steps."""
    folded = fold_batch_norm(model)
    seen = observe(folded, images)
    chosen = scales.best_free_scale if free else scales.best_scale
    nearest = fitting.rounded if weights else lambda weight, _: np.clip(np.rint(weight), -127, 127)
    with mock.patch.object(builder, "best_free_scale", chosen), mock.patch.object(fitting, "rounded", nearest):
        integer, layers = rewrite(*(equalized(folded, seen) if equal else (folded, seen)))
        return fitting.fitted(integer, layers, images) if bias else integer


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
    options = parser.parse_args()
    source = Source(options.model, mean=tuple(options.mean), std=tuple(options.std), shape=tuple(options.shape))
    model = prepare(source).model.with_batch(1)
    data = read_dataset(options.data, options.limit)
    assert data.labels is not None, "the data has no labels"
    images, calibration = (as_input(part.images, model) for part in (data, read_dataset(options.calibration)))
    expected = interpret_images(model, images)
    answers = expected.argmax(axis=1)
    print(f"{len(images)} images, float top-1 {100 * (answers == data.labels).mean():.2f} %")
    for name, make in STEPS.items():
        found = interpret_images(make(model, calibration), images)
        signal, noise = (np.square(x - x.mean(axis=1, keepdims=True)).sum() for x in (expected, found - expected))
        same, right = (found.argmax(axis=1) == answers).mean(), (found.argmax(axis=1) == data.labels).mean()
        decibels = 10 * np.log10(signal / noise)
        print(f"{name:34s} {100 * same:6.2f} % same, {100 * right:6.2f} % right, {decibels:5.1f} dB", flush=True)


if __name__ == "__main__":
    main()
