"""Divides an integer Model between the accelerator and the board's CPU: what VTA can compute, it gets."""

from __future__ import annotations

from dataclasses import dataclass

from edge_agent.vta.config import Config
from edgectl.codegen.matching import Fallback, match
from edgectl.codegen.matching.context import PACKED, Candidate, Context, packed
from edgectl.codegen.offload import OFFLOADS
from edgectl.codegen.placement import place
from edgectl.codegen.vta.layers import Layer
from edgectl.errors import CompileError
from edgectl.graph import Model, Node
from edgectl.operators.base import Operator, TensorType
from edgectl.operators.layout import Unpack
from edgectl.operators.planes import JoinPlanes
from edgectl.operators.quantization import Dequantize


@dataclass(frozen=True)
class CpuStep:
    """Layers for the CPU, as a model of their own. Packed tensors enter and leave it through layout operators."""

    segment: Model


@dataclass(frozen=True)
class AcceleratorStep:
    """Layers for the accelerator, one program. `inputs` and `outputs` name packed values."""

    name: str
    layers: tuple[Layer, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Partition:
    """Steps in execution order. `observed` are integer values (packed or not) that cross steps or end in a float.

    `packings` tells of each packed tensor between steps which value it holds, and which operator packs it.
    """

    steps: tuple[CpuStep | AcceleratorStep, ...]
    fallbacks: tuple[Fallback, ...]
    observed: tuple[str, ...]
    packings: dict[str, tuple[str, Operator]]


@dataclass(frozen=True)
class _Unit:
    """A node for the CPU or a candidate for the accelerator: what is put in order. `name` is the value it makes."""

    name: str
    reads: tuple[str, ...]
    node: Node
    candidate: Candidate | None


def partition(model: Model, config: Config, across_layers: bool = True, offload: str = "all") -> Partition:
    """Alternate between the largest runnable sets of accelerator and CPU layers, in topological order.

    Without `across_layers`, every accelerator step is one layer: for boards on which a program must not load what it
    has stored itself. `offload` is one of OFFLOADS.
    """
    if offload not in OFFLOADS:
        raise CompileError(f"offload is '{offload}'; {', '.join(OFFLOADS)} exist")
    context = Context(model, config)
    if clash := [name for name in context.types if name.endswith(PACKED)]:
        raise CompileError(
            f"a layer or parameter is called '{clash[0]}'; names that end in {PACKED} are the compiler's own"
        )
    if missing := [name for name in model.outputs if name not in context.producers]:
        raise CompileError(f"the model's output '{missing[0]}' is no layer's; an output must be computed")
    candidates, fallbacks = match(context, offload, across_layers)
    builder = _Builder(context, candidates, across_layers)
    steps = tuple(builder.steps())
    return Partition(steps, fallbacks, tuple(dict.fromkeys(builder.observed)), builder.packings)


class _Builder:
    def __init__(self, context: Context, candidates: dict[str, Candidate], across_layers: bool) -> None:
        self._context, self._model, self._types = context, context.model, context.types
        self._candidates = candidates
        self._across_layers = across_layers
        self._units = self._live(self._all_units())
        self._readers: dict[str, list[_Unit]] = {}
        for unit in self._units:
            for value in unit.reads:
                self._readers.setdefault(value, []).append(unit)
        self.observed: list[str] = []
        self.packings: dict[str, tuple[str, Operator]] = {}

    def _all_units(self) -> list[_Unit]:
        covered = {name for candidate in self._candidates.values() for name in candidate.covers}
        units = []
        for node in self._model.nodes:
            candidate = self._candidates.get(node.name)
            if candidate is not None:
                units.append(_Unit(node.name, candidate.reads, node, candidate))
            elif node.name not in covered:
                reads = tuple(name for name in node.inputs if name not in self._model.parameters)
                units.append(_Unit(node.name, reads, node, None))
        return units

    def _live(self, units: list[_Unit]) -> list[_Unit]:
        """Without those that nothing reads, such as a Flatten that the accelerator sees through."""
        needed = set(self._model.outputs)
        live = []
        for unit in reversed(units):
            if unit.name in needed:
                needed.update(unit.reads)
                live.append(unit)
        return live[::-1]

    def steps(self) -> list[CpuStep | AcceleratorStep]:
        packs = [node for name in self._model.inputs for node in self._packs(name, set())]
        unpacks = [self._unpacking(name) for name in self._model.outputs if name in self._candidates]
        steps: list[CpuStep | AcceleratorStep] = []
        if packs:
            steps.append(self._layout_step("inputs", packs))
        for group in self._groups():
            if group[0].candidate is None:
                steps.append(self._cpu_step(len(steps), group))
                continue
            for part in [group] if self._across_layers else [[unit] for unit in group]:
                steps.append(self._accelerator_step(len(steps), part))
        if unpacks:
            steps.append(self._layout_step("outputs", unpacks))
        return steps

    def _packed_inputs(self, candidate: Candidate) -> list[tuple[str, str, Operator]]:
        """(packed name, value, operator that packs it) of what a candidate reads."""
        layer = candidate.layer
        if layer is None:
            return [(packed(value), value, self._context.pack) for value in candidate.reads]
        first = (layer.x.name, candidate.reads[0], candidate.packing)
        return [first, *((packed(value), value, self._context.pack) for value in candidate.reads[1:])]

    def _packs(self, value: str, inside: set[str]) -> list[Node]:
        """Nodes that pack a value of the CPU's for the accelerator, each layout once."""
        nodes: dict[str, Node] = {}
        for reader in self._readers.get(value, ()):
            if reader.candidate is None or reader.name in inside:
                continue
            for name, read, operator in self._packed_inputs(reader.candidate):
                if read == value:
                    nodes[name] = Node(name, operator, (value,), value)
                    self.packings[name] = (value, operator)
        return list(nodes.values())

    def _unpacking(self, value: str) -> Node:
        shape = self._types[value].shape
        kind = JoinPlanes if self._types[value].dtype == "int32" else Unpack
        return Node(value, kind(shape[1], len(shape) == 2), (packed(value),), value)

    def _packed_type(self, value: str) -> TensorType:
        return self._context.packing(value).infer(self._types[value])

    def _layout_step(self, name: str, nodes: list[Node]) -> CpuStep:
        """A step that only changes layouts, at the model's own inputs or outputs."""
        inputs = {
            value: self._types[value] if value in self._types else self._packed_type(node.name)
            for node in nodes
            for value in node.inputs
        }
        outputs = tuple(node.name for node in nodes)
        self.observed += outputs
        return CpuStep(Model(name, inputs, tuple(nodes), {}, outputs))

    def _groups(self) -> list[list[_Unit]]:
        """Sets of units on one side that can run together, in order: acyclic by construction."""
        pending = self._units
        available = set(self._model.inputs)
        groups: list[list[_Unit]] = []
        accelerator = False
        while pending:
            group: list[_Unit] = []
            rest: list[_Unit] = []
            for unit in pending:
                mine = (unit.candidate is not None) == accelerator
                if mine and available.issuperset(unit.reads):
                    group.append(unit)
                    available.add(unit.name)
                else:
                    rest.append(unit)
            if group:
                groups.append(group)
            pending, accelerator = rest, not accelerator
        return groups

    def _read_elsewhere(self, value: str, inside: set[str]) -> bool:
        """Whether a unit outside the group reads `value`, or it is the model's output."""
        readers = self._readers.get(value, ())
        return value in self._model.outputs or any(reader.name not in inside for reader in readers)

    def _accelerator_step(self, number: int, group: list[_Unit]) -> AcceleratorStep:
        inside = {unit.name for unit in group}
        candidates = [unit.candidate for unit in group if unit.candidate is not None]
        read = [
            name for candidate in candidates for name, value, _ in self._packed_inputs(candidate) if value not in inside
        ]
        outputs = [packed(unit.name) for unit in group if self._read_elsewhere(unit.name, inside)]
        for unit in group:
            self.packings[packed(unit.name)] = (unit.name, self._context.packing(unit.name))
        self.observed += outputs
        layers = place(self._context, candidates, set(outputs))
        return AcceleratorStep(f"program{number}", layers, tuple(dict.fromkeys(read)), tuple(outputs))

    def _cpu_step(self, number: int, group: list[_Unit]) -> CpuStep:
        inside = {unit.name for unit in group}
        inputs: dict[str, TensorType] = {}
        unpacks: dict[str, Node] = {}
        for unit in group:
            for name in unit.reads:
                if name in inside or name in unpacks:
                    continue
                if name in self._candidates:
                    unpacks[name] = self._unpacking(name)
                    inputs[packed(name)] = self._packed_type(name)
                else:
                    inputs[name] = self._types[name]
        packs = [node for unit in group for node in self._packs(unit.name, inside)]
        outputs = [node.name for node in packs]
        outputs += [unit.name for unit in group if self._read_by_cpu(unit.name, inside)]
        integers = [
            name
            for unit in group
            if isinstance(unit.node.operator, Dequantize)
            for name in unit.reads
            if name in inside and name not in outputs
        ]
        outputs += list(dict.fromkeys(integers))
        nodes = (*unpacks.values(), *(unit.node for unit in group), *packs)
        used = {name for node in nodes for name in node.inputs}
        segment = Model(
            name=f"segment{number}",
            inputs=inputs,
            nodes=nodes,
            parameters={name: array for name, array in self._model.parameters.items() if name in used},
            outputs=tuple(outputs),
        )
        types = segment.types()
        self.observed += [name for name in outputs if types[name].dtype != "float32"]
        return CpuStep(segment)

    def _read_by_cpu(self, value: str, inside: set[str]) -> bool:
        readers = self._readers.get(value, ())
        outside = any(reader.name not in inside and reader.candidate is None for reader in readers)
        return value in self._model.outputs or outside
