"""Emits one layer, tile by tile and step by step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from edge_agent.vta.config import Config, Memory
from edge_agent.vta.program import Role
from edgectl.codegen.vta.axis import Range
from edgectl.codegen.vta.bias import bias_blocks, constant_input
from edgectl.codegen.vta.collector import Collector, Span
from edgectl.codegen.vta.finishing import Finisher
from edgectl.codegen.vta.layers import Activation, Layer
from edgectl.codegen.vta.loops import Dimension, Region
from edgectl.codegen.vta.problem import MAXIMUM_IDENTITY_SHIFT, WIDE_PLANES, problem_of, residual_plan
from edgectl.codegen.vta.products import multiply
from edgectl.codegen.vta.search import choose_tiling
from edgectl.codegen.vta.slots import Slots
from edgectl.codegen.vta.tile import Tile, ranges, tiles
from edgectl.codegen.vta.tiling import Tiling, buffers
from edgectl.codegen.vta.transfers import load_blocks, load_input, load_pixels

IDENTITY = "identity"
CONSTANT_INPUT = "constant_input"


def packed_shape(activation: Activation, config: Config) -> tuple[int, ...]:
    """Shape of an activation's tensor in DRAM: (N/batch, ceil(C/block), H, W, batch, block)."""
    blocks = activation.storage_blocks(config.block)
    return (activation.outer, blocks, activation.height, activation.width, config.batch, config.block)


@dataclass
class Step:
    """What load brings and what compute then does. `uses` are the slots that computing reads."""

    loads: list[tuple[tuple[Memory, int], Callable[[], None]]] = field(default_factory=list)
    computes: list[Callable[[], None]] = field(default_factory=list)
    uses: set[tuple[Memory, int]] = field(default_factory=set)


