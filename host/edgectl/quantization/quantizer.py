"""The one function that turns a floating-point Model into an integer one."""

from __future__ import annotations

from collections.abc import Callable, Set

from edgectl.datasets import Data, read_calibration
from edgectl.graph import Model
from edgectl.quantization.calibration import observe, synthetic_images
from edgectl.quantization.equalization import equalized
from edgectl.quantization.fitting import fitted
from edgectl.quantization.folding import fold_batch_norm
from edgectl.quantization.rewrite import rewrite

HEADROOM = 1.4
"""Times that values of real images may be larger than those of synthetic ones; found on networks in
docs/quantization.md."""


def quantize(
    model: Model,
    calibration: Data | None = None,
    progress: Callable[[int, int], None] | None = None,
    in_float: Set[str] = frozenset(),
) -> Model:
    """The integer Model of a float one. `calibration` is a folder of photographs, an .npz file, an array of images or
    an iterable of them (see `read_calibration`); None: synthetic images, which show a network's ranges roughly, and no
    more: channels, weights and biases are not fitted to them. Layers named `in_float` stay in floating point.

    Raises UsageError where the calibration data does not fit the model.
    """
    folded = fold_batch_norm(model)
    if calibration is None:
        (only,) = list(folded.inputs.values())[:1]
        seen = observe(folded, synthetic_images(model.preprocessing, only.shape), progress)
        return rewrite(folded, {name: observation.times(HEADROOM) for name, observation in seen.items()}, in_float)[0]
    images = read_calibration(calibration, model)
    integer, layers = rewrite(*equalized(folded, observe(folded, images, progress)), in_float)
    return fitted(integer, layers, images, progress)
