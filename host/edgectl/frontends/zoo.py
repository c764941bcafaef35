"""Networks by name: Gluon's vision zoo and the demo model, from symbol files that ship as data."""

from __future__ import annotations

import difflib
import functools
import gzip
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgectl.errors import UnknownModelError
from edgectl.frontends.graph_builder import Shapes, recorded_shape
from edgectl.frontends.mxnet import from_symbol
from edgectl.graph import Model, Preprocessing
from edgectl.interchange.mxnet import read_parameters
from edgectl.interchange.symbol_file import parse_symbol
from edgectl.labels import read_labels

DATA = Path(__file__).parent.parent / "data"


@dataclass(frozen=True)
class ZooEntry:
    """What the index says about one network.

    `gluon_sha1` is the digest of its pretrained .params file in Gluon's store, `torchvision` the name of a file of
    weights for the same layers in the same order, `parameters` a .params file that ships with the package.
    """

    name: str
    symbol: str
    input_shape: tuple[int, ...]
    preprocessing: Preprocessing
    labels: str
    gluon_sha1: str | None = None
    torchvision: str | None = None
    parameters: str | None = None

    def symbol_text(self) -> str:
        raw = (DATA / self.symbol).read_bytes()
        return (gzip.decompress(raw) if self.symbol.endswith(".gz") else raw).decode()

    def model(self, parameters: Mapping[str, np.ndarray], input_shapes: Shapes | None = None) -> Model:
        """The network with `parameters`, by whichever of Gluon's ways of naming. Raises ModelError.

        `input_shapes` replaces the usual size of images; preprocessing then scales along.
        """
        shapes = input_shapes or {"data": self.input_shape}
        model = from_symbol(self.symbol_text(), parameters, shapes, self.name, self.name)
        height, width = model.inputs["data"].shape[2:]
        return replace(model, preprocessing=self.preprocessing.for_size(height, width), labels=read_labels(self.labels))


@functools.cache
def entries() -> Mapping[str, ZooEntry]:
    """The whole index by name."""
    index: dict[str, dict[str, Any]] = {}
    for path in (DATA / "zoo" / "index.json", DATA / "models" / "index.json"):
        index.update(json.loads(path.read_text()))
    return {name: _entry(name, fields) for name, fields in sorted(index.items())}


def _entry(name: str, fields: dict[str, Any]) -> ZooEntry:
    how = fields.pop("preprocessing")
    preprocessing = Preprocessing(how["resize"], tuple(how["crop"]), tuple(how["mean"]), tuple(how["std"]))
    shape = tuple(fields.pop("input_shape"))
    return ZooEntry(name, input_shape=shape, preprocessing=preprocessing, **fields)


def names() -> list[str]:
    """Every known name, sorted."""
    return list(entries())


def _letters(name: str) -> str:
    return re.sub("[^a-z0-9]", "", name.lower())


def find(name: str) -> ZooEntry:
    """The entry of `name`. Raises UnknownModelError with the nearest names."""
    found = entries().get(name)
    if found is None:
        # Most mistakes are of case and separators: compare without them.
        spelled = {_letters(known): known for known in names()}
        near = [spelled[match] for match in difflib.get_close_matches(_letters(name), spelled, 3, 0.5)]
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise UnknownModelError(
            f"unknown model '{name}'; {hint}`edgectl models` lists all names; "
            "for a model of your own give its checkpoint: PREFIX of PREFIX-symbol.json and PREFIX-0000.params"
        )
    return found


def load(name: str, input_shapes: Shapes | None = None) -> Model:
    """The network `name`; where its weights do not ship with the package, its parameters are zeros of the right shape.

    Raises UnknownModelError where the name is unknown.
    """
    entry = find(name)
    if entry.parameters is not None:
        return entry.model(read_parameters(DATA / entry.parameters), input_shapes)
    return entry.model(blank_parameters(entry.symbol_text()), input_shapes)


def blank_parameters(symbol_json: str) -> dict[str, np.ndarray]:
    """Zeros (that take no memory) for every variable but `data`, of the shapes that the symbol records."""
    shapes = {node.name: recorded_shape(node) for node in parse_symbol(symbol_json, "symbol").nodes if node.is_variable}
    zero = np.zeros((), np.float32)
    return {name: np.broadcast_to(zero, shape) for name, shape in shapes.items() if shape and name != "data"}
