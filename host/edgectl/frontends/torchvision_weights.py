"""torchvision's weights for networks that Gluon defines with the same layers in the same order."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgectl.errors import ModelError
from edgectl.frontends.parameter_names import STRUCTURAL_NAME
from edgectl.interchange.symbol_file import parse_symbol

GLUON_FIELDS = {
    ("weight",): {"weight": "weight"},
    ("weight", "bias"): {"weight": "weight", "bias": "bias"},
    ("weight", "bias", "running_mean", "running_var"): {
        "weight": "gamma", "bias": "beta", "running_mean": "running_mean", "running_var": "running_var",
    },
}  # fmt: skip
"""A torch layer's fields -> their names in Gluon."""


def gluon_parameters(tensors: Mapping[str, np.ndarray], symbol_json: str) -> dict[str, np.ndarray]:
    """torch `tensors`, in the order of their file, under the names of a zoo symbol's variables.

    Layers correspond by order: both frameworks list them as the network's constructor creates them, which the
    structural names of the symbol preserve. Raises ModelError where a layer's kind or a shape differs.
    """
    source = _layers(tensors)
    nodes = [node for node in parse_symbol(symbol_json, "symbol").nodes if STRUCTURAL_NAME in node.attributes]
    names = {node.attributes[STRUCTURAL_NAME]: node.name for node in nodes}
    target = _layers(dict.fromkeys(sorted(names, key=_structural_order)))
    if len(source) != len(target):
        counts = f"the weights have {len(source)} layers, the network {len(target)}"
        raise ModelError(f"{counts}; they are of another network")
    renamed = {}
    for (torch_layer, torch_fields), (layer, fields) in zip(source.items(), target.items(), strict=True):
        translation = GLUON_FIELDS.get(tuple(sorted(torch_fields, key=_field_order)), {})
        if set(translation.values()) != set(fields):
            raise ModelError(
                f"torch layer '{torch_layer}' has {sorted(torch_fields)}, layer '{layer}' has {sorted(fields)}; "
                "the weights are of another network"
            )
        for torch_field, field in translation.items():
            renamed[names[f"{layer}.{field}"]] = tensors[f"{torch_layer}.{torch_field}"]
    return renamed


def _layers(names: Mapping[str, object]) -> dict[str, set[str]]:
    """Layer -> names of its fields, in the order of first appearance."""
    layers: dict[str, set[str]] = {}
    for name in names:
        layer, _, field = name.rpartition(".")
        if field != "num_batches_tracked":
            layers.setdefault(layer, set()).add(field)
    return layers


def _field_order(field: str) -> int:
    order = ("weight", "bias", "running_mean", "running_var")
    return order.index(field) if field in order else len(order)


def _structural_order(name: str) -> tuple[tuple[int, str], ...]:
    """Order of construction: "features" before "output", numbers by value, a block's body before its downsample."""
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in name.split("."))
