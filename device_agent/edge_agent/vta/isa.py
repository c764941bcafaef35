"""The instruction set: typed instructions and their 128-bit encoding, for any legal configuration (vta-facts 2).

An instruction is two little-endian 64-bit words. Its fields fill them from the lowest bit; a field that would straddle
bit 64 starts there instead, and what is left over is padding, which decoding ignores. Widths follow the buffer depths
of the configuration.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from enum import IntEnum
from functools import lru_cache
from operator import attrgetter
from typing import ClassVar, NoReturn

import numpy as np

from edge_agent.errors import ProgramError
from edge_agent.vta.config import Config, Memory

WORD_BITS = 64
LOOP_BITS = 14
"""Width of iter_out and iter_in."""


class Opcode(IntEnum):
    LOAD = 0
    STORE = 1
    GEMM = 2
    FINISH = 3
    ALU = 4


class AluOpcode(IntEnum):
    MIN = 0
    MAX = 1
    ADD = 2
    SHR = 3
    MUL = 4


@dataclass(frozen=True)
class Instruction:
    """What every instruction carries: the tokens it takes before it runs and gives after it has run.

    "prev" and "next" are the neighbours in the order load, compute, store.
    """

    opcode: ClassVar[Opcode]

    _: KW_ONLY
    pop_prev: bool = False
    pop_next: bool = False
    push_prev: bool = False
    push_next: bool = False


@dataclass(frozen=True)
class Load(Instruction):
    """Copy y_size rows of x_size elements, x_stride apart in DRAM, to consecutive SRAM elements, zero-padded.

    All sizes, strides and bases count elements of `memory`; pads count rows (y) and elements of each row (x).
    With x_size 0 it moves nothing and only passes tokens.
    """

    opcode: ClassVar[Opcode] = Opcode.LOAD

    memory: Memory
    sram_base: int
    dram_base: int
    y_size: int
    x_size: int
    x_stride: int
    y_pad_0: int = 0
    y_pad_1: int = 0
    x_pad_0: int = 0
    x_pad_1: int = 0


@dataclass(frozen=True)
class Store(Instruction):
    """Copy consecutive OUT elements to y_size rows of x_size DRAM elements, x_stride apart.

    The fields after x_stride exist in the encoding but hardware ignores them. With x_size 0 it only passes tokens.
    """

    opcode: ClassVar[Opcode] = Opcode.STORE

    sram_base: int
    dram_base: int
    y_size: int
    x_size: int
    x_stride: int
    memory: Memory = Memory.OUT
    y_pad_0: int = 0
    y_pad_1: int = 0
    x_pad_0: int = 0
    x_pad_1: int = 0


@dataclass(frozen=True)
class Gemm(Instruction):
    """For a < iter_out, b < iter_in and each micro-op in [uop_bgn, uop_end): ACC[dst] += INP[src] . WGT[wgt]^T.

    An index is the micro-op's plus a * factor_out plus b * factor_in. `reset` sets ACC[dst] to zero instead.
    """

    opcode: ClassVar[Opcode] = Opcode.GEMM

    reset: bool
    uop_bgn: int
    uop_end: int
    iter_out: int = 1
    iter_in: int = 1
    dst_factor_out: int = 0
    dst_factor_in: int = 0
    src_factor_out: int = 0
    src_factor_in: int = 0
    wgt_factor_out: int = 0
    wgt_factor_in: int = 0


@dataclass(frozen=True)
class Alu(Instruction):
    """The walk of Gemm over ACC[dst] = f(ACC[dst], imm), or f(ACC[dst], ACC[src]) without `use_imm`."""

    opcode: ClassVar[Opcode] = Opcode.ALU

    alu_opcode: AluOpcode
    use_imm: bool
    imm: int
    uop_bgn: int
    uop_end: int
    iter_out: int = 1
    iter_in: int = 1
    dst_factor_out: int = 0
    dst_factor_in: int = 0
    src_factor_out: int = 0
    src_factor_in: int = 0


@dataclass(frozen=True)
class Finish(Instruction):
    """Ends the run."""

    opcode: ClassVar[Opcode] = Opcode.FINISH


@dataclass(frozen=True)
class MicroOp:
    """Indices of one step: GEMM reads INP[src] and WGT[wgt] and updates ACC[dst]; ALU reads ACC[src]."""

    dst: int
    src: int
    wgt: int = 0


@dataclass(frozen=True)
class Field:
    """`width` bits of word `word` from bit `shift`; two's complement if `signed`."""

    name: str
    word: int
    shift: int
    width: int
    signed: bool = False

    @property
    def low(self) -> int:
        return -(1 << (self.width - 1)) if self.signed else 0

    @property
    def high(self) -> int:
        return (1 << (self.width - self.signed)) - 1

    def extract(self, words: np.ndarray) -> np.ndarray:
        """The field of instructions uint64 (n, 2) as int64 (n,)."""
        raw = (words[:, self.word] >> np.uint64(self.shift)) & np.uint64((1 << self.width) - 1)
        values = raw.astype(np.int64)
        return np.where(values > self.high, values - (1 << self.width), values) if self.signed else values


