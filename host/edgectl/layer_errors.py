"""The error of each integer layer against the float model's value of the same name: where accuracy is lost.

An integer's unit is not in the Model, so it is measured: unit = sum(f * f) / sum(f * q) over the float values f and the
integers q, which noise that does not follow the signal leaves alone. Then the noise is f - unit * q, and

    SQNR = 10 log10(sum(f^2) / sum((f - unit * q)^2)) dB      (the cosine c between f and q gives c^2 / (1 - c^2))

so an error of pure gain counts as unit. A value has one unit, or each channel its own: behind an IntegerAffine, and
where that lowers the noise by TELLING, as it does where the quantizer gave channels like ranges.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgectl.datasets import as_input
from edgectl.graph import Model, Node
from edgectl.interpreter import in_parallel, interpret
from edgectl.operators.activation import Relu
from edgectl.operators.integer import IntegerAffine, IntegerPoolSum, IntegerWindowSum
from edgectl.operators.pooling import MaxPool
from edgectl.operators.quantization import Dequantize, Requantize
from edgectl.operators.shape import Flatten, Reshape, Transpose

IMAGES = 32
"""Evenly spread over the data: of each layer these are thousands of values, the decibels settle within a tenth."""
CHUNK = 2
"""Images at once in each thread, which keeps the float model's values of them: 100 MB for one image of ResNet-50."""
TELLING = 2.0
"""Decibels by which units of channels must lower the noise to be believed. Where channels have no factors they lower it
by up to 1 dB (resnet20, weights rounded with one scale), where they have by 5 to 10."""
TELLING_SAMPLES = 16
"""Values of each channel that this takes: fewer are fitted by chance."""
NO_SIGNAL = 1e-20
"""A float value that is zero everywhere, where the integers are not, counts as this ratio: -200 dB."""
CONVERSIONS = (Dequantize, Flatten, Reshape, Transpose)
"""They add no error, and their values' are those of the layer before."""
KEEPS_CHANNELS = (Requantize, Relu, MaxPool, Flatten, IntegerPoolSum, IntegerWindowSum)


@dataclass(frozen=True)
class LayerError:
    """SQNR in dB of one layer, infinite where there is no error.

    `sqnr` is of the layer in its place, with the error of all layers before it; `own` of the layer alone, fed with the
    float model's values, rounded as its inputs are (None where an input has no counterpart). `value` is the float
    model's value it is compared with.
    """

    layer: str
    value: str
    operator: str
    sqnr: float
    own: float | None

    def as_dict(self) -> dict[str, Any]:
        """Null in JSON: no error, or not measured."""
        own = None if self.own is None or math.isinf(self.own) else self.own
        return {
            "layer": self.layer,
            "value": self.value,
            "operator": self.operator,
            "sqnr_db": None if math.isinf(self.sqnr) else self.sqnr,
            "own_sqnr_db": own,
        }


@dataclass(frozen=True)
class _Sums:
    """Sums by channel (axis 1) of f * f, f * q and q * q in float64."""

    signal: np.ndarray
    product: np.ndarray
    integer: np.ndarray

    @staticmethod
    def of(f: np.ndarray, q: np.ndarray) -> _Sums:
        axes = tuple(axis for axis in range(f.ndim) if axis != 1)
        f, q = f.astype(np.float64), q.astype(np.float64)
        return _Sums((f * f).sum(axis=axes), (f * q).sum(axis=axes), (q * q).sum(axis=axes))

    def __add__(self, other: _Sums) -> _Sums:
        return _Sums(self.signal + other.signal, self.product + other.product, self.integer + other.integer)

    def joined(self) -> _Sums:
        """As if there were one channel."""
        return _Sums(*(np.atleast_1d(part.sum()) for part in (self.signal, self.product, self.integer)))

    def units(self) -> np.ndarray:
        """What one integer is worth, by channel; 0 where the integers do not follow the signal at all."""
        follows = self.product > 0
        return np.where(follows, self.signal / np.where(follows, self.product, 1), 0.0)

    def sqnr(self, units: np.ndarray) -> float:
        """In dB, with these units."""
        signal = float(self.signal.sum())
        noise = float((self.signal - 2 * units * self.product + units**2 * self.integer).sum())
        # Below the rounding of these sums there is no telling noise from none.
        if noise <= 1e-14 * signal:
            return math.inf
        return 10 * math.log10(max(signal / noise, NO_SIGNAL))


