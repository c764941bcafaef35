"""Small float networks with every pattern that the rewriter knows."""

from __future__ import annotations

import numpy as np

from edgectl.graph import Model, Node
from edgectl.operators.activation import Clip, LeakyRelu, Relu, Sigmoid, Softmax, Tanh
from edgectl.operators.base import Operator, TensorType
from edgectl.operators.batch_norm import BatchNorm
from edgectl.operators.convolution import Convolution
from edgectl.operators.dense import Dense
from edgectl.operators.elementwise import Binary, Scalar
from edgectl.operators.pooling import AveragePool, GlobalPool, MaxPool
from edgectl.operators.shape import Concatenate, Flatten, Reshape

SMALL = (1, 16, 6, 6)
"""The input of a network of a few layers."""


def noise(count: int) -> np.ndarray:
    """Normally distributed images for such a network."""
    return np.random.default_rng(0).standard_normal((count, *SMALL[1:])).astype(np.float32)


def kinds(model: Model) -> list[str]:
    """The kinds of a model's operators, in order."""
    return [node.operator.kind for node in model.nodes]


class NetworkBuilder:
    """Adds layers one by one; parameters are seeded."""

    def __init__(self, shape: tuple[int, ...] = (1, 3, 16, 16), seed: int = 0) -> None:
        self._rng = np.random.default_rng(seed)
        self._shape = shape
        self.nodes: list[Node] = []
        self.parameters: dict[str, np.ndarray] = {}

    def add(self, name: str, operator: Operator, *inputs: str) -> str:
        self.nodes.append(Node(name, operator, inputs, name))
        return name

    def parameter(self, name: str, *shape: int, scale: float = 1.0, offset: float = 0.0) -> str:
        self.parameters[name] = (self._rng.standard_normal(shape) * scale + offset).astype(np.float32)
        return name

    def convolution(self, name: str, x: str, channels: tuple[int, int], kernel: int = 3, stride: int = 1) -> str:
        pad = (kernel // 2,) * 4
        fan = channels[0] * kernel * kernel
        weight = self.parameter(f"{name}.w", channels[1], channels[0], kernel, kernel, scale=(2 / fan) ** 0.5)
        return self.add(name, Convolution((stride, stride), pad), x, weight)

    def batch_norm(self, name: str, x: str, channels: int) -> str:
        parts = [
            self.parameter(f"{name}.{part}", channels, scale=0.2, offset=offset)
            for part, offset in (("gamma", 1.0), ("beta", 0.0), ("mean", 0.0))
        ]
        self.parameters[f"{name}.variance"] = self._rng.uniform(0.5, 1.5, channels).astype(np.float32)
        return self.add(name, BatchNorm(), x, *parts, f"{name}.variance")

    def dense(self, name: str, x: str, features: int, classes: int) -> str:
        weight = self.parameter(f"{name}.w", classes, features, scale=features**-0.5)
        return self.add(name, Dense(), x, weight, self.parameter(f"{name}.b", classes))

    def model(self, output: str) -> Model:
        return Model("net", {"data": TensorType(self._shape)}, tuple(self.nodes), self.parameters, (output,))


def residual_network() -> Model:
    """Post-activation residual blocks, one with a downsampling shortcut, max-pool, average, dense."""
    net = NetworkBuilder()
    x = net.add("relu0", Relu(), net.batch_norm("bn0", net.convolution("conv0", "data", (3, 16)), 16))
    x = net.add("pool", MaxPool((3, 3), (2, 2), (1, 1, 1, 1)), x)
    y = net.add("relu1", Relu(), net.batch_norm("bn1", net.convolution("conv1", x, (16, 16)), 16))
    y = net.batch_norm("bn2", net.convolution("conv2", y, (16, 16)), 16)
    x = net.add("relu2", Relu(), net.add("add1", Binary("add"), x, y))
    short = net.batch_norm("bn3", net.convolution("conv3", x, (16, 32), 1, 2), 32)
    y = net.add("relu3", Relu(), net.batch_norm("bn4", net.convolution("conv4", x, (16, 32), 3, 2), 32))
    y = net.batch_norm("bn5", net.convolution("conv5", y, (32, 32)), 32)
    x = net.add("relu4", Relu(), net.add("add2", Binary("add"), short, y))
    x = net.add("flat", Flatten(), net.add("mean", GlobalPool(), x))
    return net.model(net.dense("fc", x, 32, 10))


def pre_activation_network() -> Model:
    """Batch normalisation on the input, stand-alone BN-ReLU, residual adds whose sum is read twice, softmax."""
    net = NetworkBuilder(seed=3)
    x = net.convolution("conv0", net.batch_norm("bn_data", "data", 3), (3, 16))
    y = net.add("relu1", Relu(), net.batch_norm("bn1", x, 16))
    y = net.convolution("conv1", y, (16, 16))
    x = net.add("add1", Binary("add"), y, x)
    y = net.add("relu2", Relu(), net.batch_norm("bn2", x, 16))
    y = net.convolution("conv2", y, (16, 16))
    x = net.add("add2", Binary("add"), y, x)
    x = net.add("mean", GlobalPool(), net.add("relu3", Relu(), net.batch_norm("bn3", x, 16)))
    return net.model(net.add("probability", Softmax(), net.dense("fc", net.add("flat", Flatten(), x), 16, 10)))


def mixed_network() -> Model:
    """Concatenation, ReLU6, an add without a convolution, operators with no integer form, two dense layers."""
    net = NetworkBuilder(seed=5)
    a = net.add("clip", Clip(0, 6), net.convolution("conv0", "data", (3, 20)))
    b = net.add("relu0", Relu(), net.convolution("conv1", a, (20, 20)))
    x = net.add("cat", Concatenate(1), a, b)
    x = net.add("gate", Binary("multiply"), x, net.add("softmax", Softmax(1), x))
    y = net.add("pool", MaxPool((3, 3), (1, 1), (1, 1, 1, 1)), x)
    x = net.add("relu1", Relu(), net.add("sum", Binary("add"), x, y))
    x = net.add("flat", Flatten(), net.add("mean", GlobalPool(), net.convolution("conv2", x, (40, 24), 1)))
    x = net.add("relu2", Relu(), net.dense("fc0", x, 24, 32))
    return net.model(net.dense("fc1", x, 32, 10))


def dense_network() -> Model:
    """Densely connected: concatenations of everything before, average pools between."""
    net = NetworkBuilder(seed=7)
    x = net.add("relu0", Relu(), net.convolution("conv0", "data", (3, 16)))
    for block, channels in enumerate((16, 32)):
        y = net.add(f"relu{block}a", Relu(), net.batch_norm(f"bn{block}", x, channels))
        y = net.convolution(f"conv{block}a", y, (channels, 16))
        x = net.add(f"cat{block}", Concatenate(1), x, y)
        x = net.add(f"pool{block}", AveragePool((2, 2), (2, 2)), x)
    x = net.add("pool", AveragePool((3, 3), (1, 1), (1, 1, 1, 1)), x)
    x = net.add("flat", Flatten(), net.add("mean", GlobalPool(), x))
    return net.model(net.dense("fc", x, 48, 10))


def gated_network() -> Model:
    """Functions of one value from one operator to six, one of them a residual; a gate for each channel (squeeze and
    excitation), a product of two tensors, a concatenation of tables."""
    net = NetworkBuilder(seed=9)
    x = hard_swish(net, "swish0", net.batch_norm("bn0", net.convolution("conv0", "data", (3, 20)), 20))
    y = net.add("flat0", Flatten(), net.add("squeeze", GlobalPool(), x))
    y = net.add("excite0", Relu(), net.dense("fc0", y, 20, 8))
    y = net.add("gate", Sigmoid(), net.dense("fc1", y, 8, 20))
    x = net.add("scaled", Binary("multiply"), x, net.add("gates", Reshape((20, 1, 1)), y))
    y = net.add("leaky", LeakyRelu(0.1), net.convolution("conv1", x, (20, 20)))
    x = net.add("sum", Binary("add"), y, x)
    y = net.convolution("conv2", x, (20, 20))
    z = net.add("silu", Binary("multiply"), y, net.add("sigmoid", Sigmoid(), y))
    x = net.add("cat", Concatenate(1), z, net.add("tanh", Tanh(), x))
    x = net.add(
        "product", Binary("multiply"), net.convolution("conv3", x, (40, 24)), net.convolution("conv4", x, (40, 24))
    )
    x = net.add("flat", Flatten(), net.add("mean", GlobalPool(), net.add("relu", Relu(), x)))
    return net.model(net.dense("fc", x, 24, 10))


def hard_swish(net: NetworkBuilder, name: str, x: str) -> str:
    """x * clip(x + 3, 0, 6) / 6."""
    y = net.add(f"{name}.clip", Clip(0, 6), net.add(f"{name}.add", Scalar("add", 3.0), x))
    return net.add(name, Binary("multiply"), x, net.add(f"{name}.sixth", Scalar("divide", 6.0), y))


NETWORKS = {
    "dense": dense_network,
    "residual": residual_network,
    "pre_activation": pre_activation_network,
    "mixed": mixed_network,
    "gated": gated_network,
}
