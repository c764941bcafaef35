"""Integer Models whose input is a decoded image's pixels: the board normalises and quantizes them in one look-up."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgectl.errors import UsageError
from edgectl.graph import Model, Node, Preprocessing
from edgectl.images import normalised_levels
from edgectl.operators.base import TensorType
from edgectl.operators.pixels import QuantizePixels
from edgectl.operators.quantization import Quantize

TABLE = ".levels"
"""What a table's name adds to that of the value it makes."""


def with_pixel_input(integer: Model) -> Model:
    """`integer`, which takes a normalised float32 image, as a model of the resized and cropped one: uint8
    (N, C, H, W), channels in the preprocessing's order. It gives the same results to the bit.

    Raises UsageError, with the reason, where that is not possible.
    """
    if len(integer.inputs) != 1:
        raise _refusal(integer, f"it has the inputs {', '.join(integer.inputs)}, not one image")
    ((name, declared),) = integer.inputs.items()
    how, readers = integer.preprocessing, integer.consumers()[name]
    if len(declared.shape) != 4 or declared.dtype != "float32":
        raise _refusal(integer, f"its input '{name}' is {declared}, not a float32 image (N, C, H, W)")
    if how is None:
        raise _refusal(integer, "it says nothing of preprocessing; give --mean and --std")
    if len(how.mean) != declared.shape[1]:
        raise _refusal(integer, f"its preprocessing is of {len(how.mean)} channels, its input '{name}' is {declared}")
    if others := [node for node in readers if not isinstance(node.operator, Quantize)]:
        raise _refusal(integer, f"layer '{others[0].label}' reads the image in floating point")
    if len(readers) != 1:
        raise _refusal(integer, f"{len(readers)} layers read its input '{name}', not one")
    (reader,) = readers
    assert isinstance(reader.operator, Quantize)
    table = reader.name + TABLE
    while table in integer.parameters or table in integer.producers():
        table += "_"
    node = Node(reader.name, QuantizePixels(), (name, table), reader.source)
    return replace(
        integer,
        inputs={name: TensorType(declared.shape, "uint8")},
        nodes=tuple(node if other is reader else other for other in integer.nodes),
        parameters={**integer.parameters, table: level_table(how, reader.operator)},
    )


def level_table(how: Preprocessing, quantize: Quantize) -> np.ndarray:
    """int8 (C, 256): what becomes of each level of each channel of a photograph, normalised and then quantized."""
    levels = normalised_levels(how)
    return np.ascontiguousarray(quantize.evaluate(levels[np.newaxis])[0])


def _refusal(model: Model, reason: str) -> UsageError:
    return UsageError(f"'{model.name}' cannot take pixels: {reason}; compile it without --pixels")
