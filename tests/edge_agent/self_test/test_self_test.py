"""The self-test passes on right accelerators, simulated and modelled, and fails on every wrong one."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest

from edge_agent.boards import BoardProfile, profile
from edge_agent.devices.base import Accelerator, AcceleratorInfo, LoadedProgram, RunStats
from edge_agent.devices.sim import Simulator
from edge_agent.errors import DeadlineError, VerificationError
from edge_agent.register_model.quirks import Quirks
from edge_agent.self_test.cases import cases
from edge_agent.self_test.running import self_test
from edge_agent.vta.config import DEFAULT_CONFIG, Memory
from edge_agent.vta.features import ALU_MUL, PROGRAM_ACROSS_LAYERS
from edge_agent.vta.isa import Alu, AluOpcode, Gemm, Instruction, Load, Store, decode_stream
from edge_agent.vta.program import Program
from edge_agent.vta.schedule import module_of
from edge_agent.vta.verify import verify
from tests.edge_agent.devices.modelled import Modelled
from tests.edge_agent.vta.reference import ReferenceMachine

NAMES = ["loads and stores", "ALU MIN", "ALU MAX", "ALU ADD", "ALU SHR", "GEMM", "dependency queues"]


def board(config: str = "1x16_i8w8a32_15_15_18_17", *features: str) -> BoardProfile:
    return replace(profile("sim"), config=config, features=frozenset(features))


@pytest.mark.parametrize(
    ("config", "features", "more"),
    [
        ("1x16_i8w8a32_15_15_18_17", (), []),
        ("1x16_i8w8a32_15_15_18_17", (PROGRAM_ACROSS_LAYERS,), ["loads after stores"]),
        ("4x8_i8w8a32_15_16_16_18", (PROGRAM_ACROSS_LAYERS,), ["loads after stores"]),
        ("1x16_i8w8a32_15_15_18_17", (ALU_MUL,), ["ALU MUL"]),
    ],
)
def test_it_passes_on_the_simulator(config: str, features: tuple[str, ...], more: list[str]) -> None:
    report = self_test(Simulator(board(config, *features)))
    assert set(report.seconds) == {*NAMES, *more}
    assert report.as_dict()["seconds"] == sum(report.seconds.values())


def test_it_passes_on_the_register_model() -> None:
    assert set(self_test(Modelled().driver(patience=30)).seconds) == {*NAMES, "loads after stores"}


@pytest.mark.parametrize("name", ["pynq", "ultra96", "de10nano"])
def test_its_programs_keep_the_rules(name: str) -> None:
    kind = profile(name)
    used = set()
    for case in cases(kind.vta, kind.features):
        verified = verify(case.program, kind.features)
        for instruction in verified.instructions:
            used |= {flag for flag in ("pop_prev", "pop_next", "push_prev", "push_next") if getattr(instruction, flag)}
            if isinstance(instruction, Alu):
                used.add(instruction.alu_opcode.name)
                assert instruction.alu_opcode is not AluOpcode.SHR or -15 <= instruction.imm <= 15
                assert instruction.alu_opcode is not AluOpcode.SHR or instruction.use_imm
            elif isinstance(instruction, Load):
                used.add(f"LOAD {instruction.memory.name}")
    assert used >= {"pop_prev", "pop_next", "push_prev", "push_next", "MIN", "MAX", "ADD", "SHR"}
    assert used >= {"LOAD INP", "LOAD WGT", "LOAD ACC", "LOAD UOP"}


@dataclass(eq=False)
class ReferenceProgram(LoadedProgram):
    program: Program


class Reference(Accelerator):
    """The naive machine of the simulator's tests as an accelerator, with faults: instructions are `changed` on their
    way, and the `broken` queue between two modules holds nothing back, while `first` of the modules runs ahead."""

    def __init__(
        self,
        changed: Callable[[Instruction], Instruction] = lambda instruction: instruction,
        broken: str = "",
        first: Sequence[str] = ("load", "compute", "store"),
    ) -> None:
        self._changed = changed
        self._broken = broken
        self._first = first
        self.resets = 0

    def describe(self) -> AcceleratorInfo:
        kind = profile("pynq")
        return AcceleratorInfo("reference", kind.config, kind.features, kind.clock_hz)

    def load(self, program: Program) -> LoadedProgram:
        return ReferenceProgram(program)

    def unload(self, loaded: LoadedProgram) -> None: ...

    def run(
        self, loaded: LoadedProgram, inputs: Mapping[str, np.ndarray], outputs: Mapping[str, np.ndarray]
    ) -> RunStats:
        accelerator = self

        class Machine(ReferenceMachine):
            def execute(self, instructions: list[Instruction]) -> None:
                accelerator.execute(self, [accelerator._changed(instruction) for instruction in instructions])

        for name, array in Machine(loaded.program).run(dict(inputs)).items():
            outputs[name][:] = array
        return RunStats(0.0, loaded.program.counters)

    def execute(self, machine: ReferenceMachine, instructions: list[Instruction]) -> None:
        waiting: dict[str, deque[Instruction]] = {module: deque() for module in ("load", "compute", "store")}
        for instruction in instructions:
            waiting[module_of(instruction).name.lower()].append(instruction)
        tokens = dict.fromkeys(QUEUES, 0)
        while any(waiting.values()):
            for module in self._first:
                before = {"load": "", "compute": "l2g", "store": "g2s"}[module]
                after = {"load": "g2l", "compute": "s2g", "store": ""}[module]
                if not waiting[module]:
                    continue
                head = waiting[module][0]
                taken = [queue for queue, pop in ((before, head.pop_prev), (after, head.pop_next)) if queue and pop]
                if all(tokens[queue] > 0 or queue == self._broken for queue in taken):
                    break
            else:
                raise DeadlineError("it waits for ever")
            waiting[module].popleft()
            for queue in taken:
                tokens[queue] -= 1
            given = {"load": ("", "l2g"), "compute": ("g2l", "g2s"), "store": ("s2g", "")}[module]
            for queue, push in zip(given, (head.push_prev, head.push_next), strict=True):
                if queue and push:
                    tokens[queue] += 1
            machine.step(head)

    def reset(self) -> None:
        self.resets += 1


QUEUES = ("l2g", "g2l", "g2s", "s2g")


def test_the_naive_machine_passes() -> None:
    for first in itertools.permutations(("load", "compute", "store")):
        assert len(self_test(Reference(first=first)).seconds) == len(NAMES) + 1


@pytest.mark.parametrize(
    ("queue", "first"),
    [
        ("l2g", ("compute", "store", "load")),
        ("g2l", ("load", "compute", "store")),
        ("g2s", ("store", "compute", "load")),
        ("s2g", ("compute", "load", "store")),
    ],
)
def test_a_queue_that_holds_nothing_back(queue: str, first: Sequence[str]) -> None:
    """The other cases run their modules one after another: some fail already, the queues' own fails always."""
    broken = Reference(broken=queue, first=first)
    with pytest.raises(VerificationError, match="is wrong in"):
        self_test(broken)
    (case,) = [case for case in cases(DEFAULT_CONFIG, frozenset()) if case.name == "dependency queues"]
    outputs = {"y": np.zeros_like(case.expected["y"])}
    broken.run(ReferenceProgram(case.program), case.inputs, outputs)
    assert (outputs["y"] != case.expected["y"]).any()