_KINDS: dict[Opcode, type[Instruction]] = {
    Opcode.LOAD: Load,
    Opcode.STORE: Store,
    Opcode.GEMM: Gemm,
    Opcode.FINISH: Finish,
    Opcode.ALU: Alu,
}
_FLAGS = [("opcode", 3), ("pop_prev", 1), ("pop_next", 1), ("push_prev", 1), ("push_next", 1)]
_TRANSFER = [
    ("memory", 3),
    ("sram_base", 16),
    ("dram_base", 32),
    ("y_size", 16),
    ("x_size", 16),
    ("x_stride", 16),
    ("y_pad_0", 4),
    ("y_pad_1", 4),
    ("x_pad_0", 4),
    ("x_pad_1", 4),
]
_ENUMERATIONS: dict[str, type[IntEnum]] = {"memory": Memory, "alu_opcode": AluOpcode}


def _field_widths(opcode: Opcode, config: Config) -> list[tuple[str, int]]:
    acc, inp, wgt, uop = (config.index_bits(m) for m in (Memory.ACC, Memory.INP, Memory.WGT, Memory.UOP))
    loops = [
        ("uop_bgn", uop),
        ("uop_end", uop + 1),
        ("iter_out", LOOP_BITS),
        ("iter_in", LOOP_BITS),
        ("dst_factor_out", acc),
        ("dst_factor_in", acc),
    ]
    if opcode in (Opcode.LOAD, Opcode.STORE):
        return _FLAGS + _TRANSFER
    if opcode is Opcode.GEMM:
        return [
            *_FLAGS,
            ("reset", 1),
            *loops,
            ("src_factor_out", inp),
            ("src_factor_in", inp),
            ("wgt_factor_out", wgt),
            ("wgt_factor_in", wgt),
        ]
    if opcode is Opcode.ALU:
        return [
            *_FLAGS,
            ("", 1),
            *loops,
            ("src_factor_out", acc),
            ("src_factor_in", acc),
            ("alu_opcode", 3),
            ("use_imm", 1),
            ("imm", 16),
        ]
    return _FLAGS


