"""What the verifier accepts computes one result, whatever the modules' speeds: random damage to a valid program is
refused, or leaves a program on which the simulator and the naive machine, in random orders, agree.
"""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.errors import IncompatibleError, ProgramError
from edge_agent.vta.config import Memory
from edge_agent.vta.isa import AluOpcode, Opcode, layout
from edge_agent.vta.schedule import module_of
from edge_agent.vta.simulator import Simulation
from edge_agent.vta.verify import verify

from .builder import ProgramBuilder, TiledConvolution
from .reference import ReferenceMachine

FLAGS = ["pop_prev", "pop_next", "push_prev", "push_next"]
X = np.random.default_rng(1).integers(-128, 128, (1, 2, 8, 8, 1, 16), np.int8)


def check(builder: ProgramBuilder, orders: int) -> bool:
    """Whether the verifier accepts a program; if so, compare its result with the naive machine's."""
    program = builder.build()
    try:
        simulation = Simulation(verify(program))
    except (ProgramError, IncompatibleError):
        return False
    y = np.empty_like(X)
    simulation.run({"x": X}, {"y": y})
    for seed in range(orders):
        np.testing.assert_array_equal(ReferenceMachine(program, seed).run({"x": X})["y"], y)
    return True


def move_token(builder: ProgramBuilder, flag: str, source: int, target: int) -> None:
    """Move a token flag to another instruction of its module; the indices count those with and without it."""
    having = [i for i, instruction in enumerate(builder.instructions) if getattr(instruction, flag)]
    if having:
        origin = having[source % len(having)]
        module = module_of(builder.instructions[origin])
        others = [
            i
            for i, instruction in enumerate(builder.instructions)
            if module_of(instruction) == module and not getattr(instruction, flag)
        ]
        builder.edit(origin, **{flag: False})
        builder.edit(others[target % len(others)], **{flag: True})


@settings(max_examples=60)
@given(st.lists(st.tuples(st.sampled_from(FLAGS), st.integers(0, 99), st.integers(0, 99)), min_size=1, max_size=2))
def test_moved_tokens(moves: list[tuple[str, int, int]]) -> None:
    builder = TiledConvolution()
    for flag, source, target in moves:
        move_token(builder, flag, source, target)
    check(builder, orders=2)


@settings(max_examples=60)
@given(st.data())
def test_changed_fields(data: st.DataObject) -> None:
    builder = TiledConvolution()
    index = data.draw(st.integers(0, len(builder.instructions) - 1))
    instruction = builder.instructions[index]
    fields = layout(instruction.opcode, builder.config)
    name = data.draw(st.sampled_from([name for name in fields if name != "opcode"]))
    values: st.SearchStrategy[object] = st.integers(fields[name].low, fields[name].high)
    if name in ("memory", "alu_opcode"):
        values = st.sampled_from(Memory if name == "memory" else AluOpcode)
    elif fields[name].width == 1:
        values = st.booleans()
    elif instruction.opcode in (Opcode.GEMM, Opcode.ALU):
        values = st.integers(fields[name].low, min(fields[name].high, 40))
    builder.edit(index, **{name: data.draw(values)})
    check(builder, orders=1)


def test_some_moves_are_harmless() -> None:
    """The properties above are not empty: a push may come later than necessary."""
    builder = TiledConvolution()
    builder.edit(builder.at["gemm"][1], push_prev=False)
    builder.edit(builder.at["maximum"][1], push_prev=True)
    assert check(builder, orders=3)
