"""Products cover a GEMM walk exactly, and regular walks need few."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.vta.products import Product, factor
from edge_agent.vta.walk import Walk


def executions(products: list[Product]) -> Counter[tuple[int, int, int]]:
    return Counter(
        (int(product.dst[p, b]), int(product.src[p, k]), int(product.wgt[b, k]))
        for product in products
        for p, b, k in np.ndindex(*product.dst.shape, product.src.shape[1])
    )


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=60))
def test_every_execution_is_in_the_products_once(triples: list[tuple[int, int, int]]) -> None:
    products = factor(Walk(*np.array(triples, np.int64).T))
    assert executions(products) == Counter(triples)
    dst = np.concatenate([product.dst.ravel() for product in products])
    assert len(np.unique(dst)) == len(dst)


def test_a_convolution_is_one_product() -> None:
    """4 x 6 positions, 3 output blocks, 9 taps of 2 input blocks, the positions innermost."""
    i, ky, kx, o, y, x = np.indices((2, 3, 3, 3, 4, 6)).reshape(6, -1)
    walk = Walk(o * 24 + y * 6 + x, i * 48 + (y + ky) * 8 + x + kx, (o * 2 + i) * 9 + ky * 3 + kx)
    (product,) = factor(walk)
    assert (product.dst.shape, product.src.shape, product.wgt.shape) == ((24, 3), (24, 18), (3, 18))


def test_a_dense_layer_is_one_product() -> None:
    k, o = np.indices((8, 5)).reshape(2, -1)
    (product,) = factor(Walk(o, k, o * 8 + k))
    assert product.dst.shape == (1, 5)


def test_two_layers_in_one_walk_are_two_products() -> None:
    """Output blocks that see different inputs do not share a product."""
    dst = np.array([0, 1, 2, 3])
    products = factor(Walk(dst, np.array([7, 8, 7, 9]), np.array([0, 0, 1, 1])))
    assert sorted(product.dst.ravel().tolist() for product in products) == [[0, 1], [2, 3]]
