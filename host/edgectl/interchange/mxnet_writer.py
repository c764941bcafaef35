"""Models as MXNet symbols and arrays, which stock MXNet 1.x loads. MXNet is not needed to write them.

WRITERS says how each operator of the graph becomes operators of MXNet; to add one, write a function and enter it there.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from edgectl.errors import ModelError
from edgectl.frontends.problems import refuse, unsupported_operators
from edgectl.graph import Model, Node
from edgectl.interchange.pool_windows import symmetric
from edgectl.interchange.translation import Names, StoredParameter, Translation, layer_of, role
from edgectl.operators.activation import Clip, Erf, LeakyRelu, Relu, Sigmoid, Softmax, Tanh
from edgectl.operators.base import Operator, Padding
from edgectl.operators.batch_norm import BatchNorm
from edgectl.operators.convolution import Convolution
from edgectl.operators.dense import Dense
from edgectl.operators.elementwise import Binary, Scalar
from edgectl.operators.local_response import LocalResponseNorm
from edgectl.operators.pooling import AveragePool, GlobalPool, MaxPool
from edgectl.operators.shape import Concatenate, Flatten, Pad, Reshape, Slice, Transpose, Upsample
from edgectl.registration import registering

MXNET_VERSION = 10901
LOWEST = float(np.finfo(np.float32).min)
"""Padding that never wins a maximum; MXNet's Pad takes no infinity."""
Value = int
"""Index of a node in the symbol."""


class SymbolWriter:
    """The nodes of a symbol under construction."""

    def __init__(self, model: Model) -> None:
        self.model, self.types = model, model.types()
        self.nodes: list[dict[str, Any]] = []
        self.values: dict[str, Value] = {}
        self.stored: list[StoredParameter] = []
        self.names, self.inputs = Names(), dict[str, str]()
        # Inputs have their names whatever else is called so: others depend on them.
        for name, kind in model.inputs.items():
            self.inputs[name] = self.names.unique(legal(name))
            self.values[name] = self._variable(self.inputs[name], kind.shape)
        self.targets = {node.name: self.names.unique(legal(node.name)) for node in model.nodes}

    def _variable(self, name: str, shape: tuple[int, ...]) -> Value:
        # A hint, which the shapes that a user binds replace.
        return self._append("null", name, {"__shape__": str(tuple(shape))}, ())

    def _append(self, op: str, name: str, attributes: Mapping[str, Any], inputs: tuple[Value, ...]) -> Value:
        node: dict[str, Any] = {"op": op, "name": name}
        if attributes:
            node["attrs"] = {key: _text(value) for key, value in attributes.items()}
        self.nodes.append({**node, "inputs": [[index, 0, 0] for index in inputs]})
        return len(self.nodes) - 1

    def operator(self, node: Node, op: str, *inputs: Value, part: str = "", **attributes: Any) -> Value:
        """An MXNet operator under the layer's name; `part` names one that the layer needs before its last."""
        name = self.names.unique(f"{self.targets[node.name]}_{part}") if part else self.targets[node.name]
        return self._append(op, name, attributes, inputs)

    def operand(self, node: Node, index: int, rank: int = 1) -> Value:
        """Input `index` of a layer: another layer's value, an input, or a parameter with at least `rank` axes."""
        name = node.inputs[index]
        if name not in self.model.parameters:
            return self.values[name]
        array = self.model.parameters[name]
        key = f"{name} {max(array.ndim, rank)}"  # The same array may be stored twice, with other axes.
        if key not in self.values:
            # MXNet neither stores scalars nor broadcasts across ranks.
            shaped = array.reshape((1,) * (rank - array.ndim) + array.shape) if array.ndim < rank else array
            self.values[key] = self._parameter(node, index, name, shaped)
        return self.values[key]

    def array(self, node: Node, suffix: str, array: np.ndarray) -> Value:
        """An array that the model has not."""
        name = self.names.unique(f"{self.targets[node.name]}_{suffix}")
        self.stored.append(StoredParameter("", name, array))
        return self._variable(name, array.shape)

    def _parameter(self, node: Node, index: int, name: str, array: np.ndarray) -> Value:
        wanted = name
        if re.search(r"[^\w-]", name):
            layer = layer_of(name) or self.targets[node.name]
            wanted = f"{legal(layer)}_{role(node, index)}"
        target = self.names.unique(wanted)
        self.stored.append(StoredParameter(name, target, np.asarray(array, np.float32)))
        return self._variable(target, array.shape)


