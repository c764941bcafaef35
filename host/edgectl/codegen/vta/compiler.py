"""Compiles a run of layers to one Program."""

from __future__ import annotations

from collections.abc import Sequence

from edge_agent.vta.config import Config
from edge_agent.vta.program import Program, Role
from edgectl.codegen.vta.assembler import Assembler
from edgectl.codegen.vta.convolution import ConvolutionEmitter
from edgectl.codegen.vta.layers import ConvolutionLayer


def compile_program(name: str, layers: Sequence[ConvolutionLayer], outputs: Sequence[str], config: Config) -> Program:
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
    assembler = Assembler(name, config)
    for layer in layers:
        ConvolutionEmitter(assembler, layer, roles).emit()
    return assembler.finish()
