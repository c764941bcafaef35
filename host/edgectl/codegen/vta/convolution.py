"""Emits one convolution with its tail, tile by tile."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from edge_agent.vta.config import Config, Memory
from edge_agent.vta.isa import Alu, AluOpcode, Gemm
from edge_agent.vta.program import Role
from edgectl.codegen.vta.assembler import Assembler, Span
from edgectl.codegen.vta.bias import bias_blocks, block_count, constant_input
from edgectl.codegen.vta.buffers import BIAS_SLOTS
from edgectl.codegen.vta.layers import Activation, ConvolutionLayer, pack_weight
from edgectl.codegen.vta.loops import PREFERRED_MICRO_OPS, Base, Dimension, nests
from edgectl.codegen.vta.slots import Slots
from edgectl.codegen.vta.tiling import Problem, Tiling, buffers, choose_tiling
from edgectl.errors import CompileError

IDENTITY = "identity"
CONSTANT_INPUT = "constant_input"
MAXIMUM_IDENTITY_SHIFT = 6
"""An identity block holds 1 << shift, which must be an int8; the rest of a residual's shift is an ALU operation."""
Range = tuple[int, int]


def problem_of(layer: ConvolutionLayer, config: Config) -> Problem:
    """The extents of `layer` that decide its tiling."""
    return Problem(
        in_blocks=layer.x.blocks(config.block),
        out_blocks=layer.out.blocks(config.block),
        in_size=(layer.x.height, layer.x.width),
        out_size=(layer.out.height, layer.out.width),
        kernel=layer.kernel,
        strides=layer.strides,
        dilation=layer.dilation,
        residual=layer.residual is not None,
        bias_blocks=block_count(rounded_bias(layer), config.block),
        outer=layer.out.outer,
    )


def rounded_bias(layer: ConvolutionLayer) -> np.ndarray:
    """The layer's bias, int64 (O), with the half that makes its shift round."""
    return layer.bias.astype(np.int64) + (1 << (layer.shift - 1) if layer.shift > 0 else 0)


def packed_shape(activation: Activation, config: Config) -> tuple[int, ...]:
    """Shape of an activation in DRAM: (N/batch, ceil(C/block), H, W, batch, block)."""
    return (
        activation.outer,
        activation.blocks(config.block),
        activation.height,
        activation.width,
        config.batch,
        config.block,
    )


@dataclass(frozen=True)
class Tile:
    """Output pixels rows x columns of sample `n` and output blocks `outs`, all half-open ranges."""

    n: int
    rows: Range
    columns: Range
    outs: Range

    @property
    def height(self) -> int:
        return self.rows[1] - self.rows[0]

    @property
    def width(self) -> int:
        return self.columns[1] - self.columns[0]

    @property
    def blocks(self) -> int:
        return self.outs[1] - self.outs[0]

    @property
    def elements(self) -> int:
        return self.blocks * self.height * self.width


def _ranges(extent: int, step: int) -> list[Range]:
    return [(begin, min(begin + step, extent)) for begin in range(0, extent, step)]


