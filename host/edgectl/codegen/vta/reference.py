"""What layers compute, from their definition alone: NumPy on packed tensors, without tiles or instructions.

Whole blocks are computed, whatever is in the lanes that fill up the last one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edge_agent.vta.config import Config
from edgectl.codegen.vta.layers import Activation, Layer
from edgectl.operators.layout import Pack, Unpack
from edgectl.operators.planes import SplitPlanes
from edgectl.operators.pooling import MaxPool
from edgectl.operators.quantization import rounding_shift
from edgectl.operators.windows import convolve


def evaluate(layers: Sequence[Layer], inputs: Mapping[str, np.ndarray], config: Config) -> dict[str, np.ndarray]:
    """All packed tensors, int8 by name, after computing `layers` in order from packed `inputs`."""
    memory = dict(inputs)
    for layer in layers:
        x = _read(memory, layer.x, config).astype(np.float64)
        weight = _unpacked_weight(layer, config)
        total = convolve(x, weight, layer.strides, layer.padding, layer.dilation, layer.groups).astype(np.int32)
        # Lanes that fill up the last block have no bias, hence no rounding either.
        bias = np.pad(layer.rounded_bias, (0, total.shape[1] - len(layer.bias))).astype(np.int32).reshape(1, -1, 1, 1)
        if layer.residual is not None:
            residual = _read(memory, layer.residual, config).astype(np.int32)
            shifted = rounding_shift(residual, -layer.residual_shift)
            total = {"add": np.add, "max": np.maximum, "min": np.minimum}[layer.combine](total, shifted)
        total = total + bias
        if layer.pool is not None:
            total = MaxPool(layer.pool.kernel, layer.pool.strides, layer.pool.padding).evaluate(total)
        if layer.wide:
            memory[layer.out.name] = SplitPlanes(config.batch, config.block).evaluate(total)
            continue
        shifted = total >> np.int32(layer.shift) if layer.shift > 0 else total << np.int32(-layer.shift)
        if layer.low is not None or layer.high is not None:
            shifted = np.clip(shifted, layer.low, layer.high)
        _write(memory, layer.out, Pack(config.batch, config.block).evaluate(shifted.astype(np.int8)), config)
    return memory


def _read(memory: Mapping[str, np.ndarray], activation: Activation, config: Config) -> np.ndarray:
    """int8 (N, C, H, W), C filled up to blocks."""
    first, blocks = activation.first_channel // config.block, activation.blocks(config.block)
    return Unpack(blocks * config.block).evaluate(memory[activation.name][:, first : first + blocks])


def _write(memory: dict[str, np.ndarray], activation: Activation, packed: np.ndarray, config: Config) -> None:
    shape = (packed.shape[0], activation.storage_blocks(config.block), *packed.shape[2:])
    whole = memory.setdefault(activation.name, np.zeros(shape, np.int8))
    first = activation.first_channel // config.block
    whole[:, first : first + packed.shape[1]] = packed


def _unpacked_weight(layer: Layer, config: Config) -> np.ndarray:
    """float64 (groups * outs * block, ins * block, KH, KW)."""
    weight = layer.weight
    if layer.shared:
        weight = np.broadcast_to(weight, (layer.groups, 1, *layer.kernel, config.block, config.block))
    units, ins, kernel_h, kernel_w = weight.shape[:4]
    channels = weight.transpose(0, 4, 1, 5, 2, 3)
    return channels.reshape(units * config.block, ins * config.block, kernel_h, kernel_w).astype(np.float64)