def legal(name: str) -> str:
    """`name` as MXNet's users write names: dots of module paths become underscores."""
    return re.sub(r"[^\w-]+", "_", name) or "value"


def _text(value: Any) -> str:
    return repr(float(value)) if isinstance(value, float) else str(value)


def to_symbol(model: Model) -> tuple[str, Translation]:
    """The text of a symbol file that computes `model`, and what its layers and parameters are called there.

    Inputs keep their names, layers and parameters too where MXNet's users could have written them; module paths such
    as "layer1.0.conv1" become "layer1_0_conv1", with the parameters that MXNet gives such a layer. Raises ModelError
    that lists every layer which MXNet cannot express.
    """
    unknown: dict[str, list[str]] = {}
    for node in model.nodes:
        if type(node.operator) not in WRITERS:
            unknown.setdefault(node.operator.kind, []).append(node.label)
    refuse(f"{model.name} cannot be written for MXNet", unsupported_operators(unknown))
    writer = SymbolWriter(model)
    for node in model.nodes:
        writer.values[node.name] = WRITERS[type(node.operator)](writer, node, node.operator)
    for name in model.outputs:
        if name not in writer.targets:
            raise ModelError(f"{model.name}: output '{name}' is an input or a parameter; there is nothing to compute")
    document = {
        "nodes": writer.nodes,
        "arg_nodes": [index for index, node in enumerate(writer.nodes) if node["op"] == "null"],
        "heads": [[writer.values[name], 0, 0] for name in model.outputs],
        "attrs": {"mxnet_version": ["int", MXNET_VERSION]},
    }
    return json.dumps(document, indent=1) + "\n", Translation({**writer.inputs, **writer.targets}, tuple(writer.stored))


Writer = Callable[[SymbolWriter, Node, Any], Value]
WRITERS: dict[type[Operator], Writer] = {}
"""Operator -> how MXNet says it."""
writes = registering(WRITERS)
"""Enters a writer into the table under the operator's class."""


def _padded(to: SymbolWriter, node: Node, x: Value, padding: Padding, value: float = 0.0) -> Value:
    top, left, bottom, right = padding
    if not any(padding):
        return x
    widths = (0, 0, 0, 0, top, bottom, left, right)
    return to.operator(node, "Pad", x, part="pad", mode="constant", pad_width=widths, constant_value=value)


@writes(Convolution)
def convolution(to: SymbolWriter, node: Node, operator: Convolution) -> Value:
    x = to.operand(node, 0)
    top, left, bottom, right = operator.padding
    pad = (top, left)
    if (top, left) != (bottom, right):
        x, pad = _padded(to, node, x, operator.padding), (0, 0)
    shape = to.types[node.inputs[1]].shape
    return to.operator(
        node, "Convolution", x, *(to.operand(node, index) for index in range(1, len(node.inputs))),
        kernel=shape[2:], stride=operator.strides, pad=pad, dilate=operator.dilation, num_filter=shape[0],
        num_group=operator.groups, no_bias=len(node.inputs) == 2,
    )  # fmt: skip


@writes(Dense)
def dense(to: SymbolWriter, node: Node, operator: Dense) -> Value:
    operands = (to.operand(node, index) for index in range(len(node.inputs)))
    units = to.types[node.name].shape[1]
    return to.operator(node, "FullyConnected", *operands, num_hidden=units, no_bias=len(node.inputs) == 2, flatten=True)


