"""The one function that turns a floating-point Model into an integer one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgectl.graph import Model
from edgectl.quantization.calibration import observe, synthetic_images
from edgectl.quantization.folding import fold_batch_norm
from edgectl.quantization.rewrite import rewrite


def quantize(
    model: Model, calibration: np.ndarray | None = None, progress: Callable[[int, int], None] | None = None
) -> Model:
    """The integer Model of a float one. `calibration` is float32 (N, C, H, W), preprocessed; None: synthetic images.

    Raises UsageError where the calibration data does not fit the model.
    """
    folded = fold_batch_norm(model)
    if calibration is None:
        (only,) = list(folded.inputs.values())[:1]
        calibration = synthetic_images(model.preprocessing, only.shape)
    return rewrite(folded, observe(folded, calibration, progress))
