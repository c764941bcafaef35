"""What layers compute by definition, against the model's operators and by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edge_agent.vta.config import DEFAULT_CONFIG, Config
from edgectl.codegen.vta.layers import Activation, Layer, Pool
from edgectl.codegen.vta.packing import identity, pack_weight
from edgectl.codegen.vta.reference import evaluate
from edgectl.operators.integer import IntegerConvolution
from edgectl.operators.layout import Pack, Unpack
from edgectl.operators.planes import JoinPlanes
from edgectl.operators.pooling import MaxPool

BATCHED = Config.parse("4x8_i8w8a32_15_16_16_18")
RNG = np.random.default_rng(0)
NO_BIAS = np.zeros(16, np.int32)


def copy(x: Activation, out: Activation) -> Layer:
    """A layer of one block that passes what it reads."""
    return Layer("copy", x, out, identity(16, 1), NO_BIAS[: x.channels], shared=True)


@pytest.mark.parametrize("config", [DEFAULT_CONFIG, BATCHED], ids=lambda config: config.name)
def test_a_convolution_with_a_pool_and_a_residual(config: Config) -> None:
    operator = IntegerConvolution((2, 1), (1, 0, 2, 1), (1, 2), shift=9, low=0, high=99, residual_shift=4)
    weight = RNG.integers(-128, 128, (21, 18, 3, 2), dtype=np.int8)
    bias = RNG.integers(-9999, 9999, 21, dtype=np.int32)
    x = RNG.integers(-128, 128, (4, 18, 7, 8), dtype=np.int8)
    residual = RNG.integers(-128, 128, (4, 21, 4, 7), dtype=np.int8)
    outer = 4 // config.batch
    layer = Layer(
        "y",
        Activation("x", outer, 18, 7, 8),
        Activation("y", outer, 21, 4, 7),
        pack_weight(weight, 1, 1, config.block),
        bias,
        Activation("r", outer, 21, 4, 7),
        kernel=(3, 2),
        strides=(2, 1),
        padding=(1, 0, 2, 1),
        dilation=(1, 2),
        shift=9,
        low=0,
        high=99,
        residual_shift=4,
    )
    pack = Pack(config.batch, config.block)
    inputs = {"x": pack.evaluate(x), "r": pack.evaluate(residual)}
    expected = operator.evaluate(x, weight, bias, residual)
    np.testing.assert_array_equal(Unpack(21).evaluate(evaluate([layer], inputs, config)["y"]), expected)
    pooled = replace(layer, pool=Pool((2, 3), (2, 2), (0, 1, 0, 1)), out=Activation("y", outer, 21, 2, 4))
    np.testing.assert_array_equal(
        Unpack(21).evaluate(evaluate([pooled], inputs, config)["y"]),
        MaxPool((2, 3), (2, 2), (0, 1, 0, 1)).evaluate(expected),
    )


def test_int32_leaves_in_planes() -> None:
    x = RNG.integers(-128, 128, (1, 5, 3, 3), dtype=np.int8)
    layer = replace(
        copy(Activation("x", 1, 5, 3, 3), Activation("y", 1, 5, 1, 1)), kernel=(3, 3), wide=True, bias=NO_BIAS[:5] - 9
    )
    planes = evaluate([layer], {"x": Pack().evaluate(x)}, DEFAULT_CONFIG)["y"]
    assert planes.shape == (4, 1, 1, 1, 1, 1, 16)
    expected = x.sum(axis=(2, 3), keepdims=True, dtype=np.int32) - 9
    np.testing.assert_array_equal(JoinPlanes(5).evaluate(planes), expected)


def test_channels_of_a_larger_tensor() -> None:
    """Written side by side by two layers, in any order; read from their place by a third."""
    a, b = (RNG.integers(-128, 128, (1, channels, 2, 2), dtype=np.int8) for channels in (16, 9))
    whole = Activation("whole", 1, 25, 2, 2)
    first = replace(whole, channels=16, storage_channels=25)
    second = replace(whole, channels=9, first_channel=16, storage_channels=25)
    layers = [
        copy(Activation("b", 1, 9, 2, 2), second),
        copy(Activation("a", 1, 16, 2, 2), first),
        copy(second, Activation("again", 1, 9, 2, 2)),
    ]
    made = evaluate(layers, {"a": Pack().evaluate(a), "b": Pack().evaluate(b)}, DEFAULT_CONFIG)
    np.testing.assert_array_equal(Unpack(25).evaluate(made["whole"]), np.concatenate([a, b], axis=1))
    np.testing.assert_array_equal(Unpack(9).evaluate(made["again"]), b)


def test_a_shift_to_the_left_and_rounding_half_up() -> None:
    x = np.array([-3, -2, -1, 0, 1, 2, 3, 127], np.int8).reshape(1, 8, 1, 1)
    layer = copy(Activation("x", 1, 8, 1, 1), Activation("y", 1, 8, 1, 1))

    def values(**options: int) -> list[int]:
        made = evaluate([replace(layer, **options)], {"x": Pack().evaluate(x)}, DEFAULT_CONFIG)  # type: ignore[arg-type]
        return [int(value) for value in Unpack(8).evaluate(made["y"]).ravel()]

    assert values() == [-3, -2, -1, 0, 1, 2, 3, 127]
    assert values(shift=1) == [-1, -1, 0, 0, 1, 1, 2, 64]
    assert values(shift=-2, low=-9, high=100) == [-9, -8, -4, 0, 4, 8, 12, 100]
