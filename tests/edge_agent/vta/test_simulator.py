"""The simulator against a direct convolution and against the naive reference machine."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.errors import IncompatibleError, InputError
from edge_agent.vta.config import DEFAULT_CONFIG, Config, Memory
from edge_agent.vta.features import ACC_LOAD_PADDING, ALU_MUL, LOAD_ACC_8BIT
from edge_agent.vta.isa import Alu, AluOpcode, Finish, Gemm, Load, Store
from edge_agent.vta.program import Program, Role
from edge_agent.vta.simulator import Simulation
from edge_agent.vta.verify import verify

from .builder import ProgramBuilder, TiledConvolution
from .reference import ReferenceMachine


def simulate(program: Program, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    outputs = {tensor.name: np.empty(tensor.shape, tensor.dtype) for tensor in program.tensors_of(Role.OUTPUT)}
    Simulation(verify(program)).run(inputs, outputs)
    return outputs


def inputs_of(program: Program, rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {
        tensor.name: rng.integers(-128, 128, tensor.shape, tensor.dtype) for tensor in program.tensors_of(Role.INPUT)
    }


def assert_same(program: Program, seed: int = 0) -> dict[str, np.ndarray]:
    inputs = inputs_of(program, np.random.default_rng(seed))
    simulated, expected = simulate(program, inputs), ReferenceMachine(program, seed).run(inputs)
    for name, values in expected.items():
        np.testing.assert_array_equal(simulated[name], values)
    return simulated


@pytest.mark.parametrize("seed", range(3))
def test_a_tiled_convolution_is_the_convolution(seed: int) -> None:
    builder = TiledConvolution(seed=seed)
    program = builder.build()
    inputs = inputs_of(program, np.random.default_rng(seed))
    expected = builder.expected(inputs["x"])
    np.testing.assert_array_equal(simulate(program, inputs)["y"], expected)
    np.testing.assert_array_equal(ReferenceMachine(program, seed).run(inputs)["y"], expected)


def test_a_program_runs_again_with_other_inputs() -> None:
    builder = TiledConvolution()
    program = builder.build()
    simulation = Simulation(verify(program))
    y = np.empty((1, 2, 8, 8, 1, 16), np.int8)
    for seed in range(3):
        inputs = inputs_of(program, np.random.default_rng(seed))
        simulation.run(inputs, {"y": y})
        np.testing.assert_array_equal(y, builder.expected(inputs["x"]))


def random_program(seed: int, config: Config) -> Program:
    """A valid program of rounds of loads, arbitrary GEMM and ALU instructions, and stores."""
    rng = np.random.default_rng(seed)
    builder = ProgramBuilder(config, frozenset({ALU_MUL, LOAD_ACC_8BIT, ACC_LOAD_PADDING}))
    lanes, elements = (config.batch, config.block), 24
    rounds = int(rng.integers(1, 4))
    builder.tensor("x", Role.INPUT, Memory.INP, (rounds * elements, *lanes))
    builder.tensor("y", Role.OUTPUT, Memory.INP, (rounds * elements, *lanes))
    builder.constant("weight", Memory.WGT, rng.integers(-128, 128, (16, config.block, config.block), np.int8))
    if rng.random() < 0.3:
        builder.tensor("weight", Role.INPUT, Memory.WGT, (16, config.block, config.block))
        del builder.constants["weight"]
    builder.constant("bias", Memory.ACC, rng.integers(-(2**31), 2**31, (elements, *lanes), np.int32))
    for number in range(rounds):
        builder.add(Load(Memory.WGT, 0, int(rng.integers(4)), 3, 4, 4, pop_next=number > 0), "weight")
        pads = rng.integers(0, 3, 4).tolist()
        builder.add(Load(Memory.INP, 3, number * elements, 2, 12, 12, *pads, push_next=True), "x")
        builder.add(
            Load(
                Memory.ACC,
                0,
                0,
                2,
                elements // 2 - 1,
                elements // 2 + 1,
                0,
                0,
                1,
                0,
                pop_prev=True,
                pop_next=number > 0,
            ),
            "bias",
        )
        builder.add(Load(Memory.ACC_8BIT, elements, number * elements, 2, 6, 12), "x")
        for step in range(int(rng.integers(2, 6))):
            _random_operation(builder, rng, f"uop {number} {step}")
        # Every stored element ends with an operation, and compute hands over to both sides.
        builder.micro_ops(f"uop {number} last", np.zeros(1, int), np.zeros(1, int), np.zeros(1, int))
        builder.add(Load(Memory.UOP, 99, 0, 1, 1, 1), f"uop {number} last")
        builder.add(
            Alu(
                AluOpcode.SHR,
                True,
                int(rng.integers(-15, 16)),
                99,
                100,
                1,
                elements,
                0,
                1,
                0,
                1,
                push_prev=number + 1 < rounds,
                push_next=True,
            )
        )
        builder.add(Store(0, number * elements, 3, 8, 8, pop_prev=True, push_prev=True), "y")
    builder.add(Finish(pop_next=True))
    return builder.build()


def _random_operation(builder: ProgramBuilder, rng: np.random.Generator, name: str) -> None:
    """LOAD UOP and a GEMM or ALU instruction whose walk keeps the distance rule."""
    while True:
        count, outer, inner = (int(n) for n in rng.integers(1, [10, 4, 4]))
        pool = rng.permutation(24)[: int(rng.integers(3, 12))]
        dst = pool[np.arange(count) % len(pool)] if rng.random() < 0.6 else rng.integers(0, 24, count)
        src, wgt = rng.integers(3, 15, count), rng.integers(0, 6, count)
        factors = [int(n) for n in rng.integers(0, [3, 3, 3, 3, 2, 2])]
        gemm = bool(rng.random() < 0.6)
        immediate = not gemm and bool(rng.random() < 0.5)
        if immediate:
            src, factors[2:4] = dst, factors[:2]
        a, b, k = np.indices((outer, inner, count)).reshape(3, -1)
        walk = dst[k] + a * factors[0] + b * factors[1]
        reads = walk if gemm else src[k] + a * factors[2] + b * factors[3]
        close = any((used[distance:] == walk[:-distance]).any() for used in (walk, reads) for distance in (1, 2))
        if not (close and not gemm) and not any((walk[d:] == walk[:-d]).any() for d in (1, 2)):
            break
    builder.micro_ops(name, dst, src, wgt if gemm else np.zeros_like(wgt))
    builder.add(Load(Memory.UOP, 5, 0, 1, count, count), name)
    walk_fields = dict(
        zip(("dst_factor_out", "dst_factor_in", "src_factor_out", "src_factor_in"), factors, strict=False)
    )
    loops = {"uop_bgn": 5, "uop_end": 5 + count, "iter_out": outer, "iter_in": inner}
    if gemm:
        builder.add(
            Gemm(bool(rng.random() < 0.2), **loops, **walk_fields, wgt_factor_out=factors[4], wgt_factor_in=factors[5])
        )
    else:
        opcode = AluOpcode(int(rng.choice([0, 1, 2, 4])))
        builder.add(Alu(opcode, immediate, int(rng.integers(-32768, 32768)), **loops, **walk_fields))


@pytest.mark.parametrize("config", [DEFAULT_CONFIG, Config.parse("4x8_i8w8a32_15_16_16_18")], ids=lambda c: c.name)
@settings(max_examples=40)
@given(seed=st.integers(0, 2**32 - 1))
def test_random_programs_compute_what_the_reference_computes(config: Config, seed: int) -> None:
    assert_same(random_program(seed, config), seed)


def extreme_reduction(reduction: int, value: int) -> Program:
    """Four accumulators, each summing `reduction` times 16 products of -128 and `value`."""
    builder = ProgramBuilder()
    builder.tensor("x", Role.INPUT, Memory.INP, (1, 1, 16))
    builder.tensor("y", Role.OUTPUT, Memory.INP, (4, 1, 16))
    builder.constant("weight", Memory.WGT, np.full((1, 16, 16), value, np.int8))
    dst = np.tile(np.arange(4), reduction)
    builder.micro_ops("uop", dst, np.zeros_like(dst), np.zeros_like(dst))
    builder.add(Load(Memory.WGT, 0, 0, 1, 1, 1), "weight")
    builder.add(Load(Memory.INP, 0, 0, 1, 1, 1, push_next=True), "x")
    builder.add(Load(Memory.UOP, 0, 0, 1, len(dst), len(dst), pop_prev=True), "uop")
    builder.add(Gemm(True, 0, 4))
    builder.add(Gemm(False, 0, len(dst), push_next=True))
    builder.add(Store(0, 0, 1, 4, 4, pop_prev=True, push_prev=True), "y")
    builder.add(Finish(pop_next=True))
    return builder.build()


@pytest.mark.parametrize(
    ("reduction", "value", "x"), [(64, -128, -128), (65, 127, -127), (1000, -127, -127), (2000, 127, -128)]
)
def test_sums_stay_exact_beyond_float32(reduction: int, value: int, x: int) -> None:
    """The low byte of sums of up to 2^25, which float32 would round."""
    inputs = {"x": np.full((1, 1, 16), x, np.int8)}
    total = np.int64(reduction) * 16 * value * x
    simulated = simulate(extreme_reduction(reduction, value), inputs)["y"]
    np.testing.assert_array_equal(simulated, np.full((4, 1, 16), total).astype(np.int8))


def test_wrong_arrays_are_refused_with_both_shapes() -> None:
    simulation = Simulation(verify(TiledConvolution().build()))
    y = np.empty((1, 2, 8, 8, 1, 16), np.int8)
    with pytest.raises(InputError, match=r"\(1, 2, 8, 8, 1, 16\).*\(1, 2, 8, 4, 1, 16\)"):
        simulation.run({"x": y[:, :, :, :4]}, {"y": y})
    with pytest.raises(InputError, match=r"int8.*uint8"):
        simulation.run({"x": y.astype(np.uint8)}, {"y": y})
    with pytest.raises(InputError, match=r"'x'.*'z'"):
        simulation.run({"z": y}, {"y": y})


def test_other_scalar_widths_are_refused() -> None:
    config = Config.parse("1x16_i4w4a32_13_14_17_17")
    builder = ProgramBuilder(config)
    builder.add(Finish())
    with pytest.raises(IncompatibleError, match="int8 with int32"):
        Simulation(verify(builder.build()))
