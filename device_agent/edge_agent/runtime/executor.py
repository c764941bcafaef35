"""Loads a bundle and runs its plan: kernels by ctypes, VTA programs by the accelerator. No graph logic here."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.bundle import Bundle
from edge_agent.devices.base import Accelerator, LoadedProgram
from edge_agent.errors import IncompatibleError, InputError, VerificationError
from edge_agent.runtime.compatibility import Processor, check_manifest
from edge_agent.runtime.kernels import KernelLibrary
from edge_agent.runtime.memory import allocate_buffers
from edge_agent.runtime.plan import KernelStep, Plan, ProgramStep
from edge_agent.runtime.program_check import digest, seeded_inputs
from edge_agent.vta.counters import Counters
from edge_agent.vta.program import Program, Role
from edge_agent.vta.program_file import read_program

RECOMPILE = "compile again with `edgectl compile MODEL --board NAME`"


@dataclass(frozen=True)
class Inference:
    """One run: the outputs (the caller's own arrays), wall seconds of it all and of the accelerator alone, what VTA
    moved and computed, and, where asked for, the SHA-256 of each observed integer buffer."""

    outputs: Mapping[str, np.ndarray]
    seconds: float
    vta_seconds: float
    counters: Counters
    observed: Mapping[str, str] = field(default_factory=dict)


@dataclass
class _Clock:
    """What the program steps of one run add up to."""

    seconds: float = 0.0
    counters: Counters = field(default_factory=Counters)


_Step = Callable[[_Clock], None]


@dataclass(frozen=True)
class _BoundProgram:
    """A program on the accelerator, its bundle member, and the plan's buffers that it reads and writes, by tensor."""

    member: str
    loaded: LoadedProgram
    inputs: Mapping[str, np.ndarray]
    outputs: Mapping[str, np.ndarray]


class Runtime:
    """Loads bundles for one accelerator and this machine's CPU."""

    def __init__(self, accelerator: Accelerator, cpu: str | None = None, directory: Path | None = None) -> None:
        """`cpu` is the machine to accept ("x86_64", "armv7l", "aarch64"; default: this one). Kernel libraries are
        loaded from private files in `directory` (default: the system's temporary one), which must allow execution."""
        self._accelerator = accelerator
        self._cpu = cpu
        self._directory = directory

    def load(self, bundle: Bundle) -> LoadedModel:
        """Place a bundle's programs, load its kernels and allocate its buffers.

        Raises IncompatibleError where it was made for another board, ProgramError where a program breaks a rule,
        AgentError where the library cannot be loaded. A failed load leaves nothing behind.
        """
        check_manifest(bundle.manifest, self._accelerator.describe(), Processor.here(self._cpu))
        return LoadedModel(bundle, self._accelerator, self._cpu, self._directory)


class LoadedModel:
    """A bundle ready to run. Not thread-safe: its owner serialises calls."""

    def __init__(self, bundle: Bundle, accelerator: Accelerator, cpu: str | None, directory: Path | None) -> None:
        self.manifest: Mapping[str, Any] = bundle.manifest
        self._bundle = bundle
        self._accelerator = accelerator
        self._plan: Plan = bundle.plan
        self._programs: list[_BoundProgram] = []
        self._library: KernelLibrary | None = None
        self._steps: list[_Step] = []
        self._buffers = allocate_buffers(self._plan, bundle.members)
        try:
            if any(isinstance(step, KernelStep) for step in self._plan.steps):
                self._library = KernelLibrary(_member(bundle, "kernels.so"), directory, cpu)
            self._steps = [self._prepare(step) for step in self._plan.steps]
            # Programs, kernels and constants now are where they are used; a second copy is memory that boards lack.
            self._bundle = replace(bundle, members={name: bundle.members[name] for name in _golden_members(bundle)})
        except BaseException:
            self.close()
            raise

    def infer(self, inputs: Mapping[str, np.ndarray], observe: bool = False) -> Inference:
        """Run the plan once; `observe` also digests the plan's observed buffers.

        Raises InputError where the inputs are not the model's (name, shape, dtype), DeadlineError where the accelerator
        does not finish (its owner then resets it), AgentError where a kernel fails.
        """
        check_inputs(self._plan, inputs)
        clock = _Clock()
        begin = time.perf_counter()
        for name, index in self._plan.inputs.items():
            np.copyto(self._buffers[index], inputs[name], casting="no")
        for step in self._steps:
            step(clock)
        outputs = {name: self._buffers[index].copy() for name, index in self._plan.outputs.items()}
        seconds = time.perf_counter() - begin
        observed = self._digests() if observe else {}
        return Inference(outputs, seconds, clock.seconds, clock.counters, observed)

    def self_test(self) -> None:
        """Compute the bundle's golden sample. Raises VerificationError where an integer buffer's digest or a float
        output differs from the recorded one, or the sample is missing or malformed."""
        golden = self.manifest.get("golden")
        if not golden:
            raise VerificationError(f"the bundle has no golden sample to test itself with; {RECOMPILE}")
        try:
            self._check_golden(golden)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise VerificationError(f"the bundle's golden sample is malformed: {error!r}; {RECOMPILE}") from error

    def close(self) -> None:
        """Take the programs off the accelerator and unload the kernels. May be called again."""
        self._steps = []
        try:
            while self._programs:
                self._accelerator.unload(self._programs.pop().loaded)
        finally:
            if self._programs:
                self.close()
            elif self._library is not None:
                self._library.close()

    def _prepare(self, step: KernelStep | ProgramStep) -> _Step:
        """A step as a call on bound arrays, so that a run only calls."""
        if isinstance(step, KernelStep):
            assert self._library is not None
            kernel = self._library.bind(step.kernel, [self._buffers[index] for index in step.arguments])
            return lambda clock: kernel()
        program = read_program(_member(self._bundle, step.program))
        inputs = self._bind(program, Role.INPUT, step.inputs)
        outputs = self._bind(program, Role.OUTPUT, step.outputs)
        accelerator, loaded = self._accelerator, self._accelerator.load(program)
        self._programs.append(_BoundProgram(step.program, loaded, inputs, outputs))

        def run(clock: _Clock) -> None:
            stats = accelerator.run(loaded, inputs, outputs)
            clock.seconds += stats.seconds
            clock.counters += stats.counters

        return run

    def _bind(self, program: Program, role: Role, bound: Mapping[str, int]) -> dict[str, np.ndarray]:
        """The program's tensors of a role as arrays. Raises IncompatibleError where the plan's buffers do not fit."""
        tensors = {tensor.name: tensor for tensor in program.tensors_of(role)}
        if set(tensors) != set(bound):
            raise IncompatibleError(
                f"program '{program.name}' has {role.value}s {sorted(tensors)}, the plan binds "
                f"{sorted(bound)}; {RECOMPILE}"
            )
        arrays = {name: self._buffers[index] for name, index in bound.items()}
        for name, array in arrays.items():
            tensor = tensors[name]
            if (array.shape, array.dtype.name) != (tensor.shape, tensor.dtype):
                raise IncompatibleError(
                    f"program '{program.name}' has {role.value} '{name}' as {tensor.dtype}"
                    f"{list(tensor.shape)}, the plan's buffer is {array.dtype.name}"
                    f"{list(array.shape)}; {RECOMPILE}"
                )
        return arrays

    def _check_golden(self, golden: Mapping[str, Any]) -> None:
        inputs = {name: self._bundle.array(member) for name, member in golden["inputs"].items()}
        inference = self.infer(inputs, observe=True)
        for name, expected in golden["integers"].items():
            actual = inference.observed.get(name, "nothing: the plan does not observe it")
            if actual != expected:
                raise VerificationError(
                    f"self-test: buffer '{name}' has SHA-256 {actual}, the bundle's golden sample "
                    f"has {expected}; program the FPGA again, then deploy again"
                )
        for name, reference in golden["outputs"].items():
            self._compare(name, inference, reference)
        for member, expected in golden.get("programs", {}).items():
            self._check_program(member, expected)

    def _check_program(self, member: str, expected: Mapping[str, str]) -> None:
        """Run a program alone on seeded inputs. Raises VerificationError where an output differs."""
        program = next((bound for bound in self._programs if bound.member == member), None)
        if program is None:
            raise ValueError(f"the plan does not run {member}")
        for name, array in seeded_inputs({name: array.shape for name, array in program.inputs.items()}).items():
            np.copyto(program.inputs[name], array, casting="no")
        self._accelerator.run(program.loaded, program.inputs, program.outputs)
        for name, wanted in expected.items():
            actual = digest(program.outputs[name])
            if actual != wanted:
                raise VerificationError(
                    f"self-test: output '{name}' of {member} has SHA-256 {actual}, the interpreter's is {wanted}; "
                    "program the FPGA again, then deploy again"
                )

    def _digests(self) -> dict[str, str]:
        return {name: digest(self._buffers[index]) for name, index in self._plan.observed.items()}

    def _compare(self, name: str, inference: Inference, reference: Mapping[str, Any]) -> None:
        """Raises VerificationError where a golden output lies outside its tolerance."""
        expected, actual = self._bundle.array(reference["member"]), inference.outputs.get(name)
        relative, absolute = float(reference["rtol"]), float(reference["atol"])
        if actual is None or actual.shape != expected.shape:
            found = "missing" if actual is None else f"of shape {list(actual.shape)}"
            raise VerificationError(
                f"self-test: output '{name}' is {found}, the golden one has shape {list(expected.shape)}; {RECOMPILE}"
            )
        wrong = ~np.isclose(actual, expected, rtol=relative, atol=absolute)
        if wrong.any():
            first = tuple(int(i) for i in np.argwhere(wrong)[0])
            raise VerificationError(
                f"self-test: output '{name}'{list(first)} is {actual[first]}, the golden sample "
                f"has {expected[first]} (tolerance {relative} relative, {absolute} absolute); "
                "program the FPGA again, then deploy again"
            )


def check_inputs(plan: Plan, inputs: Mapping[str, np.ndarray]) -> None:
    """Raise InputError unless `inputs` are the plan's, by name, shape and dtype."""
    if set(inputs) != set(plan.inputs):
        raise InputError(f"the inputs are {sorted(inputs)}, the model takes {sorted(plan.inputs)}")
    for name, index in plan.inputs.items():
        given, own = inputs[name], plan.buffers[index]
        if given.shape != own.shape or given.dtype != own.dtype:
            raise InputError(
                f"input '{name}' is {given.dtype.name}{list(given.shape)}, the model takes {own.dtype}{list(own.shape)}"
            )


def _golden_members(bundle: Bundle) -> list[str]:
    """The members that a self-test reads."""
    return [name for name in bundle.members if name.startswith("golden/")]


def _member(bundle: Bundle, name: str) -> bytes:
    """Raises IncompatibleError where the bundle lacks the member that its plan needs."""
    if name not in bundle.members:
        raise IncompatibleError(f"the bundle has no member '{name}', which its plan needs; {RECOMPILE}")
    return bundle.members[name]