@pytest.mark.parametrize("flag", ["push_prev", "push_next"])
@pytest.mark.parametrize("kind", [Load, Gemm, Alu, Store])
def test_a_queue_that_lets_nothing_through(kind: type[Instruction], flag: str) -> None:
    def lost(instruction: Instruction) -> Instruction:
        return replace(instruction, **{flag: False}) if isinstance(instruction, kind) else instruction

    deaf = Reference(lost)
    programs = [case.program for case in cases(DEFAULT_CONFIG, frozenset())]
    gives = any(
        isinstance(instruction, kind) and getattr(instruction, flag)
        for program in programs
        for instruction in decode_stream(program.instructions, DEFAULT_CONFIG)
    )
    if gives:
        with pytest.raises(VerificationError, match="does not end: it waits for ever"):
            self_test(deaf)
        assert deaf.resets == 1
    else:
        assert (kind, flag) in {(Load, "push_prev"), (Gemm, "push_next"), (Alu, "push_prev"), (Store, "push_next")}


def alu_instead(operation: AluOpcode, other: AluOpcode) -> Callable[[Instruction], Instruction]:
    def changed(instruction: Instruction) -> Instruction:
        if isinstance(instruction, Alu) and instruction.alu_opcode is operation and instruction.imm not in (8, 0):
            return replace(instruction, alu_opcode=other)
        return instruction

    return changed