class ConvolutionEmitter:
    """Emits `layer` into `assembler` under `tiling`. The roles say how its activations are declared."""

    def __init__(
        self, assembler: Assembler, layer: ConvolutionLayer, roles: dict[str, Role], tiling: Tiling | None = None
    ) -> None:
        self._assembler = assembler
        self._layer = layer
        self._config = assembler.config
        self._problem = problem_of(layer, self._config)
        self._tiling = tiling or choose_tiling(self._problem, self._config)
        config = self._config

        def declare(activation: Activation) -> int:
            return assembler.activation(activation.name, roles[activation.name], packed_shape(activation, config))

        self._x = declare(layer.x)
        self._residual = declare(layer.residual) if layer.residual is not None else None
        self._out = declare(layer.out)
        self._weight = assembler.constant(f"{layer.name}.weight", Memory.WGT, pack_weight(layer.weight, config.block))
        if self._problem.bias_blocks:
            blocks = bias_blocks(rounded_bias(layer), self._problem.bias_blocks, config.block)
            self._bias = assembler.constant(f"{layer.name}.bias", Memory.WGT, blocks)
        self._buffers = buffers(self._problem, self._tiling, config)
        self._inp_slots = Slots(self._buffers.inp_slot, self._tiling.inp_slots)
        self._wgt_slots = Slots(self._buffers.wgt_slot, self._tiling.wgt_slots)
        self._bias_slots = Slots(self._buffers.bias_slot, BIAS_SLOTS)

    def emit(self) -> None:
        """Append the layer's instructions."""
        if self._residual is not None:
            self._load_identity()
        if self._problem.bias_blocks:
            element = constant_input(self._config.batch, self._config.block)
            tensor = self._assembler.constant(CONSTANT_INPUT, Memory.INP, element)
            self._assembler.load(Memory.INP, tensor, self._buffers.constant, 0, 1, 1, 1)
        for number, tile in enumerate(self._tiles()):
            acc = (number % self._tiling.acc_slots) * self._buffers.acc_slot
            self._emit_tile(tile, acc)
        self._assembler.end_layer(self._layer.name)

    def _tiles(self) -> Iterator[Tile]:
        problem, tiling = self._problem, self._tiling
        pixels = [
            (n, rows, columns)
            for n in range(problem.outer)
            for rows in _ranges(problem.out_size[0], tiling.rows)
            for columns in _ranges(problem.out_size[1], tiling.columns)
        ]
        groups = _ranges(problem.out_blocks, tiling.out_blocks)
        if tiling.weights_outer:
            return (Tile(*pixel, outs) for outs in groups for pixel in pixels)
        return (Tile(*pixel, outs) for pixel in pixels for outs in groups)

    def _load_identity(self) -> None:
        block = self._config.block
        shifts = np.arange(MAXIMUM_IDENTITY_SHIFT + 1)
        blocks = np.eye(block, dtype=np.int8)[None] << shifts[:, None, None].astype(np.int8)
        tensor = self._assembler.constant(IDENTITY, Memory.WGT, blocks.astype(np.int8))
        shift = min(max(self._layer.residual_shift, 0), MAXIMUM_IDENTITY_SHIFT)
        self._assembler.load(Memory.WGT, tensor, self._buffers.identity, shift, 1, 1, 1)

    def _emit_tile(self, tile: Tile, acc: int) -> None:
        span = (acc, acc + tile.elements)
        self._reset(span)
        if self._residual is not None:
            self._add_residual(tile, span)
        if self._problem.bias_blocks:
            self._add_bias(tile, span)
        for ins in _ranges(self._problem.in_blocks, self._tiling.in_blocks):
            self._multiply(tile, ins, span)
        self._finish(span)
        self._store(tile, acc)

    def _reset(self, span: Span) -> None:
        self._gemm(_divided(Dimension(span[1] - span[0], 1, 0, 0)), Base(span[0], 0, 0), span)

    def _gemm(
        self,
        dimensions: tuple[Dimension, ...],
        base: Base,
        acc: Span,
        inp: Span | None = None,
        wgt: Span | None = None,
    ) -> None:
        """Accumulate products over `dimensions`; without operands, reset what they walk."""
        for nest in nests(dimensions, base, self._config):
            outer, inner = nest.outer, nest.inner
            gemm = Gemm(
                reset=inp is None and wgt is None,
                uop_bgn=0,
                uop_end=0,
                iter_out=outer.extent,
                iter_in=inner.extent,
                dst_factor_out=outer.dst,
                dst_factor_in=inner.dst,
                src_factor_out=outer.src,
                src_factor_in=inner.src,
                wgt_factor_out=outer.wgt,
                wgt_factor_in=inner.wgt,
            )
            self._assembler.gemm(gemm, nest.micro_ops, acc, inp, wgt)

    def _add_residual(self, tile: Tile, span: Span) -> None:
        """ACC = residual << residual_shift: a GEMM with an identity block, then the rest of the shift."""
        layer = self._layer
        assert self._residual is not None
        base, pixels, width = self._buffers.residual, tile.height * tile.width, self._problem.out_size[1]
        for block in range(tile.blocks):
            first = self._first_pixel(tile, block)
            self._assembler.load(
                Memory.INP, self._residual, base + block * pixels, first, tile.height, tile.width, width
            )
        dimensions = _divided(Dimension(tile.elements, 1, 1, 0))
        self._gemm(
            dimensions,
            Base(span[0], base, self._buffers.identity),
            span,
            (base, base + tile.elements),
            (self._buffers.identity, self._buffers.identity + 1),
        )
        if layer.residual_shift < 0:
            self._alu(AluOpcode.ADD, 1 << (-layer.residual_shift - 1), span)
            self._alu(AluOpcode.SHR, -layer.residual_shift, span)
        elif layer.residual_shift > MAXIMUM_IDENTITY_SHIFT:
            self._alu(AluOpcode.SHR, MAXIMUM_IDENTITY_SHIFT - layer.residual_shift, span)

    def _multiply(self, tile: Tile, ins: Range, span: Span) -> None:
        """Accumulate the input blocks `ins`: load what is not on chip, then one GEMM per group of kernel rows."""
        layer, problem = self._layer, self._problem
        kernel_w = layer.kernel[1]
        in_count = ins[1] - ins[0]
        wgt, wgt_present = self._wgt_slots.take((tile.outs, ins))
        wgt_span = (wgt, wgt + tile.blocks * in_count * layer.taps)
        if not wgt_present:
            stride = problem.in_blocks * layer.taps
            self._assembler.load(
                Memory.WGT,
                self._weight,
                wgt,
                tile.outs[0] * stride + ins[0] * layer.taps,
                tile.blocks,
                in_count * layer.taps,
                stride,
            )
        rows, columns = problem.in_rows(tile.height), problem.in_columns(tile.width)
        inp, inp_present = self._inp_slots.take((tile.n, tile.rows, tile.columns, ins))
        if not inp_present:
            self._load_input(tile, ins, inp, rows, columns)
        inp_span = (inp, inp + in_count * rows * columns)

        for (first, last), (top, bottom) in self._kernel_rows(tile):
            dimensions = (
                Dimension(last - first, 0, layer.dilation[0] * columns, kernel_w),
                Dimension(kernel_w, 0, layer.dilation[1], 1),
                Dimension(in_count, 0, rows * columns, layer.taps),
                Dimension(bottom - top, tile.width, problem.row_step * columns, 0),
                Dimension(tile.width, 1, layer.strides[1], 0),
                Dimension(tile.blocks, tile.height * tile.width, 0, in_count * layer.taps),
            )
            offset = (top - tile.rows[0]) * problem.row_step + first * layer.dilation[0]
            base = Base(span[0] + (top - tile.rows[0]) * tile.width, inp + offset * columns, wgt + first * kernel_w)
            self._gemm(dimensions, base, span, inp_span, wgt_span)

    def _kernel_rows(self, tile: Tile) -> list[tuple[Range, Range]]:
        """Groups of kernel rows with the output rows for which they lie inside the image: padding rows are skipped."""
        layer = self._layer
        groups: list[tuple[Range, Range]] = []
        for k in range(layer.kernel[0]):
            shift = layer.padding[0] - k * layer.dilation[0]
            top = max(tile.rows[0], -(-shift // layer.strides[0]))
            bottom = min(tile.rows[1], (layer.x.height - 1 + shift) // layer.strides[0] + 1)
            if top >= bottom:
                continue
            if groups and groups[-1][1] == (top, bottom) and groups[-1][0][1] == k:
                groups[-1] = ((groups[-1][0][0], k + 1), (top, bottom))
            else:
                groups.append(((k, k + 1), (top, bottom)))
        return groups

    def _load_input(self, tile: Tile, ins: Range, inp: int, rows: int, columns: int) -> None:
        """Load the tile's input rows that lie inside the image, with zeros left and right."""
        layer, problem = self._layer, self._problem
        height, width = problem.in_size
        dram_step = layer.strides[0] // problem.row_step
        top = tile.rows[0] * layer.strides[0] - layer.padding[0]
        skip = max(0, -(top // dram_step))
        inside = min(rows, -(-(height - top) // dram_step)) - skip
        left = tile.columns[0] * layer.strides[1] - layer.padding[1]
        pad_left, pad_right = max(0, -left), max(0, left + columns - width)
        if inside <= 0:
            return
        for block in range(ins[1] - ins[0]):
            row = (tile.n * problem.in_blocks + ins[0] + block) * height + top + skip * dram_step
            self._assembler.load(
                Memory.INP,
                self._x,
                inp + (block * rows + skip) * columns,
                row * width + max(left, 0),
                inside,
                columns - pad_left - pad_right,
                width * dram_step,
                pad_left,
                pad_right,
            )

    def _add_bias(self, tile: Tile, span: Span) -> None:
        """Accumulate the bias, which carries the rounding: bias blocks times the constant input element."""
        constant, count = self._buffers.constant, self._problem.bias_blocks
        base, present = self._bias_slots.take(tile.outs)
        base += self._buffers.bias
        if not present:
            blocks = tile.blocks * count
            self._assembler.load(Memory.WGT, self._bias, base, tile.outs[0] * count, 1, blocks, blocks)
        dimensions = (
            Dimension(count, 0, 0, 1),
            Dimension(tile.blocks, tile.height * tile.width, 0, count),
            *_divided(Dimension(tile.height * tile.width, 1, 0, 0)),
        )
        wgt = (base, base + tile.blocks * count)
        self._gemm(dimensions, Base(span[0], constant, base), span, (constant, constant + 1), wgt)

    def _finish(self, span: Span) -> None:
        """Shift and clip."""
        layer = self._layer
        if layer.shift:
            self._alu(AluOpcode.SHR, layer.shift, span)
        self._alu(AluOpcode.MAX, layer.low, span)
        self._alu(AluOpcode.MIN, layer.high, span)

    def _alu(self, opcode: AluOpcode, imm: int, span: Span) -> None:
        """An operation with an immediate on every element of `span`."""
        for nest in nests(_divided(Dimension(span[1] - span[0], 1, 1, 0)), Base(span[0], span[0], 0), self._config):
            alu = Alu(
                alu_opcode=opcode,
                use_imm=True,
                imm=imm,
                uop_bgn=0,
                uop_end=0,
                iter_out=nest.outer.extent,
                iter_in=nest.inner.extent,
                dst_factor_out=nest.outer.dst,
                dst_factor_in=nest.inner.dst,
                src_factor_out=nest.outer.src,
                src_factor_in=nest.inner.src,
            )
            self._assembler.alu(alu, nest.micro_ops, span)

    def _first_pixel(self, tile: Tile, block: int) -> int:
        """The DRAM element of the tile's first pixel in its block `block`; a residual lies as the output does."""
        height, width = self._problem.out_size
        plane = tile.n * self._problem.out_blocks + tile.outs[0] + block
        return (plane * height + tile.rows[0]) * width + tile.columns[0]

    def _store(self, tile: Tile, acc: int) -> None:
        pixels = tile.height * tile.width
        if (tile.height, tile.width) == self._problem.out_size:
            elements = tile.blocks * pixels
            self._assembler.store(self._out, acc, self._first_pixel(tile, 0), 1, elements, elements)
            return
        width = self._problem.out_size[1]
        for block in range(tile.blocks):
            first = self._first_pixel(tile, block)
            self._assembler.store(self._out, acc + block * pixels, first, tile.height, tile.width, width)


def _divided(dimension: Dimension) -> tuple[Dimension, ...]:
    """A linear walk as (steps, elements of a step), so that a short micro-op list serves a long walk."""
    for size in range(min(PREFERRED_MICRO_OPS, dimension.extent), 0, -1):
        if dimension.extent % size == 0:
            break
    coarse = Dimension(dimension.extent // size, dimension.dst * size, dimension.src * size, dimension.wgt * size)
    return (coarse, Dimension(size, dimension.dst, dimension.src, dimension.wgt))


def fits(layer: ConvolutionLayer, config: Config) -> bool:
    """Whether some tiling of `layer` fits the buffers."""
    try:
        choose_tiling(problem_of(layer, config), config)
    except CompileError:
        return False
    return True