def layer_errors(
    float_model: Model, integer_model: Model, images: np.ndarray, progress: Callable[[int, int], None] | None = None
) -> tuple[LayerError, ...]:
    """The layers of `integer_model`, the worst SQNR first, on at most IMAGES of the stored `images`. `progress(done,
    total)` counts what is interpreted."""
    images = images[np.unique(np.linspace(0, len(images) - 1, min(len(images), IMAGES)).astype(np.int64))]
    compared = _Compared(float_model, integer_model)
    done = 0

    def counted(part: dict[str, _Sums]) -> dict[str, _Sums]:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, 2 * -(-len(images) // CHUNK))
        return part

    in_place = compared.total([counted(part) for part in in_parallel(compared.in_place, images, CHUNK)])
    by_channel = {name for name, sums in in_place.items() if compared.by_channel(name, sums, len(images))}
    units = {name: compared.units(name, sums, by_channel) for name, sums in in_place.items()}
    by_itself = in_parallel(lambda part: compared.alone(part, units), images, CHUNK)
    alone = compared.total([counted(part) for part in by_itself])
    errors = []
    for node in integer_model.nodes:
        name = node.name
        if name in in_place and not isinstance(node.operator, CONVERSIONS):
            own = alone[name].sqnr(compared.units(name, alone[name], by_channel)) if name in alone else None
            sqnr = in_place[name].sqnr(units[name])
            errors.append(LayerError(node.label, compared.counterpart[name], node.operator.kind, sqnr, own))
    return tuple(sorted(errors, key=lambda error: error.sqnr))


class _Compared:
    """Both models, and which value of the float one each integer value stands for."""

    def __init__(self, float_model: Model, integer_model: Model) -> None:
        self.float_model, self.integer_model = float_model, integer_model
        self.types = integer_model.types()
        known = float_model.types()
        # The quantizer names what it makes of a value VALUE.kind; layers may have dots in their names, too.
        self.counterpart = {name: name for name in integer_model.inputs}
        for node in integer_model.nodes:
            value = node.name if node.name in known else node.name.rpartition(".")[0]
            if value in known and known[value].shape[1:] == self.types[node.name].shape[1:]:
                self.counterpart[node.name] = value
        self._affine: set[str] = set()
        for node in integer_model.nodes:
            keeps = isinstance(node.operator, KEEPS_CHANNELS) and not self._affine.isdisjoint(node.inputs)
            if isinstance(node.operator, IntegerAffine) or keeps:
                self._affine.add(node.name)

    def total(self, parts: Sequence[Mapping[str, _Sums]]) -> dict[str, _Sums]:
        """The sums over all parts, in order."""
        total = dict(parts[0])
        for part in parts[1:]:
            for name, sums in part.items():
                total[name] = total[name] + sums
        return total

    def by_channel(self, name: str, sums: _Sums, images: int) -> bool:
        """Whether the channels of a value have units of their own."""
        samples = images * math.prod(self.types[name].shape[2:])
        together, apart = sums.sqnr(sums.joined().units()), sums.sqnr(sums.units())
        return name in self._affine or (samples >= TELLING_SAMPLES and apart >= together + TELLING)

    def units(self, name: str, sums: _Sums, by_channel: Set[str]) -> np.ndarray:
        """The units of an integer value, one or one for each channel; a float one is what it is."""
        if self.types[name].dtype == "float32":
            return np.ones(1)
        return (sums if name in by_channel else sums.joined()).units()

    def in_place(self, part: np.ndarray) -> dict[str, _Sums]:
        """The integer model's values against the float model's."""
        x, floats = self._floats(part)
        sums: dict[str, _Sums] = {name: _Sums.of(array, array) for name, array in x.items()}

        def look(name: str, array: np.ndarray) -> None:
            if name in self.counterpart:
                sums[name] = _Sums.of(floats[self.counterpart[name]], array)

        interpret(self.integer_model, x, look)
        return sums

    def alone(self, part: np.ndarray, units: Mapping[str, np.ndarray]) -> dict[str, _Sums]:
        """Each integer layer, fed with the float model's values."""
        _, floats = self._floats(part)
        sums = {}
        for node in self.integer_model.nodes:
            inputs = self._inputs(node, floats, units)
            if inputs is not None and not isinstance(node.operator, CONVERSIONS):
                sums[node.name] = _Sums.of(floats[self.counterpart[node.name]], node.operator.evaluate(*inputs))
        return sums

    def _inputs(
        self, node: Node, floats: Mapping[str, np.ndarray], units: Mapping[str, np.ndarray]
    ) -> list[np.ndarray] | None:
        parameters = self.integer_model.parameters
        computed = [name for name in node.inputs if name not in parameters]
        if node.name not in self.counterpart or not all(name in self.counterpart for name in computed):
            return None
        return [
            parameters[name]
            if name in parameters
            else _rounded(floats[self.counterpart[name]], units[name], self.types[name].dtype)
            for name in node.inputs
        ]

    def _floats(self, part: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """The input by name, and those values of the float model that stand beside integers."""
        (name,) = self.float_model.inputs
        x = {name: as_input(part, self.float_model)}
        values, needed = dict(x), set(self.counterpart.values())

        def keep(value: str, array: np.ndarray) -> None:
            if value in needed:
                values[value] = array

        interpret(self.float_model, x, keep)
        return x, values


def _rounded(f: np.ndarray, units: np.ndarray, dtype: str) -> np.ndarray:
    """Float values in an integer form's units."""
    if dtype == "float32":
        return f
    inverse = np.where(units > 0, 1 / np.where(units > 0, units, 1), 0.0)
    limit = 127 if dtype == "int8" else 2**30
    scaled = np.rint(f * inverse.reshape(1, -1, *(1,) * (f.ndim - 2)))
    return np.clip(scaled, -limit, limit).astype(dtype)