def shift_by_one_more(instruction: Instruction) -> Instruction:
    if isinstance(instruction, Alu) and instruction.alu_opcode is AluOpcode.SHR and instruction.imm == -15:
        return replace(instruction, imm=-14)
    return instruction


def ignore_immediate_sign(instruction: Instruction) -> Instruction:
    if isinstance(instruction, Alu) and instruction.alu_opcode is AluOpcode.ADD and instruction.imm < 0:
        return replace(instruction, imm=-instruction.imm if instruction.imm > -(2**15) else 2**15 - 1)
    return instruction


def registers_ignored(instruction: Instruction) -> Instruction:
    if isinstance(instruction, Alu) and not instruction.use_imm:
        return replace(instruction, use_imm=True)
    return instruction


def weights_stand_still(instruction: Instruction) -> Instruction:
    return replace(instruction, wgt_factor_out=0) if isinstance(instruction, Gemm) else instruction


def no_reset(instruction: Instruction) -> Instruction:
    return replace(instruction, iter_in=0) if isinstance(instruction, Gemm) and instruction.reset else instruction


def pads_on_the_other_side(instruction: Instruction) -> Instruction:
    if isinstance(instruction, Load) and instruction.x_pad_0:
        return replace(instruction, x_pad_0=instruction.x_pad_1, x_pad_1=instruction.x_pad_0)
    return instruction


def rows_swapped(instruction: Instruction) -> Instruction:
    if isinstance(instruction, Load) and instruction.y_pad_0:
        return replace(instruction, y_pad_0=instruction.y_pad_1, y_pad_1=instruction.y_pad_0)
    return instruction


def stride_ignored(instruction: Instruction) -> Instruction:
    if isinstance(instruction, Load) and instruction.memory is Memory.INP and instruction.x_stride > instruction.x_size:
        return replace(instruction, x_stride=instruction.x_size)
    return instruction


def other_rows_stored(instruction: Instruction) -> Instruction:
    if isinstance(instruction, Store) and instruction.sram_base == 24:
        return replace(instruction, sram_base=20)
    return instruction


@pytest.mark.parametrize(
    ("changed", "case"),
    [
        (alu_instead(AluOpcode.MIN, AluOpcode.MAX), "ALU MIN"),
        (alu_instead(AluOpcode.MAX, AluOpcode.ADD), "ALU MAX"),
        (alu_instead(AluOpcode.ADD, AluOpcode.MIN), "ALU ADD"),
        (shift_by_one_more, "ALU SHR"),
        (ignore_immediate_sign, "ALU ADD"),
        (registers_ignored, "ALU MIN"),
        (weights_stand_still, "GEMM"),
        (no_reset, "loads and stores"),
        (pads_on_the_other_side, "loads and stores"),
        (rows_swapped, "loads and stores"),
        (stride_ignored, "loads and stores"),
        (other_rows_stored, "loads and stores"),
    ],
)
def test_an_ability_that_is_wrong(changed: Callable[[Instruction], Instruction], case: str) -> None:
    with pytest.raises(VerificationError, match=f"the self-test of {case} is wrong in [0-9]+ of [0-9]+ values: y"):
        self_test(Reference(changed))


def test_a_modelled_core_that_hangs_or_flips_bits() -> None:
    modelled = Modelled(can_reset=True)
    driver = modelled.driver(patience=0.2)
    modelled.quirks = Quirks(flip=1)
    with pytest.raises(VerificationError, match=r"wrong in 1 of [0-9]+ values"):
        self_test(driver)
    modelled.quirks = Quirks(hang="start")
    with pytest.raises(VerificationError, match="loads and stores does not end"):
        self_test(driver)
    modelled.quirks = Quirks()
    modelled.core.reset()
    driver.reprogrammed()
    self_test(modelled.driver(patience=30))
