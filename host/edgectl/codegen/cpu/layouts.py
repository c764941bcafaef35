"""Channel blocks: how values between kernels lie in memory.

A value of blocks of b channels, (N, C, H, W) as the graph has it, is stored as (N, C/b, H, W, b): a vector then holds
channels of one pixel, at every stride and width. Blocked values stay so from layer to layer; a segment's inputs and
outputs never are, and every kernel reads both forms.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tvm import te

from edgectl.operators.base import TensorType

if TYPE_CHECKING:
    from edgectl.codegen.cpu.fusion import Group

PLANES = 1
"""The block of a value that is stored as the graph has it."""
_BLOCKS = (16, 8, 4)


def channel_block(channels: int) -> int:
    """The widest block that divides the channels; PLANES where none does."""
    return next((block for block in _BLOCKS if channels % block == 0), PLANES)


def stored(declared: TensorType, block: int) -> TensorType:
    """The type of a value in memory."""
    if block == PLANES:
        return declared
    batch, channels, *rest = declared.shape
    return TensorType((batch, channels // block, *rest, block), declared.dtype)


class View:
    """A stored tensor under the graph's indices. It may be indexed like a `te.Tensor`."""

    def __init__(self, tensor: te.Tensor, shape: tuple[int, ...], block: int) -> None:
        self.tensor, self.shape, self.block = tensor, shape, block
        self.dtype = tensor.dtype

    def __getitem__(self, indices: Any) -> Any:
        if self.block == PLANES:
            return self.tensor[indices]
        n, channel, row, column = indices
        return self.tensor[n, te.indexdiv(channel, self.block), row, column, te.indexmod(channel, self.block)]


def choose_blocks(groups: Sequence[Group], types: Mapping[str, TensorType], outputs: Collection[str]) -> dict[str, int]:
    """The block of each kernel's result, by name. Values that are not named are in planes."""
    from edgectl.codegen.cpu.fusion import leader_of, lowering_of

    blocks: dict[str, int] = {}
    for group in groups:
        leader, result = leader_of(group), group[-1].name
        preferred = lowering_of(leader).block
        if result in outputs or len(types[result].shape) != 4 or preferred is None:
            continue
        operands = [
            blocks.get(name, PLANES)
            for node in group
            for name in node.inputs
            if types[name].shape[2:] != (1, 1)
            and name not in {member.name for member in group}
            and len(types[name].shape) == 4
        ]
        block = preferred(types[leader.name], [types[name] for name in leader.inputs], operands, leader.operator)
        if block != PLANES and types[result].shape[1] % block == 0:
            blocks[result] = block
    return blocks
