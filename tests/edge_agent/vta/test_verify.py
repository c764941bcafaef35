"""The verifier: valid programs pass, and every way of breaking one is named with its instruction, layer and rule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from edge_agent.errors import IncompatibleError, ProgramError
from edge_agent.vta.config import DEFAULT_CONFIG, Config, Memory
from edge_agent.vta.counters import Counters
from edge_agent.vta.features import PROGRAM_ACROSS_LAYERS
from edge_agent.vta.isa import Alu, AluOpcode, Finish, Gemm, Load, Store
from edge_agent.vta.program import Role
from edge_agent.vta.simulator import Simulation
from edge_agent.vta.verify import verify

from .builder import ProgramBuilder, TiledConvolution

Mutation = Callable[[TiledConvolution], int]
"""Breaks a program and returns the index of the instruction that must be named."""


def edit(what: str, tile: int, **changes: object) -> Mutation:
    def mutate(program: TiledConvolution) -> int:
        program.edit(program.at[what][tile], **changes)
        return program.at[what][tile]

    return mutate


def replaced(what: str, tile: int, make: Callable[[TiledConvolution], tuple[object, str | None]]) -> Mutation:
    """Put another instruction, with the tensor it addresses, in the place of one; its tokens stay."""

    def mutate(program: TiledConvolution) -> int:
        index = program.at[what][tile]
        old = program.instructions[index]
        instruction, tensor = make(program)
        program.instructions[index] = replace(
            instruction, pop_prev=old.pop_prev, pop_next=old.pop_next, push_prev=old.push_prev, push_next=old.push_next
        )
        program.addressed[index] = tensor
        return index

    return mutate


def removed(what: str, tile: int, reader: str) -> Mutation:
    """Remove an instruction that has no tokens; `reader`, of the same tile, then reads what it would have written."""

    def mutate(program: TiledConvolution) -> int:
        program.remove(program.at[what][tile])
        return program.at[reader][tile] - 1

    return mutate


def load_acc(**changes: int) -> Mutation:
    def make(program: TiledConvolution) -> tuple[Load, str]:
        program.constant("bias", Memory.ACC, np.zeros((32, 1, 16), np.int32))
        return replace(Load(Memory.ACC, 0, 0, 1, 32 - changes.get("x_pad_0", 0), 32), **changes), "bias"

    return replaced("minimum", 0, make)


def swap_tokens(*changes: tuple[str, int, str, bool], named: tuple[str, int]) -> Mutation:
    """Move or drop tokens, keeping their number balanced."""

    def mutate(program: TiledConvolution) -> int:
        for what, number, flag, value in changes:
            program.edit(program.at[what][number], **{flag: value})
        return program.at[named[0]][named[1]]

    return mutate


def relocate(what: str, tile: int, tensor: str | None) -> Mutation:
    def mutate(program: TiledConvolution) -> int:
        program.addressed[program.at[what][tile]] = tensor
        return program.at[what][tile]

    return mutate


def register_shift(program: TiledConvolution) -> int:
    program.edit(program.at["shift"][1], use_imm=False)
    return program.at["shift"][1]


def close_micro_ops(distance: int) -> Mutation:
    """Replace the reset of tile 0 by one whose micro-ops return to an accumulator after `distance` executions."""

    def mutate(program: TiledConvolution) -> int:
        dst = np.arange(8) % distance
        program.micro_ops("close", dst, dst, dst)
        index = program.at["reset"][0]
        program.insert(index, Load(Memory.UOP, 5000, 0, 1, 8, 8), "close")
        program.insert(index + 1, Gemm(True, 5000, 5008))
        return index + 1

    return mutate


def wrapping_micro_ops(program: TiledConvolution) -> int:
    """Distances inside the micro-ops are kept; going round the loop breaks them."""
    dst = np.array([0, 1, 2, 1])
    program.micro_ops("wrapping", np.array([0, 1, 2, 3]), dst, dst)
    index = program.at["reset"][0]
    program.insert(index, Load(Memory.UOP, 5000, 0, 1, 4, 4), "wrapping")
    program.insert(index + 1, Gemm(True, 5000, 5004, 2, 1, dst_factor_out=2))
    return index + 1


def reading_what_was_just_updated(program: TiledConvolution) -> int:
    index = program.at["shift"][0]
    program.insert(
        index,
        Alu(
            AluOpcode.ADD,
            False,
            0,
            2 * program.per_half,
            2 * program.per_half + 1,
            1,
            8,
            dst_factor_in=1,
            src_factor_in=1,
        ),
    )
    program.micro_ops("alu micro-ops", np.array([1, 64]), np.array([0, 64]), np.array([0, 0]))
    return index


def store_to_input(program: TiledConvolution) -> int:
    program.addressed[program.at["store"][2]] = "x"
    return program.at["store"][2]


def read_back(program: TiledConvolution) -> int:
    program.addressed[program.at["load"][2]] = "y"
    return program.at["load"][2]


def read_back_too_early(program: TiledConvolution) -> int:
    program.features = frozenset({PROGRAM_ACROSS_LAYERS})
    return read_back(program)


def dynamic_micro_ops(program: TiledConvolution) -> int:
    elements = len(program.constants.pop("micro_ops")) // 4
    program.tensor("micro_ops", Role.INPUT, Memory.UOP, (elements,), "uint32")
    return program.at["load micro-ops"][0]


def no_finish(program: TiledConvolution) -> int:
    program.remove(program.at["finish"][0])
    program.edit(program.at["drain"][0])
    return -1


def finish_twice(program: TiledConvolution) -> int:
    program.insert(program.at["drain"][0], Finish())
    return program.at["drain"][0]


def unfinished_load(program: TiledConvolution) -> int:
    program.insert(program.at["finish"][0], Load(Memory.WGT, 100, 0, 1, 1, 1), "weight")
    return program.at["finish"][0] + 1


def padded_no_op(program: TiledConvolution) -> int:
    program.insert(2, Load(Memory.INP, 0, 0, 0, 0, 0, x_pad_0=1))
    return 2


def weights_in_alu(program: TiledConvolution) -> int:
    words = np.frombuffer(program.constants["alu micro-ops"], np.uint32) | np.uint32(1 << 22)
    program.constants["alu micro-ops"] = words.tobytes()
    return program.at["shift"][0]


MUTATIONS: dict[str, tuple[str, Mutation]] = {
    "load pops from before": ("token flags", edit("load", 0, pop_prev=True)),
    "load pushes to before": ("token flags", edit("load weight", 0, push_prev=True)),
    "store pops from behind": ("token flags", edit("store", 3, pop_next=True)),
    "store pushes behind": ("token flags", edit("store", 3, push_next=True)),
    "missing token": ("deadlock", swap_tokens(("load", 1, "push_next", False), named=("gemm", 3))),
    "token too many": ("token balance", edit("gemm", 2, push_prev=True)),
    "stored, never computed": ("out buffer", edit("store", 0, sram_base=500)),
    "stored after a reset": (
        "out buffer",
        lambda program: (
            replaced("minimum", 0, lambda p: (Gemm(True, 0, 16, 1, 2, dst_factor_in=8), None))(program),
            program.at["store"][0],
        )[1],
    ),
    "stored after a load": ("out buffer", lambda program: (load_acc()(program), program.at["store"][0])[1]),
    "overwritten while stored": (
        "out overwritten",
        swap_tokens(("store", 1, "push_prev", False), ("reset", 2, "pop_next", False), named=("store", 0)),
    ),
    "loaded while used": (
        "race",
        swap_tokens(("gemm", 0, "push_prev", False), ("load", 4, "pop_next", False), named=("gemm", 0)),
    ),
    "used while loaded": (
        "race",
        swap_tokens(("load", 3, "push_next", False), ("load", 2, "push_next", True), named=("gemm", 1)),
    ),
    "stored while computed": (
        "race",
        swap_tokens(("minimum", 1, "push_next", False), ("maximum", 1, "push_next", True), named=("store", 2)),
    ),
    "INP too high": ("sram bounds", edit("load", 0, sram_base=2040)),
    "WGT too high": ("sram bounds", edit("load weight", 0, sram_base=1000)),
    "UOP too high": ("sram bounds", edit("load micro-ops", 0, sram_base=8000)),
    "OUT too high": ("sram bounds", edit("store", 1, sram_base=2040)),
    "GEMM dst too high": ("sram bounds", edit("gemm", 1, dst_factor_in=2000)),
    "GEMM src too high": ("sram bounds", edit("gemm", 1, src_factor_in=2047)),
    "GEMM wgt too high": ("sram bounds", edit("gemm", 1, wgt_factor_in=1000)),
    "GEMM micro-ops too high": ("sram bounds", edit("gemm", 1, uop_end=8193)),
    "ALU dst too high": ("sram bounds", edit("shift", 1, dst_factor_in=64, src_factor_in=64)),
    "ALU src too high": ("sram bounds", edit("shift", 1, src_factor_in=64)),
    "load past its tensor": ("dram bounds", edit("load weight", 0, dram_base=1)),
    "store past its tensor": ("dram bounds", edit("store", 7, dram_base=127, y_size=1, x_size=2)),
    "stride past its tensor": ("dram bounds", edit("load", 1, x_stride=60)),
    "load without tensor": ("relocation", relocate("load", 2, None)),
    "store without tensor": ("relocation", relocate("store", 2, None)),
    "GEMM with a tensor": ("relocation", relocate("gemm", 0, "weight")),
    "store to an input": ("tensor role", store_to_input),
    "store to a constant": ("memory type", relocate("store", 0, "weight")),
    "load INP from weights": ("memory type", relocate("load", 0, "weight")),
    "store ACC": ("memory type", edit("store", 0, memory=Memory.ACC)),
    "load OUT": ("memory type", replaced("minimum", 0, lambda p: (Load(Memory.OUT, 0, 0, 1, 1, 1), "x"))),
    "ACC never written": ("uninitialised read", removed("reset", 0, "gemm")),
    "WGT never written": ("uninitialised read", removed("load weight", 0, "gemm")),
    "INP never written": ("uninitialised read", removed("load", 0, "gemm")),
    "UOP never written": ("uninitialised read", removed("load micro-ops", 0, "reset")),
    "reads its output back": ("feature", read_back),
    "reads its output before it is there": ("uninitialised read", read_back_too_early),
    "shift by 16": ("shift range", edit("shift", 0, imm=16)),
    "shift by -16": ("shift range", edit("shift", 3, imm=-16)),
    "shift by a register": ("shift range", register_shift),
    "immediate reads elsewhere": ("immediate source", edit("maximum", 2, src_factor_in=2)),
    "ALU with a weight index": ("alu micro-op", weights_in_alu),
    "multiplies": ("feature", edit("maximum", 0, alu_opcode=AluOpcode.MUL)),
    "loads int8 to ACC": ("feature", replaced("minimum", 0, lambda p: (Load(Memory.ACC_8BIT, 0, 0, 1, 1, 1), "x"))),
    "pads ACC": ("feature", load_acc(x_pad_0=1)),
    "pads WGT": ("padding", edit("load weight", 0, x_pad_0=1)),
    "pads UOP": ("padding", edit("load micro-ops", 0, y_pad_1=1)),
    "pads a store": ("padding", edit("store", 0, x_pad_1=1)),
    "pads nothing": ("padding", padded_no_op),
    "no row": ("transfer size", edit("load", 0, y_size=0)),
    "rows of micro-ops": ("transfer size", edit("load micro-ops", 0, y_size=2, x_size=10)),
    "no outer iteration": ("loop", edit("gemm", 0, iter_out=0)),
    "no inner iteration": ("loop", edit("shift", 0, iter_in=0)),
    "no micro-op": ("loop", edit("maximum", 0, uop_end=0)),
    "too many executions": ("loop", edit("gemm", 0, iter_out=16383)),
    "distance 1": ("read after write distance", close_micro_ops(1)),
    "distance 2": ("read after write distance", close_micro_ops(2)),
    "distance 2 round the loop": ("read after write distance", wrapping_micro_ops),
    "ALU distance 1": ("read after write distance", edit("shift", 0, dst_factor_in=0, src_factor_in=0)),
    "ALU source distance 1": ("read after write distance", reading_what_was_just_updated),
    "no FINISH": ("finish", no_finish),
    "two FINISH": ("finish", finish_twice),
    "FINISH before the last store": (
        "finish",
        swap_tokens(("store", 7, "push_prev", False), ("finish", 0, "pop_next", False), named=("finish", 0)),
    ),
    "FINISH before the last load": ("finish", unfinished_load),
    "micro-ops from an input": ("static micro-ops", dynamic_micro_ops),
    "output never stored": (
        "output",
        lambda program: (edit("store", 5, x_size=7)(program), program.at["finish"][0])[1],
    ),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_broken_program_is_refused_by_name(name: str) -> None:
    rule, mutate = MUTATIONS[name]
    program = TiledConvolution()
    index = mutate(program)
    with pytest.raises(ProgramError) as caught:
        verify(program.build())
    message = str(caught.value)
    assert f": {rule}: " in message
    if index >= 0:
        assert f"instruction {index} of layer 'conv' (" in message


def test_the_valid_program_passes_and_distance_3_is_enough() -> None:
    verify(TiledConvolution().build())
    program = TiledConvolution()
    close_micro_ops(3)(program)
    verify(program.build())


def test_a_message_has_the_disassembly_and_the_tensor() -> None:
    program = TiledConvolution()
    program.edit(program.at["load weight"][0], dram_base=5)
    with pytest.raises(ProgramError) as caught:
        verify(program.build())
    assert str(caught.value) == (
        "program 'test', instruction 0 of layer 'conv' (LOAD WGT[0] <- weight+5 1x36): dram bounds: it reaches element "
        "40 of tensor 'weight', which has 36"
    )


def across_layers(chained: bool = True) -> ProgramBuilder:
    """x -> scratch -> y, 8 elements, each stage a GEMM; the second stage reads what the first has stored.

    `chained`: the store's token reaches the load through compute.
    """
    builder = ProgramBuilder(features=frozenset({PROGRAM_ACROSS_LAYERS}))
    for name, role in (("x", Role.INPUT), ("t", Role.SCRATCH), ("y", Role.OUTPUT)):
        builder.tensor(name, role, Memory.INP, (8, 1, 16))
    builder.constant("weight", Memory.WGT, np.eye(16, dtype=np.int8)[None])
    builder.micro_ops("uop", np.arange(8), np.arange(8), np.zeros(8, int))
    builder.add(Load(Memory.WGT, 0, 0, 1, 1, 1), "weight")
    builder.add(Load(Memory.INP, 0, 0, 1, 8, 8, push_next=True), "x")
    builder.add(Load(Memory.UOP, 0, 0, 1, 8, 8, pop_prev=True), "uop")
    builder.add(Gemm(True, 0, 8))
    builder.add(Gemm(False, 0, 8, push_next=True))
    builder.add(Store(0, 0, 1, 8, 8, pop_prev=True, push_prev=True), "t")
    if chained:
        builder.add(Load(Memory.UOP, 0, 0, 0, 0, 0, pop_next=True, push_prev=True))
    builder.add(Load(Memory.INP, 8, 0, 1, 8, 8, pop_next=chained, push_next=True), "t")
    builder.add(Gemm(True, 0, 8, pop_prev=True, pop_next=not chained))
    builder.add(Gemm(False, 0, 8, 2, 1, src_factor_out=8, push_next=True))
    builder.add(Store(0, 0, 1, 8, 8, pop_prev=True, push_prev=True), "y")
    builder.add(Finish(pop_next=True))
    return builder


def test_crossing_layers_inside_a_run() -> None:
    """y = x + t with t = x, where tokens order the store of t before its load."""
    program = across_layers().build()
    x = np.arange(128, dtype=np.int8).reshape(8, 1, 16) // 2
    y = np.empty_like(x)
    Simulation(verify(program, {PROGRAM_ACROSS_LAYERS})).run({"x": x}, {"y": y})
    np.testing.assert_array_equal(y, 2 * x)


def test_crossing_layers_without_the_token_chain_is_refused() -> None:
    with pytest.raises(ProgramError, match=r"instruction 6 .*: (race|uninitialised read): "):
        verify(across_layers(chained=False).build())


def test_overwriting_scratch_that_is_still_being_read_is_refused() -> None:
    """A third stage stores into the scratch tensor that the second stage's load may still be reading."""
    builder = across_layers()
    builder.instructions[-1] = Load(Memory.INP, 16, 0, 1, 8, 8)
    builder.addressed[-1] = "t"
    builder.add(Gemm(False, 0, 8, pop_next=True, push_next=True))
    store = builder.add(Store(0, 0, 1, 8, 8, pop_prev=True, push_prev=True), "t")
    builder.add(Finish(pop_next=True))
    with pytest.raises(ProgramError, match=rf"instruction {store} .*: race: it overwrites elements of tensor 't'"):
        verify(builder.build())


