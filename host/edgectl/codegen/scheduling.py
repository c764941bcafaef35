"""Joins compiled segments and programs into the plan of one inference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from edge_agent.runtime.plan import Buffer, KernelStep, Plan, ProgramStep, Step
from edge_agent.vta.program import Program, Role
from edgectl.codegen.cpu import Fragment
from edgectl.graph import Model


@dataclass(frozen=True)
class CompiledProgram:
    """A program and the bundle member that holds it."""

    member: str
    program: Program


def make_plan(steps: Sequence[Fragment | CompiledProgram], model: Model, observed: Sequence[str]) -> Plan:
    """The plan that runs `steps` in order. Values that cross steps get one buffer each, by name."""
    linker = _Linker()
    for name, declared in model.inputs.items():
        linker.value(Buffer(name, declared.shape, declared.dtype))
    for step in steps:
        if isinstance(step, Fragment):
            linker.fragment(step)
        else:
            linker.program(step)
    return Plan(
        buffers=tuple(linker.buffers),
        storages=tuple(linker.storages),
        steps=tuple(linker.steps),
        inputs={name: linker.values[name] for name in model.inputs},
        outputs={name: linker.values[name] for name in model.outputs},
        observed={name: linker.values[name] for name in observed if name in linker.values},
    )


class _Linker:
    def __init__(self) -> None:
        self.buffers: list[Buffer] = []
        self.storages: list[int] = []
        self.steps: list[Step] = []
        self.values: dict[str, int] = {}

    def value(self, buffer: Buffer) -> int:
        """The buffer of a value that crosses steps, in a storage of its own."""
        if buffer.name not in self.values:
            self.values[buffer.name] = len(self.buffers)
            self.buffers.append(replace(buffer, storage=len(self.storages), offset=0))
            self.storages.append(buffer.nbytes)
        return self.values[buffer.name]

    def fragment(self, fragment: Fragment) -> None:
        crossing = {index: name for name, index in (*fragment.inputs.items(), *fragment.outputs.items())}
        storages: dict[int, int] = {}
        indices: list[int] = []
        for index, buffer in enumerate(fragment.buffers):
            if buffer.constant:
                self.buffers.append(buffer)
                indices.append(len(self.buffers) - 1)
                if index in crossing:
                    self.values[crossing[index]] = indices[-1]
            elif index in crossing:
                indices.append(self.value(replace(buffer, name=crossing[index])))
            else:
                if buffer.storage not in storages:
                    storages[buffer.storage] = len(self.storages)
                    self.storages.append(fragment.storages[buffer.storage])
                self.buffers.append(replace(buffer, storage=storages[buffer.storage]))
                indices.append(len(self.buffers) - 1)
        for step in fragment.steps:
            self.steps.append(KernelStep(step.kernel, tuple(indices[i] for i in step.arguments), step.layers))

    def program(self, compiled: CompiledProgram) -> None:
        def bind(role: Role) -> Mapping[str, int]:
            return {
                tensor.name: self.value(Buffer(tensor.name, tensor.shape, tensor.dtype))
                for tensor in compiled.program.tensors_of(role)
            }

        self.steps.append(ProgramStep(compiled.member, bind(Role.INPUT), bind(Role.OUTPUT)))