@lru_cache(maxsize=64)
def layout(opcode: Opcode, config: Config) -> dict[str, Field]:
    """The fields of an instruction kind by name, in encoding order."""
    fields, position = {}, 0
    for name, width in _field_widths(opcode, config):
        if position < WORD_BITS < position + width:
            position = WORD_BITS
        if name:
            fields[name] = Field(name, position // WORD_BITS, position % WORD_BITS, width, signed=name == "imm")
        position += width
    return fields


@lru_cache(maxsize=16)
def micro_op_layout(config: Config) -> tuple[Field, Field, Field]:
    """Fields dst, src, wgt of a 32-bit micro-op."""
    acc, inp, wgt = (config.index_bits(m) for m in (Memory.ACC, Memory.INP, Memory.WGT))
    source = max(acc, inp)
    return Field("dst", 0, 0, acc), Field("src", 0, acc, source), Field("wgt", 0, acc + source, wgt)


def opcodes(words: np.ndarray) -> np.ndarray:
    """Opcode of each instruction of a stream uint64 (n, 2), int64 (n,). Raises ProgramError on undefined ones."""
    values = (words[:, 0] & np.uint64(7)).astype(np.int64)
    undefined = np.flatnonzero(values > max(Opcode))
    if len(undefined):
        raise ProgramError(f"instruction {undefined[0]} has opcode {values[undefined[0]]}, which is not defined")
    return values


def _refuse(where: str, field: Field, value: int) -> NoReturn:
    raise ProgramError(f"{where}: field {field.name} is {value}, it holds {field.low} to {field.high}")


def encode_stream(instructions: Sequence[Instruction], config: Config) -> np.ndarray:
    """Encode to uint64 (n, 2). Raises ProgramError naming the instruction and field that do not fit."""
    words = np.zeros((len(instructions), 2), np.uint64)
    kinds = np.array([instruction.opcode for instruction in instructions], np.int64)
    for opcode in Opcode:
        rows = np.flatnonzero(kinds == opcode)
        if not len(rows):
            continue
        fields = list(layout(opcode, config).values())
        values = list(map(attrgetter(*(field.name for field in fields)), (instructions[row] for row in rows.tolist())))
        for field, column in zip(fields, zip(*values, strict=True), strict=True):
            if min(column) < field.low or max(column) > field.high:
                which = next(i for i, value in enumerate(column) if not field.low <= value <= field.high)
                _refuse(f"instruction {rows[which]} ({opcode.name})", field, int(column[which]))
            raw = np.array(column, np.int64).astype(np.uint64) & np.uint64((1 << field.width) - 1)
            words[rows, field.word] |= raw << np.uint64(field.shift)
    return words


def decode_stream(words: np.ndarray, config: Config) -> list[Instruction]:
    """Decode uint64 (n, 2); padding bits are ignored. Raises ProgramError on undefined opcodes and ids."""
    kinds = opcodes(words)
    instructions: list[Instruction] = [Finish()] * len(words)
    for opcode in Opcode:
        rows = np.flatnonzero(kinds == opcode)
        columns = []
        fields = [field for field in layout(opcode, config).values() if field.name != "opcode"]
        for field in fields:
            column = field.extract(words[rows]).tolist()
            if field.name in _ENUMERATIONS:
                column = _enumeration(column, field.name, rows)
            elif field.width == 1:
                column = [bool(value) for value in column]
            columns.append(column)
        names = [field.name for field in fields]
        for row, values in zip(rows.tolist(), zip(*columns, strict=True), strict=True):
            instructions[row] = _KINDS[opcode](**dict(zip(names, values, strict=True)))
    return instructions


def _enumeration(column: list[int], name: str, rows: np.ndarray) -> list[IntEnum]:
    members = {int(member): member for member in _ENUMERATIONS[name]}
    for row, value in zip(rows, column, strict=True):
        if value not in members:
            raise ProgramError(f"instruction {row} has {name} {value}, which is not defined")
    return [members[value] for value in column]


def encode(instruction: Instruction, config: Config) -> tuple[int, int]:
    """The two 64-bit words of one instruction. Raises ProgramError on a field that does not fit."""
    word0, word1 = encode_stream([instruction], config)[0].tolist()
    return word0, word1


def decode(word0: int, word1: int, config: Config) -> Instruction:
    """One instruction from its words. Raises ProgramError on an undefined opcode or id."""
    return decode_stream(np.array([[word0, word1]], np.uint64), config)[0]


def encode_micro_ops(dst: np.ndarray, src: np.ndarray, wgt: np.ndarray, config: Config) -> np.ndarray:
    """Encode index arrays of one shape to uint32. Raises ProgramError on an index that does not fit."""
    words = np.zeros(np.shape(dst), np.uint32)
    for field, values in zip(micro_op_layout(config), (dst, src, wgt), strict=True):
        column = np.asarray(values, np.int64)
        bad = np.flatnonzero((column < field.low) | (column > field.high))
        if len(bad):
            _refuse(f"micro-op {bad[0]}", field, int(column.flat[bad[0]]))
        words |= column.astype(np.uint32) << np.uint32(field.shift)
    return words


def decode_micro_ops(words: np.ndarray, config: Config) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Indices dst, src, wgt (int64, shape of `words`) of uint32 micro-ops."""
    dst, src, wgt = (
        ((words >> np.uint32(field.shift)) & np.uint32((1 << field.width) - 1)).astype(np.int64)
        for field in micro_op_layout(config)
    )
    return dst, src, wgt


def encode_micro_op(micro_op: MicroOp, config: Config) -> int:
    """The 32-bit word of one micro-op. Raises ProgramError on an index that does not fit."""
    dst, src, wgt = (np.array([index]) for index in (micro_op.dst, micro_op.src, micro_op.wgt))
    return int(encode_micro_ops(dst, src, wgt, config)[0])


def decode_micro_op(word: int, config: Config) -> MicroOp:
    dst, src, wgt = decode_micro_ops(np.array([word], np.uint32), config)
    return MicroOp(int(dst[0]), int(src[0]), int(wgt[0]))