@writes(BatchNorm)
def batch_norm(to: SymbolWriter, node: Node, operator: BatchNorm) -> Value:
    operands = (to.operand(node, index) for index in range(5))
    return to.operator(
        node, "BatchNorm", *operands, eps=operator.epsilon, momentum=operator.momentum, fix_gamma=operator.fix_gamma,
        use_global_stats=False, axis=1,
    )  # fmt: skip


@writes(MaxPool)
def max_pool(to: SymbolWriter, node: Node, operator: MaxPool) -> Value:
    return _pool(to, node, operator, "max", LOWEST)


@writes(AveragePool)
def average_pool(to: SymbolWriter, node: Node, operator: AveragePool) -> Value:
    return _pool(to, node, operator, "avg", 0.0)


def _pool(to: SymbolWriter, node: Node, operator: MaxPool | AveragePool, kind: str, padding: float) -> Value:
    x, shape = to.operand(node, 0), to.types[node.inputs[0]]
    common: dict[str, Any] = {"kernel": operator.kernel, "stride": operator.strides, "pool_type": kind}
    windows = symmetric(operator, shape)
    if windows is not None:
        convention = "full" if windows.ceil else "valid"
        common |= {"pad": windows.padding, "pooling_convention": convention}
        if kind == "avg":
            common["count_include_pad"] = windows.count_include_pad
        return to.operator(node, "Pooling", x, **common)
    around = operator.padding if isinstance(operator, MaxPool) else operator.full_padding
    x = _padded(to, node, x, around, padding)
    if isinstance(operator, MaxPool):
        return to.operator(node, "Pooling", x, **common)
    divisors = operator.divisors(*shape.shape[2:])
    area = math.prod(operator.kernel)
    if np.all(divisors == area):
        return to.operator(node, "Pooling", x, **common)
    mean = to.operator(node, "Pooling", x, part="window", **common)
    share = to.array(node, "share", (area / divisors).astype(np.float32)[np.newaxis, np.newaxis])
    return to.operator(node, "broadcast_mul", mean, share)


@writes(GlobalPool)
def global_pool(to: SymbolWriter, node: Node, operator: GlobalPool) -> Value:
    kind = "avg" if operator.mode == "average" else "max"
    return to.operator(node, "Pooling", to.operand(node, 0), kernel=(1, 1), global_pool=True, pool_type=kind)


def _unary(op: str, attributes: Callable[[Any], Mapping[str, Any]] = lambda operator: {}) -> Writer:
    return lambda to, node, operator: to.operator(node, op, to.operand(node, 0), **attributes(operator))


WRITERS[Relu] = _unary("Activation", lambda operator: {"act_type": "relu"})
WRITERS[Sigmoid] = _unary("Activation", lambda operator: {"act_type": "sigmoid"})
WRITERS[Tanh] = _unary("Activation", lambda operator: {"act_type": "tanh"})
WRITERS[Erf] = _unary("erf")
WRITERS[LocalResponseNorm] = _unary(
    "LRN", lambda norm: {"nsize": norm.size, "alpha": norm.alpha, "beta": norm.beta, "knorm": norm.bias}
)
WRITERS[LeakyRelu] = _unary("LeakyReLU", lambda operator: {"act_type": "leaky", "slope": float(operator.slope)})
WRITERS[Softmax] = _unary("softmax", lambda operator: {"axis": operator.axis})
WRITERS[Flatten] = _unary("Flatten")
WRITERS[Reshape] = _unary("Reshape", lambda operator: {"shape": (0, *operator.shape)})
WRITERS[Transpose] = _unary("transpose", lambda operator: {"axes": operator.axes})


@writes(Clip)
def clip(to: SymbolWriter, node: Node, operator: Clip) -> Value:
    # Float32's extremes stand for infinity.
    low, high = max(float(operator.low), LOWEST), min(float(operator.high), -LOWEST)
    return to.operator(node, "clip", to.operand(node, 0), a_min=low, a_max=high)


