"""A GEMM instruction as a few matrix products.

Convolution micro-ops walk positions, output blocks and a reduction. Many accumulators share the sequence of inputs
they reduce over (one position, several output blocks), many share the sequence of weights (one output block, several
positions); what shares both axes is one product.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_agent.vta.walk import Walk


@dataclass(frozen=True, eq=False)
class Product:
    """ACC[dst[p, b]] += sum over k of INP[src[p, k]] . WGT[wgt[b, k]]^T, for all p and b.

    `dst` (positions, blocks), `src` (positions, reduction), `wgt` (blocks, reduction), all int64; no dst occurs twice.
    """

    dst: np.ndarray
    src: np.ndarray
    wgt: np.ndarray


def factor(walk: Walk) -> list[Product]:
    """Products that together compute a GEMM walk, whatever its structure. Their order does not matter."""
    order = np.argsort(walk.dst, kind="stable")
    dst, begins, lengths = np.unique(walk.dst[order], return_index=True, return_counts=True)
    products = []
    for length in np.unique(lengths):
        which = np.flatnonzero(lengths == length)
        steps = order[begins[which][:, None] + np.arange(length)]
        products += _factor_equal(dst[which], walk.src[steps], walk.wgt[steps])
    return products


def _factor_equal(dst: np.ndarray, src: np.ndarray, wgt: np.ndarray) -> list[Product]:
    """Products of accumulators `dst` (n,) with reductions `src` and `wgt` (n, reduction) of one length."""
    src_ids, src_rows = _distinct_rows(src)
    wgt_ids, wgt_rows = _distinct_rows(wgt)
    order = np.lexsort((src_ids, wgt_ids))
    # Weight sequences that meet the same input sequences are columns of one product.
    columns: dict[bytes, list[np.ndarray]] = {}
    for column in np.split(order, np.flatnonzero(np.diff(wgt_ids[order])) + 1):
        columns.setdefault(src_ids[column].tobytes(), []).append(column)
    products = []
    for members in columns.values():
        matrix = np.stack(members, axis=1)
        products.append(Product(dst[matrix], src[src_rows[src_ids[matrix[:, 0]]]], wgt[wgt_rows[wgt_ids[matrix[0]]]]))
    return products


def _distinct_rows(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number equal rows alike, in the order they first occur: ids (n,), and the first row with each id."""
    keys = np.ascontiguousarray(rows).view(np.dtype((np.void, rows.shape[1] * rows.itemsize))).ravel()
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return rank[inverse.ravel()], first[order]
