"""Storage assignment: nothing that lives at the same time shares, and every storage is large enough."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from edgectl.codegen.cpu.memory import Lifetime, assign_storages

lifetimes = st.lists(
    st.tuples(st.integers(0, 1000), st.integers(0, 30), st.integers(0, 10)).map(
        lambda t: Lifetime(t[0], t[1], t[1] + t[2])
    ),
    max_size=40,
)


@given(lifetimes)
def test_storages_hold_disjoint_lifetimes(tensors: list[Lifetime]) -> None:
    assigned, storages = assign_storages(tensors)
    assert len(assigned) == len(tensors)
    for index, tensor in enumerate(tensors):
        assert storages[assigned[index]] >= tensor.nbytes
        for other in range(index):
            if assigned[other] == assigned[index]:
                assert tensors[other].last < tensor.first or tensor.last < tensors[other].first


def test_a_chain_needs_two_storages() -> None:
    chain = [Lifetime(100, step, step + 1) for step in range(10)]
    assigned, storages = assign_storages(chain)
    assert storages == [100, 100]
    assert all(a != b for a, b in itertools.pairwise(assigned))
