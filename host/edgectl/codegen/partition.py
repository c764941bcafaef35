"""Divides an integer Model between the accelerator and the board's CPU, by pattern: what VTA can compute, it gets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_agent.vta.config import Config
from edgectl.codegen.vta.convolution import fits, problem_of
from edgectl.codegen.vta.layers import Activation, ConvolutionLayer
from edgectl.errors import CompileError
from edgectl.graph import Model, Node
from edgectl.operators.base import TensorType
from edgectl.operators.integer import IntegerConvolution
from edgectl.operators.layout import Pack, Unpack
from edgectl.operators.quantization import Dequantize

MAXIMUM_SHIFT = 15
MAXIMUM_PAD = 15
"""Pads are 4-bit fields of LOAD."""
MAXIMUM_BIAS_BLOCKS = 16
"""Biases beyond about 3.8 million, which no network has, are left to the CPU."""
MAXIMUM_STRIDE = (1 << 16) - 1
"""Strides and sizes are 16-bit fields of LOAD and STORE."""
MAXIMUM_RESIDUAL_SHIFT = 21
"""6 bits in the identity block, 15 by an ALU shift."""


@dataclass(frozen=True)
class CpuStep:
    """Layers for the CPU, as a model of their own. Packed tensors enter and leave it through Unpack and Pack nodes."""

    segment: Model


@dataclass(frozen=True)
class AcceleratorStep:
    """Layers for the accelerator, one program. `inputs` and `outputs` name packed values."""

    name: str
    layers: tuple[ConvolutionLayer, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Fallback:
    """A convolution that stays on the CPU, and why."""

    layer: str
    reason: str


@dataclass(frozen=True)
class Partition:
    """Steps in execution order. `observed` are integer values (packed or not) that cross steps or end in a float."""

    steps: tuple[CpuStep | AcceleratorStep, ...]
    fallbacks: tuple[Fallback, ...]
    observed: tuple[str, ...]


PACKED = ".packed"


def packed(value: str) -> str:
    """The name of `value` in the packed layout."""
    return value + PACKED


def unpacked(name: str) -> str:
    """The value that `name`, packed or not, is of."""
    return name.removesuffix(PACKED)


def unsupported(node: Node, model: Model, types: dict[str, TensorType], config: Config) -> str:
    """Why `node` cannot run on the accelerator; empty if it can."""
    operator = node.operator
    assert isinstance(operator, IntegerConvolution)
    x, weight = types[node.inputs[0]], types[node.inputs[1]]
    reach = [(kernel - 1) * dilation + 1 for kernel, dilation in zip(weight.shape[2:], operator.dilation, strict=True)]
    checks = {
        "its weights are not constant": all(name in model.parameters for name in node.inputs[1:3]),
        f"it has {operator.groups} groups": operator.groups == 1,
        f"it has {x.shape[1]} input channels, fewer than a block of {config.block}": x.shape[1] >= config.block,
        f"its shift is {operator.shift}, the hardware does up to {MAXIMUM_SHIFT}": abs(operator.shift) <= MAXIMUM_SHIFT,
        f"its residual's shift is {operator.residual_shift}": -MAXIMUM_SHIFT
        <= operator.residual_shift
        <= MAXIMUM_RESIDUAL_SHIFT,
        f"its padding {operator.padding} exceeds {MAXIMUM_PAD}": max(operator.padding) <= MAXIMUM_PAD,
        f"its padding {operator.padding} is as wide as its kernel": all(
            pad < extent for pad, extent in zip(operator.padding, reach * 2, strict=True)
        ),
        f"its rows are {x.shape[3]} elements wide, an instruction's stride reaches {MAXIMUM_STRIDE}": (
            x.shape[3] * operator.strides[0] <= MAXIMUM_STRIDE
        ),
        f"its clip [{operator.low}, {operator.high}] would fill the padding of {weight.shape[0]} channels": (
            operator.low <= 0 <= operator.high or weight.shape[0] % config.block == 0
        ),
        f"its batch of {x.shape[0]} does not divide by {config.batch}": x.shape[0] % config.batch == 0,
    }
    for reason, holds in checks.items():
        if not holds:
            return reason
    layer = layer_of(node, model, types, config)
    if (blocks := problem_of(layer, config).bias_blocks) > MAXIMUM_BIAS_BLOCKS:
        return f"its largest bias needs {blocks} bias blocks, at most {MAXIMUM_BIAS_BLOCKS} are used"
    return "" if fits(layer, config) else "no tile of it fits the buffers"


def layer_of(node: Node, model: Model, types: dict[str, TensorType], config: Config) -> ConvolutionLayer:
    """The compiler's description of an IntegerConvolution node; its activations are named as packed values."""
    operator = node.operator
    assert isinstance(operator, IntegerConvolution)

    def activation(value: str) -> Activation:
        n, c, h, w = types[value].shape
        return Activation(packed(value), n // config.batch, c, h, w)

    return ConvolutionLayer(
        name=node.name,
        x=activation(node.inputs[0]),
        out=activation(node.name),
        residual=activation(node.inputs[3]) if len(node.inputs) > 3 else None,
        weight=np.asarray(model.parameters[node.inputs[1]]),
        bias=np.asarray(model.parameters[node.inputs[2]]),
        strides=operator.strides,
        padding=operator.padding,
        dilation=operator.dilation,
        shift=operator.shift,
        low=operator.low,
        high=operator.high,
        residual_shift=operator.residual_shift,
    )


def partition(model: Model, config: Config, across_layers: bool = True) -> Partition:
    """Alternate between the largest runnable sets of accelerator and CPU layers, in topological order.

    Without `across_layers`, every accelerator step is one layer: for boards on which a program must not load what it
    has stored itself.
    """
    types = model.types()
    if clash := [name for name in types if name.endswith(PACKED)]:
        raise CompileError(
            f"a layer or parameter is called '{clash[0]}'; names that end in {PACKED} are the compiler's own"
        )
    if missing := [name for name in model.outputs if name not in model.producers()]:
        raise CompileError(f"the model's output '{missing[0]}' is no layer's; an output must be computed")
    fallbacks = []
    on_accelerator: set[str] = set()
    for node in model.nodes:
        if isinstance(node.operator, IntegerConvolution):
            reason = unsupported(node, model, types, config)
            if reason:
                fallbacks.append(Fallback(node.label, reason))
            else:
                on_accelerator.add(node.name)
    builder = _Builder(model, types, config, on_accelerator, across_layers)
    return Partition(tuple(builder.steps()), tuple(fallbacks), tuple(dict.fromkeys(builder.observed)))


class _Builder:
    def __init__(
        self,
        model: Model,
        types: dict[str, TensorType],
        config: Config,
        on_accelerator: set[str],
        across_layers: bool,
    ) -> None:
        self._model, self._types, self._config = model, types, config
        self._on_accelerator = on_accelerator
        self._across_layers = across_layers
        self._consumers = model.consumers()
        self.observed: list[str] = []

    def steps(self) -> list[CpuStep | AcceleratorStep]:
        packs = [self._packing(name) for name in self._model.inputs if self._read_elsewhere(name, set(), True)]
        unpacks = [self._unpacking(name) for name in self._model.outputs if name in self._on_accelerator]
        steps: list[CpuStep | AcceleratorStep] = []
        if packs:
            steps.append(self._layout_step("inputs", packs))
        for group in self._groups():
            if group[0].name not in self._on_accelerator:
                steps.append(self._cpu_step(len(steps), group))
                continue
            for part in [group] if self._across_layers else [[node] for node in group]:
                steps.append(self._accelerator_step(len(steps), part))
        if unpacks:
            steps.append(self._layout_step("outputs", unpacks))
        return steps

    def _packing(self, value: str) -> Node:
        return Node(packed(value), self._pack, (value,), value)

    def _unpacking(self, value: str) -> Node:
        return Node(value, Unpack(self._types[value].shape[1]), (packed(value),), value)

    def _layout_step(self, name: str, nodes: list[Node]) -> CpuStep:
        """A step that only changes layouts, at the model's own inputs or outputs."""
        inputs = {
            value: self._types[value] if value in self._types else self._pack.infer(self._types[node.name])
            for node in nodes
            for value in node.inputs
        }
        outputs = tuple(node.name for node in nodes)
        self.observed += outputs
        return CpuStep(Model(name, inputs, tuple(nodes), {}, outputs))

    def _groups(self) -> list[list[Node]]:
        """Sets of nodes on one side that can run together, in order: acyclic by construction."""
        pending = list(self._model.nodes)
        available = {*self._model.inputs, *self._model.parameters}
        groups: list[list[Node]] = []
        accelerator = False
        while pending:
            group, rest = [], []
            for node in pending:
                mine = (node.name in self._on_accelerator) == accelerator
                if mine and all(name in available for name in node.inputs):
                    group.append(node)
                    available.add(node.name)
                else:
                    rest.append(node)
            if group:
                groups.append(group)
            pending, accelerator = rest, not accelerator
        return groups

    def _read_elsewhere(self, value: str, inside: set[str], accelerator: bool) -> bool:
        """Whether a node of the given side outside the group reads `value`."""
        return any(
            reader.name not in inside and (reader.name in self._on_accelerator) == accelerator
            for reader in self._consumers[value]
        )

    def _accelerator_step(self, number: int, group: list[Node]) -> AcceleratorStep:
        inside = {node.name for node in group}
        layers = tuple(layer_of(node, self._model, self._types, self._config) for node in group)
        read = [name for node in group for name in (node.inputs[0], *node.inputs[3:]) if name not in inside]
        outputs = [
            packed(node.name)
            for node in group
            if self._read_elsewhere(node.name, inside, True)
            or self._read_elsewhere(node.name, inside, False)
            or node.name in self._model.outputs
        ]
        self.observed += outputs
        return AcceleratorStep(
            f"program{number}", layers, tuple(dict.fromkeys(packed(name) for name in read)), tuple(outputs)
        )

    def _cpu_step(self, number: int, group: list[Node]) -> CpuStep:
        inside = {node.name for node in group}
        inputs: dict[str, TensorType] = {}
        unpacks: dict[str, Node] = {}
        for node in group:
            for name in node.inputs:
                if name in inside or name in self._model.parameters or name in unpacks:
                    continue
                if name in self._on_accelerator:
                    unpacks[name] = self._unpacking(name)
                    inputs[packed(name)] = self._pack.infer(self._types[name])
                else:
                    inputs[name] = self._types[name]
        packs = [
            Node(packed(node.name), self._pack, (node.name,), node.source)
            for node in group
            if self._read_elsewhere(node.name, inside, True)
        ]
        outputs = [node.name for node in packs]
        outputs += [
            node.name
            for node in group
            if self._read_elsewhere(node.name, inside, False) or node.name in self._model.outputs
        ]
        integers = [
            name
            for node in group
            if isinstance(node.operator, Dequantize)
            for name in node.inputs
            if name in inside and name not in outputs
        ]
        outputs += list(dict.fromkeys(integers))
        nodes = (*unpacks.values(), *group, *packs)
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

    @property
    def _pack(self) -> Pack:
        return Pack(self._config.batch, self._config.block)
