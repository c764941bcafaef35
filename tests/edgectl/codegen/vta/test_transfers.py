"""Transfers between DRAM and the chip."""

from __future__ import annotations

import pytest

from edge_agent.vta.config import DEFAULT_CONFIG
from edge_agent.vta.isa import Load, Store, decode_stream
from edgectl.codegen.vta.transfers import MAXIMUM_STRIDE, in_one_row
from edgectl.operators.integer import IntegerConvolution
from tests.edgectl.codegen.vta.test_convolution import Case


@pytest.mark.parametrize(
    ("transfer", "made"),
    [
        ((4, 16, 16), (1, 64, 64)),
        ((4, 16, 20), (4, 16, 20)),
        ((1, 16, 20), (1, 16, 20)),
        ((3, MAXIMUM_STRIDE // 2, MAXIMUM_STRIDE // 2), (3, MAXIMUM_STRIDE // 2, MAXIMUM_STRIDE // 2)),
    ],
)
def test_rows_without_gaps_are_one(transfer: tuple[int, int, int], made: tuple[int, int, int]) -> None:
    assert in_one_row(*transfer) == made


def test_no_program_transfers_such_rows_one_by_one() -> None:
    operator = IntegerConvolution(padding=(1, 1, 1, 1), shift=10)
    program = Case(0, operator, (64, 64), (14, 14), (3, 3), True, 1, DEFAULT_CONFIG).program()
    transfers = [i for i in decode_stream(program.instructions, DEFAULT_CONFIG) if isinstance(i, Load | Store)]
    assert len(transfers) > 10
    assert not any(transfer.y_size > 1 and transfer.x_size == transfer.x_stride for transfer in transfers)
