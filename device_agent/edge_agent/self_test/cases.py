"""What the self-test runs: for each ability of the accelerator a program, its inputs, and what must come out.

The results are computed from what an ability means, in 64-bit integers, without any of the accelerator's own code.
Programs keep to what every VTA does alike (immediate shifts from -15 to 15, no pads but on INP), so that a right board
cannot fail.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_agent.self_test.assembler import BYTES, Assembler
from edge_agent.vta.config import Config, Memory
from edge_agent.vta.features import ALU_MUL, PROGRAM_ACROSS_LAYERS
from edge_agent.vta.isa import Alu, AluOpcode, Gemm, Load, Store
from edge_agent.vta.program import Program, Role

SEED = 7
_EXTREMES = (-(2**31), 2**31 - 1, 0, -1, 1, 2**15, -(2**15) - 1)
_IMMEDIATES = (-(2**15), -129, -1, 0, 3, 2**15 - 1)
_SHIFTS = tuple(range(-15, 16))


@dataclass(frozen=True, eq=False)
class Case:
    """One ability: a program, its inputs by name, and its outputs as they must be."""

    name: str
    program: Program
    inputs: Mapping[str, np.ndarray]
    expected: Mapping[str, np.ndarray]


def cases(config: Config, features: frozenset[str]) -> list[Case]:
    """The cases for an accelerator of this configuration with these features, the simplest first."""
    operations = [operation for operation in AluOpcode if operation is not AluOpcode.MUL or ALU_MUL in features]
    made = [padded_load(config), *(alu(config, operation) for operation in operations), gemm(config), queues(config)]
    if PROGRAM_ACROSS_LAYERS in features:
        made.append(load_after_store(config))
    return made


def _int8(stream: np.random.RandomState, shape: Sequence[int]) -> np.ndarray:
    return stream.randint(-128, 128, tuple(shape)).astype(np.int8)


def _accumulators(stream: np.random.RandomState, shape: Sequence[int]) -> np.ndarray:
    """int32 of all magnitudes, the extremes among them."""
    values = stream.randint(-(2**31), 2**31, tuple(shape)) >> stream.randint(0, 31, tuple(shape))
    values.reshape(-1)[: len(_EXTREMES)] = _EXTREMES
    return values.astype(np.int32)


def _wrapped(values: np.ndarray) -> np.ndarray:
    """int64 as a 32-bit accumulator holds them."""
    return (values + 2**31) % 2**32 - 2**31


def _bytes(values: np.ndarray) -> np.ndarray:
    """Accumulators (n, batch, block) as int8 (4, n, batch, block), the lowest byte first."""
    return np.stack([(values >> 8 * byte & 0xFF).astype(np.uint8).view(np.int8) for byte in range(BYTES)])


def _identity(config: Config) -> np.ndarray:
    return np.eye(config.block, dtype=np.int8)[None]


def padded_load(config: Config) -> Case:
    """A window of an image with zeros around it, through the GEMM core unchanged, to two places side by side."""
    element = (config.batch, config.block)
    x = _int8(np.random.RandomState(SEED), (6, 7, *element))
    program = Assembler(config)
    program.tensor("x", Role.INPUT, x.shape)
    program.constant("identity", Memory.WGT, _identity(config))
    program.tensor("y", Role.OUTPUT, (6, 8, *element))
    begin, elements = 5, 48
    program.add(Load(Memory.WGT, 3, 0, 1, 1, 1), "identity")
    program.add(Load(Memory.INP, begin, 7 + 2, 3, 4, 7, 1, 2, 3, 1, push_next=True), "x")
    micro_op = program.load_micro_ops(np.array([0]), np.array([begin]), np.array([3]))
    walk: dict[str, Any] = {"iter_in": elements, "dst_factor_in": 1}
    program.add(Gemm(True, micro_op, micro_op + 1, **walk))
    program.add(Gemm(False, micro_op, micro_op + 1, **walk, src_factor_in=1, pop_prev=True, push_next=True))
    program.add(Store(0, 0, 6, 4, 8, pop_prev=True), "y")
    program.add(Store(24, 4, 6, 4, 8, push_prev=True), "y")
    program.finish()
    window = np.zeros((6, 8, *element), np.int8)
    window[1:4, 3:7] = x[1:4, 2:6]
    halves = window.reshape(2, 6, 4, *element)
    return Case("loads and stores", program.build("padded load"), {"x": x}, {"y": np.concatenate(halves, axis=1)})


_FUNCTIONS: dict[AluOpcode, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    AluOpcode.MIN: np.minimum,
    AluOpcode.MAX: np.maximum,
    AluOpcode.ADD: np.add,
    AluOpcode.MUL: np.multiply,
    AluOpcode.SHR: lambda x, y: np.where(y < 0, x * 2 ** np.maximum(-y, 0), x // 2 ** np.maximum(y, 0)),
}


def alu(config: Config, operation: AluOpcode) -> Case:
    """One operation with several immediates, and (but for shifts) on two registers; all 32 bits of the results."""
    immediates = _SHIFTS if operation is AluOpcode.SHR else _IMMEDIATES
    registers = operation is not AluOpcode.SHR
    rows = 4
    count = len(immediates) + registers
    element = (config.batch, config.block)
    # The second operands of the register form lie behind all results.
    data = _accumulators(np.random.RandomState(SEED + operation), ((count + registers) * rows, *element))
    program = Assembler(config, frozenset({ALU_MUL} if operation is AluOpcode.MUL else ()))
    program.tensor("unused", Role.INPUT, (1, *element))
    program.constant("data", Memory.ACC, data)
    program.add(Load(Memory.ACC, 0, 0, 1, len(data), len(data)), "data")
    begins, order = np.arange(count) * rows, np.zeros(count, np.int64)
    sources = begins.copy()
    if registers:
        sources[-1] = count * rows
    micro_op = program.load_micro_ops(begins, sources, order)
    walk: dict[str, Any] = {"iter_in": rows, "dst_factor_in": 1, "src_factor_in": 1}
    for index, immediate in enumerate(immediates):
        program.add(Alu(operation, True, immediate, micro_op + index, micro_op + index + 1, **walk))
    if registers:
        program.add(Alu(operation, False, 0, micro_op + count - 1, micro_op + count, **walk))
    program.store_accumulators("y", count * rows)
    program.finish()
    x = data.astype(np.int64).reshape(-1, rows, *element)
    y = np.array(immediates, np.int64).reshape(-1, 1, 1, 1) * np.ones_like(x[: len(immediates)])
    if registers:
        y = np.concatenate([y, x[count:]])
    result = _wrapped(_FUNCTIONS[operation](x[:count], y)).reshape(-1, *element)
    unused = np.zeros((1, *element), np.int8)
    return Case(f"ALU {operation.name}", program.build(operation.name), {"unused": unused}, {"y": _bytes(result)})


def gemm(config: Config) -> Case:
    """Sums of products over both loops and a list of micro-ops, half of them on top of what was in ACC."""
    outer, inner, depth, width = 2, 3, 3, 4
    stream = np.random.RandomState(SEED)
    element = (config.batch, config.block)
    x = _int8(stream, (outer, inner, depth, *element))
    weights = _int8(stream, (outer, inner, depth, width, config.block, config.block))
    before = _accumulators(stream, (inner * width, *element))
    elements = outer * inner * width
    program = Assembler(config)
    program.tensor("x", Role.INPUT, x.shape)
    program.constant("weights", Memory.WGT, weights)
    program.constant("before", Memory.ACC, before)
    program.add(Load(Memory.INP, 0, 0, outer * inner, depth, depth), "x")
    program.add(Load(Memory.WGT, 0, 0, 1, weights[..., 0, 0].size, weights[..., 0, 0].size, push_next=True), "weights")
    program.add(Load(Memory.ACC, inner * width, 0, inner, width, width), "before")
    # Updates of the same element are `width` apart, as the pipeline needs.
    source, column = np.indices((depth, width)).reshape(2, -1)
    begin = program.load_micro_ops(column, source, source * width + column)
    end = begin + len(column)
    program.add(Gemm(True, begin, begin + width, iter_in=inner, dst_factor_in=width))
    program.add(
        Gemm(
            False,
            begin,
            end,
            outer,
            inner,
            inner * width,
            width,
            inner * depth,
            depth,
            inner * depth * width,
            depth * width,
            pop_prev=True,
        )
    )
    program.store_accumulators("y", elements)
    program.finish()
    products = np.einsum("abirk,abiolk->aborl", x.astype(np.int64), weights.astype(np.int64))
    products[1] += before.astype(np.int64).reshape(products[1].shape)
    result = _wrapped(products).reshape(elements, *element)
    return Case("GEMM", program.build("gemm"), {"x": x}, {"y": _bytes(result)})


def queues(config: Config) -> Case:
    """Tiles alternate between two halves of the memories, which only tokens of all four queues keep apart."""
    tiles, rows, shift = 6, 8, 4
    stream = np.random.RandomState(SEED)
    element = (config.batch, config.block)
    x, weights = _int8(stream, (tiles, rows, *element)), _int8(stream, (1, config.block, config.block))
    program = Assembler(config)
    program.tensor("x", Role.INPUT, x.shape)
    program.tensor("y", Role.OUTPUT, x.shape)
    program.constant("weights", Memory.WGT, weights)
    program.add(Load(Memory.WGT, 0, 0, 1, 1, 1), "weights")
    halves = np.array([0, rows])
    micro_op = program.load_micro_ops(halves, halves, np.zeros(2, np.int64))

    def load(tile: int) -> None:
        half = tile % 2 * rows
        program.add(Load(Memory.INP, half, tile * rows, 1, rows, rows, pop_next=tile >= 2, push_next=True), "x")

    def compute(tile: int) -> None:
        begin = micro_op + tile % 2
        walk: dict[str, Any] = {"iter_in": rows, "dst_factor_in": 1, "src_factor_in": 1}
        program.add(Gemm(True, begin, begin + 1, **walk, pop_next=tile >= 2))
        program.add(Gemm(False, begin, begin + 1, **walk, pop_prev=True, push_prev=tile + 2 < tiles))
        program.add(Alu(AluOpcode.SHR, True, shift, begin, begin + 1, **walk, push_next=True))
        program.add(Store(tile % 2 * rows, tile * rows, 1, rows, rows, pop_prev=True, push_prev=True), "y")

    load(0)
    for tile in range(tiles):
        if tile + 1 < tiles:
            load(tile + 1)
        compute(tile)
    program.finish(stores=2)
    sums = np.einsum("trbk,ok->trbo", x.astype(np.int64), weights[0].astype(np.int64)) // 2**shift
    return Case(
        "dependency queues", program.build("queues"), {"x": x}, {"y": (sums & 0xFF).astype(np.uint8).view(np.int8)}
    )


def load_after_store(config: Config) -> Case:
    """What is stored is loaded again in the same run, as programs that span layers do."""
    rows = 16
    stream = np.random.RandomState(SEED)
    element = (config.batch, config.block)
    x, weights = _int8(stream, (rows, *element)), _int8(stream, (2, config.block, config.block))
    program = Assembler(config, frozenset({PROGRAM_ACROSS_LAYERS}))
    program.tensor("x", Role.INPUT, x.shape)
    program.tensor("between", Role.SCRATCH, x.shape)
    program.tensor("y", Role.OUTPUT, x.shape)
    program.constant("weights", Memory.WGT, weights)
    program.add(Load(Memory.WGT, 0, 0, 1, 2, 2), "weights")
    zero = np.zeros(2, np.int64)
    micro_op = program.load_micro_ops(zero, zero, np.array([0, 1]))
    for layer, (source, target) in enumerate((("x", "between"), ("between", "y"))):
        program.add(Load(Memory.INP, 0, 0, 1, rows, rows, pop_next=layer > 0, push_next=True), source)
        begin = micro_op + layer
        walk: dict[str, Any] = {"iter_in": rows, "dst_factor_in": 1, "src_factor_in": 1}
        program.add(Gemm(True, begin, begin + 1, **walk, pop_prev=True))
        program.add(Gemm(False, begin, begin + 1, **walk))
        program.add(Alu(AluOpcode.SHR, True, 7, micro_op, micro_op + 1, **walk, push_next=True))
        program.add(Store(0, 0, 1, rows, rows, pop_prev=True, push_prev=True), target)
        if not layer:
            # The load waits for compute, compute for the store.
            program.add(Load(Memory.UOP, 0, 0, 0, 0, 0, pop_next=True, push_prev=True))
    program.finish()
    value = x
    for weight in weights.astype(np.int64):
        sums = np.einsum("rbk,ok->rbo", value.astype(np.int64), weight) // 2**7
        value = (sums & 0xFF).astype(np.uint8).view(np.int8)
    return Case("loads after stores", program.build("load after store"), {"x": x}, {"y": value})
