"""Finds a symbol's parameters in files that name them in another way.

Gluon names one parameter in three ways: "resnetv10_conv0_weight" in exported checkpoints (the number counts instances
in a process), "conv0_weight" in old save_params files, "features.0.weight" in save_parameters files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from edgectl.interchange.symbol_file import Symbol

STRUCTURAL_NAME = "__structural_name__"
"""The variable attribute in which this project's symbol files keep save_parameters' name."""


def matched_to_symbol(parameters: Mapping[str, np.ndarray], symbol: Symbol) -> dict[str, np.ndarray]:
    """`parameters` under the symbol's names, where another way of naming fits more of them than their own names do."""
    variables = {node.name: node.attributes for node in symbol.nodes if node.is_variable}
    structural = {held[STRUCTURAL_NAME]: name for name, held in variables.items() if STRUCTURAL_NAME in held}
    file_prefix = block_prefix(parameters)
    symbol_prefix = block_prefix(name for name in variables if "_" in name)
    candidates = [
        dict(parameters),
        {structural.get(name, name): array for name, array in parameters.items()},
        {symbol_prefix + name[len(file_prefix) :]: array for name, array in parameters.items()},
        {symbol_prefix + name: array for name, array in parameters.items()},
    ]
    return max(candidates, key=lambda candidate: len(candidate.keys() & variables.keys()))


def block_prefix(names: Iterable[str]) -> str:
    """What all names have in common, up to the last underscore."""
    ordered = sorted(names)
    if not ordered:
        return ""
    # What the first and the last in order share, all between share too.
    first, last = ordered[0], ordered[-1]
    length = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    common = first[:length]
    return common[: common.rfind("_") + 1]