@writes(Pad)
def pad(to: SymbolWriter, node: Node, operator: Pad) -> Value:
    top, left, bottom, right = operator.padding
    value = min(max(float(operator.value), LOWEST), -LOWEST)
    widths = (0, 0, 0, 0, top, bottom, left, right)
    return to.operator(node, "Pad", to.operand(node, 0), mode="constant", pad_width=widths, constant_value=value)


@writes(Upsample)
def upsample(to: SymbolWriter, node: Node, operator: Upsample) -> Value:
    x, (rows, columns) = to.operand(node, 0), operator.scale
    if rows == columns:
        return to.operator(node, "UpSampling", x, scale=rows, sample_type="nearest", num_args=1)
    if columns != 1:
        x = to.operator(node, "repeat", x, part="columns", repeats=columns, axis=3)
    return to.operator(node, "repeat", x, repeats=rows, axis=2)


@writes(Slice)
def cut(to: SymbolWriter, node: Node, operator: Slice) -> Value:
    x = to.operand(node, 0)
    if operator.step == 1:
        return to.operator(node, "slice_axis", x, axis=operator.axis, begin=operator.start, end=operator.stop)
    whole = (None,) * operator.axis
    begin, end, step = (*whole, operator.start), (*whole, operator.stop), (*whole, operator.step)
    return to.operator(node, "slice", x, begin=begin, end=end, step=step)


@writes(Concatenate)
def concatenate(to: SymbolWriter, node: Node, operator: Concatenate) -> Value:
    operands = [to.operand(node, index) for index in range(len(node.inputs))]
    return to.operator(node, "Concat", *operands, num_args=len(operands), dim=operator.axis)


BINARY = {
    "add": ("elemwise_add", "broadcast_add"),
    "subtract": ("elemwise_sub", "broadcast_sub"),
    "multiply": ("elemwise_mul", "broadcast_mul"),
    "divide": ("elemwise_div", "broadcast_div"),
    "maximum": ("broadcast_maximum", "broadcast_maximum"),
    "minimum": ("broadcast_minimum", "broadcast_minimum"),
}
"""Function -> MXNet's operator for equal shapes, and for others."""


@writes(Binary)
def binary(to: SymbolWriter, node: Node, operator: Binary) -> Value:
    one, other = (to.types[name] for name in node.inputs)
    equal = one.shape == other.shape
    rank = max(len(one.shape), len(other.shape))
    operands = [_of_rank(to, node, index, rank) for index in (0, 1)]
    return to.operator(node, BINARY[operator.function][0 if equal else 1], *operands)


def _of_rank(to: SymbolWriter, node: Node, index: int, rank: int) -> Value:
    """An operand with as many axes as the other has."""
    value, name = to.operand(node, index, rank), node.inputs[index]
    missing = rank - len(to.types[name].shape)
    if name in to.model.parameters or not missing:
        return value
    shape = (*(1,) * missing, *to.types[name].shape)
    return to.operator(node, "Reshape", value, part=f"rank{index}", shape=shape)


SCALAR = {
    ("add", False): "_plus_scalar", ("add", True): "_plus_scalar",
    ("subtract", False): "_minus_scalar", ("subtract", True): "_rminus_scalar",
    ("multiply", False): "_mul_scalar", ("multiply", True): "_mul_scalar",
    ("divide", False): "_div_scalar", ("divide", True): "_rdiv_scalar",
    ("maximum", False): "_maximum_scalar", ("maximum", True): "_maximum_scalar",
    ("minimum", False): "_minimum_scalar", ("minimum", True): "_minimum_scalar",
}  # fmt: skip


@writes(Scalar)
def scalar(to: SymbolWriter, node: Node, operator: Scalar) -> Value:
    op = SCALAR[operator.function, operator.reverse]
    return to.operator(node, op, to.operand(node, 0), scalar=float(operator.value))
