"""Places intermediate tensors into as few storages as their lifetimes allow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Lifetime:
    """A tensor of `nbytes` written by step `first` and read last by step `last`."""

    nbytes: int
    first: int
    last: int


def assign_storages(lifetimes: Sequence[Lifetime]) -> tuple[list[int], list[int]]:
    """(storage of each tensor, bytes of each storage); tensors of one storage never live at the same step.

    First come, first served: a tensor takes the free storage whose size is nearest to its own, growing it if needed.
    """
    storages: list[int] = []
    free_after: list[int] = []
    assigned = [0] * len(lifetimes)
    for index in sorted(range(len(lifetimes)), key=lambda i: lifetimes[i].first):
        tensor = lifetimes[index]
        free = [s for s in range(len(storages)) if free_after[s] < tensor.first]
        if free:
            chosen = min(free, key=lambda s: abs(storages[s] - tensor.nbytes))
            storages[chosen] = max(storages[chosen], tensor.nbytes)
            free_after[chosen] = tensor.last
        else:
            chosen = len(storages)
            storages.append(tensor.nbytes)
            free_after.append(tensor.last)
        assigned[index] = chosen
    return assigned, storages
