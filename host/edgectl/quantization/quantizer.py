"""The one function that turns a floating-point Model into an integer one, and its two halves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass

import numpy as np

from edgectl.datasets import Data, read_calibration
from edgectl.graph import Model
from edgectl.quantization.calibration import Observation, observe, synthetic_images
from edgectl.quantization.equalization import equalized
from edgectl.quantization.fitting import fitted
from edgectl.quantization.folding import fold_batch_norm
from edgectl.quantization.headroom import with_headroom
from edgectl.quantization.rewrite import rewrite
from edgectl.quantization.trained_ranges import with_trained_ranges

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Observed:
    """A float model, folded and equalized, what its values look like, and the images that it is fitted to, if any."""

    model: Model
    seen: Mapping[str, Observation]
    images: np.ndarray | None

    def quantized(self, in_float: Set[str] = frozenset(), progress: Progress | None = None) -> Model:
        """The integer Model; layers named `in_float` stay in floating point."""
        integer, layers = rewrite(self.model, self.seen, in_float)
        return integer if self.images is None else fitted(integer, layers, self.images, progress)


def observed(model: Model, calibration: Data | None = None, progress: Progress | None = None) -> Observed:
    """What `quantize` looks at before it chooses anything. Raises as `quantize`."""
    folded = fold_batch_norm(model)
    if calibration is None:
        (only,) = list(folded.inputs.values())[:1]
        seen = observe(folded, synthetic_images(model.preprocessing, only.shape), progress)
        return Observed(folded, with_headroom(folded, seen), None)
    images = read_calibration(calibration, model)
    seen = with_trained_ranges(model, observe(folded, images, progress))
    return Observed(*equalized(folded, seen), images)


def quantize(
    model: Model,
    calibration: Data | None = None,
    progress: Progress | None = None,
    in_float: Set[str] = frozenset(),
) -> Model:
    """The integer Model of a float one. `calibration` is a folder of photographs, an .npz file, an array of images or
    an iterable of them (see `read_calibration`); None: synthetic images, which show a network's ranges roughly, and no
    more: channels, weights and biases are not fitted to them. Layers named `in_float` stay in floating point.

    Raises UsageError where the calibration data does not fit the model.
    """
    return observed(model, calibration, progress).quantized(in_float, progress)
