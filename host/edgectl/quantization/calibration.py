"""Observes a floating-point Model on data: what range each value takes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edgectl.errors import ModelError, UsageError
from edgectl.graph import Model, Preprocessing
from edgectl.interpreter import in_parallel, interpret

SAMPLES_PER_IMAGE = 4096
SAMPLES = 1 << 20
"""Values kept per tensor, roughly, of one image and of all, to compare scales on; the extremes are always exact."""
BATCH = 4


@dataclass(frozen=True)
class Observation:
    """What a value looked like on the calibration data: its largest magnitude, a sample of its values (float32, images
    by channels by positions), and of each channel (axis 1) the largest magnitude and the mean."""

    largest: float
    sample: np.ndarray
    channels: np.ndarray
    means: np.ndarray

    def times(self, factor: float) -> Observation:
        """What values look like that are so many times as large."""
        return self.divided(np.full(len(self.channels), 1 / factor))

    def divided(self, factors: np.ndarray) -> Observation:
        """What the value looks like with each channel divided by its positive factor."""
        channels = self.channels / factors
        sample = self.sample / factors.astype(np.float32).reshape(-1, 1)
        return Observation(float(channels.max(initial=0.0)), sample, channels, self.means / factors)


def observe(
    model: Model, images: np.ndarray, progress: Callable[[int, int], None] | None = None
) -> dict[str, Observation]:
    """Run `model` (one float32 NCHW input) over `images` and observe every value. Deterministic.

    `progress(done, total)` counts images. Raises UsageError where the images do not fit the input or hold NaN,
    ModelError where the model makes values of them that are not finite.
    """
    if len(model.inputs) != 1:
        raise UsageError(
            f"'{model.name}' has inputs {sorted(model.inputs)}; only models with one are quantized so far: "
            "cut it to one, or make the others parameters"
        )
    if len(images) == 0 or not np.isfinite(images).all():
        raise UsageError("the calibration data is empty or holds values that are not numbers")
    (name,) = model.inputs
    per_image = max(1, min(SAMPLES_PER_IMAGE, SAMPLES // len(images)))

    def look(batch: np.ndarray) -> dict[str, Observation]:
        seen: dict[str, Observation] = {}

        def keep(value: str, array: np.ndarray) -> None:
            others = tuple(axis for axis in range(array.ndim) if axis != 1)
            channels = np.atleast_1d(np.abs(array).max(axis=others, initial=0.0))
            largest = float(channels.max(initial=0.0))
            if not math.isfinite(largest):
                raise ModelError(
                    f"layer '{value}' of '{model.name}' computes values that are not finite; give sound weights, and "
                    "calibration images as the model expects them"
                )
            flat = array.reshape(len(array), len(channels), -1)
            # An odd stride does not lock on to image rows.
            stride = max(1, flat[0].size // per_image) | 1
            sums = flat.mean(axis=2, dtype=np.float64).sum(axis=0)
            seen[value] = Observation(largest, flat[:, :, ::stride].copy(), channels, sums)

        keep(name, batch)
        interpret(model, {name: batch}, keep)
        return seen

    parts: list[dict[str, Observation]] = []
    for part in in_parallel(look, images, BATCH):
        parts.append(part)
        if progress is not None:
            progress(min(len(parts) * BATCH, len(images)), len(images))
    return {
        value: Observation(
            max(part[value].largest for part in parts),
            np.concatenate([part[value].sample for part in parts]),
            np.max([part[value].channels for part in parts], axis=0),
            np.sum([part[value].means for part in parts], axis=0) / len(images),
        )
        for value in parts[0]
    }


def synthetic_images(
    preprocessing: Preprocessing | None, shape: tuple[int, ...], count: int = 16, seed: int = 0
) -> np.ndarray:
    """Float32 (count, C, H, W) that look to a network like normalised photographs: smooth random fields with the
    1/f spectrum of natural images, in 0..1, normalised by the model's statistics (ImageNet's where it has none).
    For inputs of another rank, standard normal numbers."""
    generator = np.random.default_rng(seed)
    if len(shape) != 4:
        return generator.standard_normal((count, *shape[1:])).astype(np.float32)
    channels, height, width = shape[1:]
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(height), np.fft.fftfreq(width), indexing="ij"))
    frequency[0, 0] = 1.0 / max(height, width)
    noise = generator.standard_normal((count, channels + 1, height, width))
    fields = np.fft.ifft2(np.fft.fft2(noise) / frequency).real
    fields /= np.maximum(fields.std(axis=(2, 3), keepdims=True), np.finfo(np.float64).tiny)
    # Channels of a photograph go together: most of the signal is shared.
    mixed = 0.9 * fields[:, :1] + 0.45 * fields[:, 1:]
    pixels = np.clip(0.45 + 0.25 * mixed + generator.normal(0, 0.1, (count, channels, 1, 1)), 0, 1)
    mean = np.resize(np.array(preprocessing.mean if preprocessing else (0.485, 0.456, 0.406)), channels)
    std = np.resize(np.array(preprocessing.std if preprocessing else (0.229, 0.224, 0.225)), channels)
    return ((pixels - mean.reshape(1, -1, 1, 1)) / std.reshape(1, -1, 1, 1)).astype(np.float32)
