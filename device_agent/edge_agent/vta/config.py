"""The accelerator's configuration: buffer geometry derived from its name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

from edge_agent.errors import IncompatibleError

INSTRUCTION_BYTES = 16
MICRO_OP_BYTES = 4


class Memory(IntEnum):
    """On-chip memories, by the id that LOAD and STORE carry."""

    UOP = 0
    WGT = 1
    INP = 2
    ACC = 3
    OUT = 4
    ACC_8BIT = 5


_NAME = re.compile(r"([0-9]+)x([0-9]+)_i([0-9]+)w([0-9]+)a([0-9]+)_([0-9]+)_([0-9]+)_([0-9]+)_([0-9]+)")
_MAXIMUM_NUMBER = 256
"""No number of a configuration's name is larger; keeps sizes computed from hostile names small."""


def _log2(value: int, what: str, name: str) -> int:
    if value < 1 or value & (value - 1):
        raise IncompatibleError(f"VTA configuration '{name}': {what} is {value}, not a power of two")
    return value.bit_length() - 1


@dataclass(frozen=True)
class Config:
    """A VTA configuration. Depths are in elements ("tensors"), widths in bits; formulas: hw_spec_const.h.

    `batch` is the rows of an element, `block` its lanes (input and output alike).
    """

    name: str
    batch: int
    block: int
    inp_width: int
    wgt_width: int
    acc_width: int
    log_uop_bytes: int
    log_inp_bytes: int
    log_wgt_bytes: int
    log_acc_bytes: int

    @classmethod
    def parse(cls, name: str) -> Config:
        """`{batch}x{block}_i{inp}w{wgt}a{acc}_{log2 bytes of uop, inp, wgt, acc}`. Raises IncompatibleError."""
        match = _NAME.fullmatch(name)
        if match is None:
            raise IncompatibleError(f"'{name}' is not a VTA configuration; an example is 1x16_i8w8a32_15_15_18_17")
        numbers = [int(group) if len(group) < 4 else _MAXIMUM_NUMBER + 1 for group in match.groups()]
        if max(numbers) > _MAXIMUM_NUMBER:
            raise IncompatibleError(f"VTA configuration '{name}' has a number above {_MAXIMUM_NUMBER}")
        powers = ("batch", "block", "input width", "weight width", "accumulator width")
        for what, value in zip(powers, numbers, strict=False):
            _log2(value, what, name)
        config = cls(name, *numbers)
        config._check_legal()
        return config

    def _check_legal(self) -> None:
        """Every memory holds something, and the instruction formats have room for its indices (vta-facts 1.2)."""
        for memory in Memory:
            if min(self._element_bytes.values()) < 1 or self.depth(memory) < 2:
                raise IncompatibleError(f"VTA configuration '{self.name}': {memory.name} holds no two elements")
        acc, inp, wgt, uop = (self.index_bits(memory) for memory in (Memory.ACC, Memory.INP, Memory.WGT, Memory.UOP))
        limits = {
            "micro-op": (acc + max(acc, inp) + wgt, 32),
            "loop": (8 + 2 * uop + 1 + 28, 64),
            "GEMM factors": (2 * (acc + inp + wgt), 64),
            "ALU factors": (4 * acc + 20, 64),
        }
        for what, (bits, limit) in limits.items():
            if bits > limit:
                raise IncompatibleError(
                    f"VTA configuration '{self.name}': {what} fields need {bits} bits, {limit} exist"
                )

    @cached_property
    def _element_bytes(self) -> dict[Memory, int]:
        inputs, outputs = self.batch * self.block * self.inp_width, self.batch * self.block * self.acc_width
        bits = {
            Memory.UOP: 8 * MICRO_OP_BYTES,
            Memory.WGT: self.block * self.block * self.wgt_width,
            Memory.INP: inputs,
            Memory.ACC: outputs,
            Memory.OUT: inputs,
            Memory.ACC_8BIT: inputs,
        }
        return {memory: count // 8 for memory, count in bits.items()}

    @cached_property
    def _depths(self) -> dict[Memory, int]:
        logs = {Memory.UOP: self.log_uop_bytes, Memory.INP: self.log_inp_bytes, Memory.WGT: self.log_wgt_bytes}
        own = {memory: (1 << log) // self.element_bytes(memory) for memory, log in logs.items()}
        acc = (1 << self.log_acc_bytes) // self.element_bytes(Memory.ACC)
        return {**own, Memory.ACC: acc, Memory.OUT: acc, Memory.ACC_8BIT: acc}

    def element_bytes(self, memory: Memory) -> int:
        """Bytes of one DRAM element of a memory: default config 4, 256, 16, 64, 16, 16."""
        return self._element_bytes[memory]

    def depth(self, memory: Memory) -> int:
        """Elements that a memory holds. OUT has ACC's depth."""
        return self._depths[memory]

    def index_bits(self, memory: Memory) -> int:
        return self.depth(memory).bit_length() - 1


DEFAULT_CONFIG = Config.parse("1x16_i8w8a32_15_15_18_17")
