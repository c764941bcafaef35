"""Compiles a run of layers to one Program."""

from __future__ import annotations

from collections.abc import Sequence

from edge_agent.vta.config import Config
from edge_agent.vta.program import Program, Role
from edgectl.codegen.vta.assembler import Assembler
from edgectl.codegen.vta.collector import Collector
from edgectl.codegen.vta.emitter import LayerEmitter
from edgectl.codegen.vta.layers import Layer
from edgectl.codegen.vta.problem import problem_of
from edgectl.codegen.vta.search import choose_tiling
from edgectl.codegen.vta.tile import tiles
from edgectl.codegen.vta.tiling import buffers


def compile_program(name: str, layers: Sequence[Layer], outputs: Sequence[str], config: Config) -> Program:
    """A program that computes `layers` in order. Activations no layer produces are its inputs, `outputs` its outputs.

    Raises CompileError where a layer does not fit the buffers.
    """
    produced = {layer.out.name for layer in layers}
    roles: dict[str, Role] = {}
    for layer in layers:
        for activation in (layer.x, layer.residual, layer.out):
            if activation is not None:
                outside = Role.OUTPUT if activation.name in outputs else Role.SCRATCH
                roles[activation.name] = outside if activation.name in produced else Role.INPUT
    assembler = Assembler(name, config, max(_accumulators(layer, config) for layer in layers))
    for layer in layers:
        collector = Collector(config)
        LayerEmitter(collector, layer, roles).emit()
        assembler.micro_ops.prepare(collector.sequences)
        LayerEmitter(assembler, layer, roles).emit()
    return assembler.finish()


def _accumulators(layer: Layer, config: Config) -> int:
    """How many elements of ACC the layer's tiles reach."""
    problem = problem_of(layer, config)
    tiling = choose_tiling(problem, config)
    last = (tiling.acc_slots - 1) * buffers(problem, tiling, config).acc_slot
    return last + max(tile.elements for tile in tiles(problem, tiling))
