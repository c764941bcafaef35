"""Batch normalisations that no convolution took over.

VTA multiplies nothing but int8, so a channel's multiplier is an integer of 8 bits, at one shift for all channels. What
its rounding changes is a ratio that the weights of the layers that read the channel undo exactly, where all have some.
"""

from __future__ import annotations

import math

import numpy as np

from edgectl.graph import Node
from edgectl.operators.batch_norm import BatchNorm
from edgectl.operators.integer import IntegerAffine
from edgectl.operators.quantization import Quantize
from edgectl.quantization.builder import Form, IntegerModelBuilder, upper_bound

LARGEST_OFFSET = 2.0**100
"""An input's offset by which a Quantize can still multiply in float32."""
MAXIMUM_AFFINE_SHIFT = 14
"""Up to here every offset that does not saturate is below 2**22, what an accumulator on VTA can be preset to."""
TOLERABLE_ERROR = 1.0
"""Units of the result by which the largest input may be wrong for a multiplier's rounding."""
SMALLEST_RATIO = 1 / 16
"""A channel that calibration did not wake keeps this part of its range."""
WIDE = 2**14
"""Multipliers of the form that only CPUs compute: times int8, plus an offset, they stay far inside int32."""


def batch_norm(builder: IntegerModelBuilder, node: Node) -> bool:
    """Stand-alone batch normalisation [ReLU]: per-channel multiply-add; on the input, part of its quantization."""
    operator = node.operator
    assert isinstance(operator, BatchNorm)
    source = node.inputs[0]
    gain, offset = operator.affine(*(builder.model.parameters[name].astype(np.float64) for name in node.inputs[1:]))
    # A channel that is nearly constant has no offset that float32 could hold.
    if source in builder.model.inputs and (np.abs(gain) * LARGEST_OFFSET > np.abs(offset)).all():
        scale = builder.chosen_scale(node.name)
        quantize = Quantize(tuple((gain / scale).tolist()), tuple((-offset / gain).tolist()))
        builder.int8[node.name] = Form(builder.emit(node.name, quantize, (source,), node.label), scale)
        return True
    x = builder.as_int8(source)
    value, bound = builder.clip_after(node.name)
    scale = builder.chosen_scale(value)
    units = x.scale if x.ratios is None else x.scale * x.ratios
    factors = gain * units / scale
    shift = _finest_shift(factors, 127)
    exact = factors * 2.0**shift
    ratios = None
    if bound in (None, math.inf) and builder.suitability.takes_ratios(value):
        multipliers, ratios = _corrected(exact, builder.seen[value].channels / (127 * scale))
        error = exact - multipliers * ratios
    else:
        multipliers = np.clip(np.rint(exact), -127, 127)
        error = exact - multipliers
    if (np.abs(error) * builder.seen[source].channels / units > TOLERABLE_ERROR * 2.0**shift).any():
        shift, ratios = _finest_shift(factors, WIDE), None
        multipliers = np.clip(np.rint(factors * 2.0**shift), -WIDE, WIDE)
    offsets = offset / scale * 2.0**shift if ratios is None else offset / scale * 2.0**shift / ratios
    # Beyond this the result is saturated whatever the input.
    limit = 128 * np.abs(multipliers) + 2.0 ** (shift + 7)
    inputs = (
        x.name,
        builder.constant(node, "multiplier", multipliers.astype(np.int32)),
        builder.constant(node, "offset", np.rint(np.clip(offsets, -limit, limit)).astype(np.int32)),
    )
    affine = IntegerAffine(shift, low=-127 if bound is None else 0, high=upper_bound(bound, scale))
    builder.int8[value] = Form(builder.emit(value, affine, inputs, node.label), scale, ratios)
    builder.fuse(node.name, value)
    return True


def _finest_shift(factors: np.ndarray, largest: int) -> int:
    """The most binary places with which `factors`, rounded, are at most `largest`; 0 where even integers are not."""
    magnitude = max(float(np.abs(factors).max()), 2.0**-MAXIMUM_AFFINE_SHIFT)
    return min(max(math.floor(math.log2((largest + 0.49) / magnitude)), 0), MAXIMUM_AFFINE_SHIFT)


def _corrected(exact: np.ndarray, fullness: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(integers m in -127..127, positive ratios e) with `exact` == m * e, per channel.

    A channel whose results fill `fullness` of the int8 range fills fullness / e of it then, and the weights of its
    readers become e times as large: at e = sqrt(fullness) the rounding of results and that of weights weigh the same.
    m is what comes nearest to that and keeps the results in range; where nothing does, e is 1 and m `exact` rounded.
    """
    magnitude = np.abs(exact)
    multipliers, ratios = np.minimum(np.rint(magnitude), 127), np.ones_like(magnitude)
    least = np.clip(fullness, SMALLEST_RATIO, 1)
    # The last one that fits wins.
    for rounding in (np.floor, np.rint):
        candidate = np.clip(rounding(magnitude / np.sqrt(least)), 1, 127)
        fits = magnitude / candidate >= least
        multipliers = np.where(fits, candidate, multipliers)
        ratios = np.where(fits, magnitude / candidate, ratios)
    return np.sign(exact) * multipliers, ratios
