"""All that is wrong with a network, told at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgectl.errors import ModelError

MAXIMUM_PROBLEMS = 20


def unsupported_operators(layers: Mapping[str, Sequence[str]]) -> list[str]:
    """One line for each operator of `layers` (operator -> names of the layers that use it)."""
    return [
        f"operator '{operator}' is not supported (layer {', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        for operator, names in layers.items()
    ]


def refuse(where: str, problems: Sequence[str]) -> None:
    """Raise ModelError with all `problems` of the model `where`, each once; nothing where there are none."""
    found = list(dict.fromkeys(problems))
    if len(found) == 1:
        raise ModelError(f"{where}: {found[0]}")
    if found:
        shown = found[:MAXIMUM_PROBLEMS]
        more = [f"and {len(found) - len(shown)} more"] if len(found) > len(shown) else []
        raise ModelError("\n  ".join([f"{where}: {len(found)} problems", *shown, *more]))