@pytest.mark.parametrize(("tokens", "fits"), [(255, True), (256, False)])
def test_tokens_that_not_every_implementation_can_count(tokens: int, fits: bool) -> None:
    builder = ProgramBuilder(DEFAULT_CONFIG)
    for _ in range(tokens):
        builder.add(Load(Memory.INP, 0, 0, 0, 0, 0, push_next=True))
    for _ in range(tokens):
        builder.add(Load(Memory.UOP, 0, 0, 0, 0, 0, pop_prev=True))
    builder.add(Finish())
    if fits:
        verify(builder.build())
        return
    with pytest.raises(
        ProgramError, match=r"instruction 255 .*: token capacity: up to 256 tokens from LOAD to COMPUTE wait"
    ):
        verify(builder.build())


def test_tokens_given_back_in_time_do_not_count() -> None:
    """Of two modules in step, thousands of tokens in all, but few at a time."""
    builder = ProgramBuilder(DEFAULT_CONFIG)
    builder.add(Load(Memory.INP, 0, 0, 0, 0, 0, push_next=True))
    for _ in range(400):
        builder.add(Load(Memory.UOP, 0, 0, 0, 0, 0, pop_prev=True, push_prev=True))
        builder.add(Load(Memory.INP, 0, 0, 0, 0, 0, pop_next=True, push_next=True))
    builder.add(Finish(pop_prev=True))
    verify(builder.build())


def test_a_program_that_needs_more_than_the_board_has() -> None:
    with pytest.raises(IncompatibleError, match="program_across_layers, which this board does not have"):
        verify(across_layers().build(), set())


def test_claimed_counters_must_be_true() -> None:
    program = replace(TiledConvolution().build(), counters=Counters(gemm_counter=1))
    with pytest.raises(ProgramError, match="claims Counters"):
        verify(program)


def test_a_configuration_whose_micro_ops_are_ambiguous_is_refused() -> None:
    builder = ProgramBuilder(Config.parse("1x16_i8w8a32_13_13_16_16"))
    builder.add(Finish())
    with pytest.raises(IncompatibleError, match="disagree on the layout of micro-ops"):
        verify(builder.build())


def test_an_empty_stream_is_refused() -> None:
    with pytest.raises(ProgramError, match="finish: it has no FINISH"):
        verify(ProgramBuilder(DEFAULT_CONFIG).build())