class LayerEmitter:
    """Emits `layer` into `assembler` under `tiling`. The roles say how its activations are declared."""

    def __init__(
        self, assembler: Collector, layer: Layer, roles: dict[str, Role], tiling: Tiling | None = None
    ) -> None:
        self._assembler = assembler
        self._layer = layer
        self._config = config = assembler.config
        self._problem = problem_of(layer, config)
        self._residual_plan = residual_plan(layer)
        self._tiling = tiling or choose_tiling(self._problem, config)

        def declare(activation: Activation, *planes: int) -> int:
            shape = (*planes, *packed_shape(activation, config))
            return assembler.activation(activation.name, roles[activation.name], shape)

        self._x = declare(layer.x)
        self._residual = declare(layer.residual) if layer.residual is not None else None
        out = declare(layer.out, *([WIDE_PLANES] if layer.wide else []))
        if self._problem.bias_blocks:
            blocks = bias_blocks(layer.rounded_bias, self._problem.bias_blocks, config.block)
            self._bias = assembler.constant(f"{layer.name}.bias", Memory.WGT, blocks)
        self._weight = assembler.constant(self._weight_name(), Memory.WGT, layer.weight)
        self._buffers = areas = buffers(self._problem, self._tiling, config)
        self._inp_slots = Slots(areas.inp_slot, self._tiling.inp_slots)
        self._wgt_slots = Slots(areas.wgt_slot, self._tiling.wgt_slots)
        self._bias_slots = Slots(areas.bias_slot, 2)
        self._finisher = Finisher(assembler, layer, out)

    def _weight_name(self) -> str:
        """Blocks that layers share, such as the identity, are stored once."""
        return (
            f"shared.{self._layer.weight.tobytes().hex()[:34]}" if self._layer.shared else f"{self._layer.name}.weight"
        )

    def emit(self) -> None:
        """Append the layer's instructions."""
        if self._residual is not None:
            self._load_identity()
        if self._problem.shared:
            self._assembler.load(Memory.WGT, self._weight, self._buffers.shared, 0, 1, 1, 1)
        if self._problem.bias_blocks:
            element = constant_input(self._config.batch, self._config.block)
            tensor = self._assembler.constant(CONSTANT_INPUT, Memory.INP, element)
            self._assembler.load(Memory.INP, tensor, self._buffers.constant, 0, 1, 1, 1)
        pending: Step | None = None
        for step in self._steps():
            early, late = [], step.loads
            if pending is not None:
                # What the step before does not read can be loaded while it is computed.
                early = [load for slot, load in step.loads if slot not in pending.uses]
                late = [(slot, load) for slot, load in step.loads if slot in pending.uses]
            for load in early:
                load()
            if pending is not None:
                _run(pending.computes)
            _run(load for _, load in late)
            pending = step
        if pending is not None:
            _run(pending.computes)
        self._assembler.end_layer(self._layer.name)

    def _steps(self) -> Iterator[Step]:
        for number, tile in enumerate(tiles(self._problem, self._tiling)):
            acc = (number % self._tiling.acc_slots) * self._buffers.acc_slot
            steps: list[Step] = [Step(computes=[partial(self._finisher.reset, tile, acc)])]
            beside = acc + (tile.units * tile.unit_elements if self._problem.combined else 0)
            residual = list(self._residual_steps(tile, beside))
            if self._residual_plan.first:
                steps += [*residual, Step(computes=[partial(self._shift_residual, tile, beside)])]
            bias = [self._bias_step(tile, acc)] if self._problem.bias_blocks else []
            if not self._problem.combined:
                steps += bias
            steps += self._input_steps(tile, acc, self._tiling.serpentine and number % 2 > 0)
            if residual and not self._residual_plan.first:
                steps += [
                    Step(computes=[partial(self._finisher.shift, tile, acc, self._residual_plan.before)]),
                    *residual,
                ]
            if self._problem.combined:
                # The bias is the rounding of the one that is chosen.
                steps += [Step(computes=[partial(self._finisher.combine, tile, acc)]), *bias]
            steps.append(Step(computes=[partial(self._finisher.finish, tile, acc)]))
            yield from _merged(steps)

    def _load_identity(self) -> None:
        block = self._config.block
        shifts = np.arange(MAXIMUM_IDENTITY_SHIFT + 1)
        blocks = np.eye(block, dtype=np.int8)[None] << shifts[:, None, None].astype(np.int8)
        tensor = self._assembler.constant(IDENTITY, Memory.WGT, blocks.astype(np.int8))
        self._assembler.load(Memory.WGT, tensor, self._buffers.identity, self._residual_plan.factor, 1, 1, 1)

    def _residual_steps(self, tile: Tile, acc: int) -> Iterator[Step]:
        """ACC += residual << up to 6, by a GEMM with an identity block, in pieces that fit an input slot."""
        if self._layer.residual is None or self._residual is None:
            return
        slot_size, pixels = self._buffers.inp_slot, tile.height * tile.width
        if pixels <= slot_size:
            pieces = [(units, tile.rows) for units in ranges(tile.units, slot_size // pixels)]
        else:
            heights = ranges(tile.height, slot_size // tile.width)
            rows = [(tile.rows[0] + begin, tile.rows[0] + end) for begin, end in heights]
            pieces = [((unit, unit + 1), part) for unit in range(tile.units) for part in rows]
        for units, rows_part in pieces:
            slot, _ = self._inp_slots.take((tile, units, rows_part))
            step = Step(uses={(Memory.INP, slot)})
            load = partial(
                load_pixels, self._assembler, self._residual, self._layer.residual, tile, units, rows_part, slot
            )
            step.loads.append(((Memory.INP, slot), load))
            count = (units[1] - units[0]) * (rows_part[1] - rows_part[0]) * tile.width
            begin = acc + units[0] * pixels + (rows_part[0] - tile.rows[0]) * tile.width
            step.computes.append(partial(self._multiply_identity, begin, slot, count))
            yield step

    def _multiply_identity(self, acc: int, inp: int, count: int) -> None:
        region = Region(((acc, inp, self._buffers.identity),), (Dimension(count, 1, 1, 0),))
        wgt = (self._buffers.identity, self._buffers.identity + 1)
        self._assembler.multiply(region, (acc, acc + count), (inp, inp + count), wgt, self._tiling.residual_reuse)

    def _shift_residual(self, tile: Tile, acc: int) -> None:
        """What the identity block cannot do of the shift of a residual that came first."""
        span, alone = (acc, acc + tile.units * tile.unit_elements), self._residual_plan.alone
        if alone < 0:
            self._assembler.alu_linear("add", 1 << (-alone - 1), span)
        if alone:
            self._assembler.alu_linear("shr", -alone, span)

    def _bias_step(self, tile: Tile, acc: int) -> Step:
        """Accumulate the bias, which carries the rounding: bias blocks times the constant input element."""
        constant, count = self._buffers.constant, self._problem.bias_blocks
        slot, present = self._bias_slots.take((tile.groups, tile.outs))
        base = slot + self._buffers.bias
        blocks = tile.units * count
        key = (Memory.WGT, base)
        step = Step(uses={key})
        if not present:
            first = tile.first_unit * count
            load = partial(self._assembler.load, Memory.WGT, self._bias, base, first, 1, blocks, blocks)
            step.loads.append((key, load))
        dimensions = (
            Dimension(count, 0, 0, 1),
            Dimension(tile.units, tile.unit_elements, 0, count),
            Dimension(tile.unit_elements, 1, 0, 0),
        )
        region = Region(((acc, constant, base),), dimensions)
        span = (acc, acc + tile.units * tile.unit_elements)
        operands = ((constant, constant + 1), (base, base + blocks))
        step.computes.append(partial(self._assembler.multiply, region, span, *operands, self._tiling.reuse))
        return step

    def _input_steps(self, tile: Tile, acc: int, backwards: bool) -> Iterator[Step]:
        """Accumulate the input blocks, as many at a time as the tiling says: load what is not on chip, then a GEMM."""
        if tile.loaded_rows[0] >= tile.loaded_rows[1] or not tile.in_width:
            return
        problem = self._problem
        pieces = ranges(problem.ins, self._tiling.ins)
        for ins in reversed(pieces) if backwards else pieces:
            step = Step()
            wgt, wgt_span = self._take_weights(step, tile, ins)
            inp, present = self._inp_slots.take((tile.n, tile.rows, tile.columns, tile.groups, ins))
            key = (Memory.INP, inp)
            step.uses.add(key)
            if not present:
                step.loads.append((key, partial(load_input, self._assembler, self._x, self._layer.x, tile, ins, inp)))
            blocks = tile.group_count * (ins[1] - ins[0])
            inp_span = (inp, inp + blocks * tile.in_rows * tile.in_width)
            step.computes.append(
                partial(multiply, self._assembler, tile, ins, acc, inp, wgt, inp_span, wgt_span, self._tiling.reuse)
            )
            yield step

    def _take_weights(self, step: Step, tile: Tile, ins: Range) -> tuple[int, Span]:
        """First element and span of the weights of `ins` in WGT; loads them in `step` where they are not there."""
        if self._problem.shared:
            return self._buffers.shared, (self._buffers.shared, self._buffers.shared + 1)
        problem = self._problem
        columns = (ins[1] - ins[0]) * problem.taps
        wgt, present = self._wgt_slots.take((tile.groups, tile.outs, ins))
        step.uses.add((Memory.WGT, wgt))
        if not present:
            stride = problem.ins * problem.taps
            first = tile.first_unit * stride + ins[0] * problem.taps
            load = partial(load_blocks, self._assembler, self._weight, wgt, first, tile.units, columns, stride)
            step.loads.append(((Memory.WGT, wgt), load))
        return wgt, (wgt, wgt + tile.units * columns)


def _merged(steps: list[Step]) -> Iterator[Step]:
    """`steps` in order, those that load nothing joined to the one before or, at the beginning, the one after."""
    pending = Step()
    loading = False
    for step in steps:
        if step.uses and loading:
            yield pending
            pending, loading = Step(), False
        pending.loads += step.loads
        pending.computes += step.computes
        pending.uses |= step.uses
        loading = loading or bool(step.uses)
    yield pending


def _run(actions: Iterable[Callable[[], None]]) -> None:
    for action in actions:
        action()
