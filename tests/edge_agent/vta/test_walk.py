"""Walks: the order of executions, and how soon an element recurs."""

from __future__ import annotations

import numpy as np

from edge_agent.vta.config import DEFAULT_CONFIG
from edge_agent.vta.isa import Alu, AluOpcode, Gemm, encode_micro_ops
from edge_agent.vta.walk import Walk, WalkTable


def test_micro_ops_are_innermost_and_iter_in_is_inside_iter_out() -> None:
    micro_ops = encode_micro_ops(np.array([0, 5]), np.array([1, 6]), np.array([2, 7]), DEFAULT_CONFIG)
    gemm = Gemm(False, 0, 2, 2, 3, 100, 10, 200, 20, 300, 30)
    walk = WalkTable(DEFAULT_CONFIG).walk(gemm, micro_ops)
    assert walk.dst.tolist() == [0, 5, 10, 15, 20, 25, 100, 105, 110, 115, 120, 125]
    assert walk.src.tolist() == [1, 6, 21, 26, 41, 46, 201, 206, 221, 226, 241, 246]
    assert walk.wgt.tolist() == [2, 7, 32, 37, 62, 67, 302, 307, 332, 337, 362, 367]


def test_equal_instructions_share_a_walk_and_others_do_not() -> None:
    table = WalkTable(DEFAULT_CONFIG)
    ones = encode_micro_ops(np.array([1]), np.array([1]), np.array([0]), DEFAULT_CONFIG)
    twos = encode_micro_ops(np.array([2]), np.array([2]), np.array([0]), DEFAULT_CONFIG)
    alu = Alu(AluOpcode.MAX, True, 0, 0, 1, 1, 4, 0, 1, 0, 1)
    assert table.walk(alu, ones) is table.walk(Alu(AluOpcode.SHR, True, 7, 3, 4, 1, 4, 0, 1, 0, 1), ones)
    assert table.walk(alu, twos) is not table.walk(alu, ones)
    assert table.walk(alu, ones).wgt.size == 0
    assert table.walk(Gemm(True, 0, 1, 1, 4, 0, 1, 0, 1), ones) is not table.walk(alu, ones)


def recurs(dst: list[int], src: list[int]) -> tuple[int, int]:
    walk = Walk(np.array(dst), np.array(src), np.zeros(0, np.int64))
    return walk.dst_recurs, walk.src_recurs


def test_recurrence_is_looked_for_in_the_two_executions_before() -> None:
    assert recurs([0, 1, 2, 0], [9, 9, 9, 9]) == (-1, -1)
    assert recurs([0, 1, 0, 1], [9, 9, 9, 9]) == (2, -1)
    assert recurs([0, 1, 1, 2], [9, 9, 9, 9]) == (2, -1)
    assert recurs([0, 1, 2, 3], [9, 0, 9, 9]) == (-1, 1)
    assert recurs([0, 1, 2, 3], [9, 9, 0, 1]) == (-1, 2)
    assert recurs([0, 1, 2, 3], [0, 1, 2, 0]) == (-1, -1)
    assert recurs([4], [4]) == (-1, -1)
