"""Where a program's parts lie: aligned, disjoint, together by use."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from edge_agent.hardware.dma import DmaBuffer
from edge_agent.hardware.placement import place, write_program
from edge_agent.hardware.sentinel import find_sentinel, new_nonce
from edge_agent.vta.program import Role
from edge_agent.vta.relocation import relocate
from tests.edge_agent.vta.builder import TiledConvolution


def buffer(physical: int, nbytes: int) -> DmaBuffer:
    return DmaBuffer(physical, np.full(nbytes, 0xEE, np.uint8))


def test_parts_are_aligned_and_disjoint() -> None:
    program = TiledConvolution().build()
    placement = place(program)
    spans = sorted([placement.instructions, *placement.tensors], key=lambda span: span.begin)
    assert all(span.begin % 256 == 0 for span in spans)
    assert all(before.end <= after.begin for before, after in itertools.pairwise(spans))
    assert spans[-1].end <= placement.nbytes and placement.alignment == 256
    by_role = {tensor.role: span for tensor, span in zip(program.tensors, placement.tensors, strict=True)}
    assert (placement.inputs, placement.outputs) == (by_role[Role.INPUT], by_role[Role.OUTPUT])


def test_instructions_and_constants_are_in_the_buffer() -> None:
    program = TiledConvolution(seed=4).build()
    placement = place(program)
    placed = write_program(program, placement, buffer(0x10000300, placement.nbytes))
    assert placed.start == 0 and placed.instructions == 0x10000300
    words = relocate(program, [placed.address(index) for index in range(len(program.tensors))])
    assert placed.bytes(placement.instructions).tobytes() == words.tobytes()
    for index, data in program.constants.items():
        assert placed.bytes(placement.tensors[index]).tobytes() == data
        assert placed.array(index).tobytes() == data
    inputs = placed.bytes(placement.inputs)
    assert set(inputs.tolist()) == {0xEE}  # nobody's business at load


def test_larger_elements_get_their_alignment() -> None:
    program = TiledConvolution().build()
    placement = place(program)
    wide = type(placement)(
        placement.nbytes + 768, 1024, placement.instructions, placement.tensors, placement.inputs, placement.outputs
    )
    placed = write_program(program, wide, buffer(0x10000300, wide.nbytes))
    assert placed.instructions == 0x10000400 and placed.start == 0x100


def test_the_sentinel_is_the_end_of_what_is_stored_last() -> None:
    builder = TiledConvolution()
    sentinel = find_sentinel(builder.build())
    assert list(builder.tensors)[sentinel.tensor] == "y"
    nbytes = 2 * 8 * 8 * 16
    assert (sentinel.span.begin, sentinel.span.end) == (nbytes - 8, nbytes)
    builder.edit(builder.at["store"][-1], x_size=0)
    sentinel = find_sentinel(builder.build())
    assert sentinel.span.end == nbytes // 2  # the store before, of the other block


def test_nonces_differ() -> None:
    assert len({new_nonce(8).tobytes() for _ in range(100)}) == 100


@pytest.mark.parametrize("index", range(4))
def test_every_tensor_is_an_array_of_its_type(index: int) -> None:
    program = TiledConvolution().build()
    placement = place(program)
    placed = write_program(program, placement, buffer(0, placement.nbytes))
    tensor = program.tensors[index]
    assert (placed.array(index).shape, placed.array(index).dtype.name) == (tensor.shape, tensor.dtype)
