"""How much larger real images' values may be than those of the synthetic images that a model is calibrated on."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgectl.graph import Model
from edgectl.operators.elementwise import Binary
from edgectl.quantization.calibration import Observation
from edgectl.quantization.suitability import MOVEMENTS
from edgectl.quantization.unary_chains import PRODUCT, unary_function, unary_roots

HEADROOM = 1.4
"""Times that values of real images may be larger than those of synthetic ones; found on networks in
docs/quantization.md."""


def with_headroom(model: Model, seen: Mapping[str, Observation]) -> dict[str, Observation]:
    """What was `seen` of synthetic images, as it may be of real ones: HEADROOM times as large.

    A function of one value grows as the function says (a sigmoid hardly), a product as both of its factors together.
    """
    roots = unary_roots(model)
    factors = dict.fromkeys(seen, HEADROOM)
    for node in model.nodes:
        computed = [name for name in node.inputs if name in factors]
        if node.name in roots:
            factors[node.name] = _growth(model, roots[node.name], node.name, seen, factors[roots[node.name]])
        elif isinstance(node.operator, Binary) and node.operator.function == PRODUCT:
            factors[node.name] = float(np.prod([factors[name] for name in computed]))
        elif isinstance(node.operator, MOVEMENTS) and computed:
            factors[node.name] = factors[computed[0]]
    return {name: observation.times(factors[name]) for name, observation in seen.items()}


def _growth(model: Model, root: str, value: str, seen: Mapping[str, Observation], factor: float) -> float:
    """Times that the function `value` of `root` becomes larger where `root` becomes `factor` times as large."""
    with np.errstate(all="ignore"):
        larger = np.abs(unary_function(model, root, value, factor * seen[root].sample)).max(initial=0.0)
    growth = float(larger) / seen[value].largest if seen[value].largest else 1.0
    return growth if np.isfinite(growth) and growth > 0 else HEADROOM
