"""Compiled programs, damaged in every way and at every place: refused by name, or harmless on every implementation."""

from __future__ import annotations

import os
from collections import defaultdict
from functools import cache

import numpy as np
import pytest

from edge_agent.errors import IncompatibleError, ProgramError
from edge_agent.vta.config import Config
from edge_agent.vta.program import Program, Role
from edge_agent.vta.simulator import Simulation
from edge_agent.vta.verify import verify
from edgectl.codegen.partition import AcceleratorStep, partition
from edgectl.codegen.vta.compiler import compile_program
from edgectl.interpreter import interpret
from edgectl.operators.integer import IntegerConvolution, IntegerPoolSum
from edgectl.operators.pooling import MaxPool
from edgectl.operators.quantization import Requantize
from edgectl.operators.shape import Concatenate, Flatten
from tests.edge_agent.vta.dialects import MACHINES, DialectMachine, MisbehaviourError
from tests.edgectl.codegen.offload.integer_models import TIGHT, ModelBuilder
from tests.edgectl.codegen.vta.mutants import Mutant, Mutator

Arrays = dict[str, np.ndarray]
SAMPLES = int(os.environ.get("EDGECTL_TEST_EXAMPLES", "1"))
"""Times as many mutants of each kind."""


def layers() -> ModelBuilder:
    """A network of every kind of layer: padding, residual, pool, concatenation, sum, dense, int32 results."""
    net = ModelBuilder(0, Config.parse("1x16_i8w8a32_15_15_18_17"))
    same = IntegerConvolution(padding=(1, 1, 1, 1), shift=9, low=0, residual_shift=8)
    x = net.input(16, 4, 3)
    y = net.convolution(same, net.convolution(same, x, 16, (3, 3)), 16, (3, 3), residual=x)
    y = net.add(MaxPool((2, 2), (1, 1)), y)
    parts = [net.convolution(IntegerConvolution(shift=8), y, channels, (1, 1)) for channels in (16, 20)]
    whole = net.add(Concatenate(), *parts)
    net.dense(net.add(Flatten(), net.add(Requantize(1), net.add(IntegerPoolSum(), whole))), 5)
    return net


def tiles() -> ModelBuilder:
    """One convolution in tiles, whose buffers and accumulators are used in turn."""
    net = ModelBuilder(1, TIGHT)
    net.convolution(IntegerConvolution(padding=(1, 1, 1, 1), shift=10), net.input(48, 13, 8), 32, (3, 3))
    return net


NETWORKS = {"layers": layers, "tiles": tiles}


@cache
def compiled(name: str) -> tuple[Program, Arrays]:
    """A network's program and what it is given."""
    net = NETWORKS[name]()
    parts = partition(net.model(net.last), net.config)
    (step,) = (step for step in parts.steps if isinstance(step, AcceleratorStep))
    packing = parts.steps[0]
    assert not isinstance(packing, AcceleratorStep)
    return compile_program(step.name, step.layers, step.outputs, net.config), interpret(packing.segment, net.values)


@cache
def by_kind(name: str) -> dict[str, list[Mutant]]:
    kinds: dict[str, list[Mutant]] = defaultdict(list)
    for mutant in Mutator(compiled(name)[0]).mutants():
        kinds[mutant.kind].append(mutant)
    return kinds


def sample(name: str, kind: str, count: int) -> list[Mutant]:
    found = by_kind(name).get(kind, [])
    picked = np.random.default_rng(len(kind)).permutation(len(found))[: count * SAMPLES]
    return [found[i] for i in picked]


def simulated(program: Program, inputs: Arrays) -> Arrays:
    outputs = {t.name: np.zeros(t.shape, t.dtype) for t in program.tensors_of(Role.OUTPUT)}
    Simulation(verify(program)).run(inputs, outputs)
    return outputs


def refusal(mutant: Mutant, inputs: Arrays) -> tuple[str, Arrays]:
    """The message with which a mutant is refused; or none, and what it computes in the simulator."""
    try:
        return "", simulated(mutant.make(), inputs)
    except (ProgramError, IncompatibleError) as error:
        return str(error), {}


def misbehaviour(program: Program, inputs: Arrays, expected: Arrays, seed: int, machines: int) -> str:
    """What goes wrong on some of the implementations; nothing where all of them compute `expected`."""
    order = np.random.default_rng(seed).permutation(len(MACHINES))[:machines]
    for dialect, modules in (MACHINES[i] for i in order):
        try:
            made = DialectMachine(program, dialect, modules, seed).run(inputs)
        except MisbehaviourError as error:
            return f"{dialect.value}, {modules}: {error}"
        if any(not np.array_equal(made[name], value) for name, value in expected.items()):
            return f"{dialect.value}, {modules}: another result"
    return ""


ALWAYS = {
    "dropped pop": "token balance|deadlock|token flags",
    "dropped push": "deadlock|token balance",
    "added pop": "deadlock|token flags",
    "added push": "token balance|token flags",
    "FINISH twice": "finish",
    "FINISH early": "finish",
    "no row": "transfer size",
    "pad without data": "padding",
    "pad of WGT": "padding",
    "pad of UOP": "padding",
    "pad of OUT": "padding",
    "no tensor": "relocation",
    "no micro-op": "loop",
    "no iteration": "loop",
    "ALU MUL": "feature",
    "shift too far": "shift range",
}
"""What no program may have, wherever it is, and the rules by which it is refused."""


@pytest.mark.parametrize("kind", ALWAYS)
@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_never_allowed_is_refused_by_name(name: str, kind: str) -> None:
    _, inputs = compiled(name)
    mutants = sample(name, kind, 12)
    assert mutants
    for mutant in mutants:
        message, _ = refusal(mutant, inputs)
        rules = ALWAYS[kind].split("|")
        assert any(f": {rule}: " in message for rule in rules), (mutant, message)


def kinds() -> list[str]:
    return sorted({kind for name in NETWORKS for kind in by_kind(name)} - ALWAYS.keys())


@pytest.mark.parametrize("kind", kinds())
def test_what_is_accepted_has_one_result_on_every_implementation(kind: str) -> None:
    for name, count in (("layers", 3), ("tiles", 1)):
        _, inputs = compiled(name)
        for number, mutant in enumerate(sample(name, kind, count)):
            try:
                program = mutant.make()
            except ProgramError as error:  # A field that cannot hold the value.
                assert "it holds" in str(error)
                continue
            message, made = refusal(mutant, inputs)
            if message:
                assert "instruction " in message or "output tensor" in message, message
            else:
                assert misbehaviour(program, inputs, made, number, 2) == "", mutant


@pytest.mark.parametrize("name", NETWORKS)
def test_valid_programs_are_alike_on_every_implementation(name: str) -> None:
    program, inputs = compiled(name)
    assert misbehaviour(program, inputs, simulated(program, inputs), 0, len(MACHINES)) == ""


def test_machines_tell_damage_that_a_lenient_verifier_would_accept() -> None:
    """The comparison above is not empty: most of what is refused does go wrong on some implementation."""
    _, inputs = compiled("layers")
    expected = simulated(*compiled("layers"))
    wrong = {
        kind: sum(
            bool(misbehaviour(mutant.make(), inputs, expected, 0, len(MACHINES)))
            for mutant in sample("layers", kind, 3)
        )
        for kind in ("dropped push", "added push", "shift too far", "ALU MUL", "FINISH early", "micro-op dst")
    }
    assert all(wrong.values()), wrong
