"""How PyTorch says each operator of the graph: as a module, as an expression, or both.

TRANSLATORS holds one function for each operator; to add one, write it and enter it there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgectl.graph import Model, Node
from edgectl.interchange.pool_windows import symmetric
from edgectl.operators.activation import Clip, Erf, LeakyRelu, Relu, Sigmoid, Softmax, Tanh
from edgectl.operators.base import Operator, Padding, TensorType
from edgectl.operators.batch_norm import BatchNorm
from edgectl.operators.convolution import Convolution
from edgectl.operators.dense import Dense
from edgectl.operators.elementwise import Binary, Scalar
from edgectl.operators.local_response import LocalResponseNorm
from edgectl.operators.pooling import AveragePool, GlobalPool, MaxPool
from edgectl.operators.shape import Concatenate, Flatten, Pad, Reshape, Slice, Transpose, Upsample
from edgectl.registration import registering


@dataclass(frozen=True)
class Expression:
    """Python code with a slot `{}` for each of `values`: (what it is, in a word; code)."""

    template: str
    values: tuple[tuple[str, str], ...] = ()

    def code(self) -> str:
        return self.template.format(*(value for _, value in self.values))


@dataclass(frozen=True)
class Step:
    """One call in forward: `operands` (values, or parameters of the model) -> `value`.

    `module` constructs a module that does it, `function` is code with a slot for each operand. A step with `state`
    (field of the module -> the parameter's name in the model, and its array) is always a module; `constants` are those
    operands that are arrays (operand -> the same).
    """

    node: Node
    value: str
    operands: tuple[str, ...]
    module: Expression | None = None
    function: str = ""
    state: Mapping[str, tuple[str, np.ndarray]] = field(default_factory=dict)
    constants: Mapping[str, tuple[str, np.ndarray]] = field(default_factory=dict)

    @property
    def part(self) -> str:
        """What the step is beside the layer's own: "pad" and the like; empty for the layer itself."""
        return self.value[len(self.node.name) + 1 :] if self.value != self.node.name else ""


class Layer:
    """A node under translation, with what is known of its inputs."""

    def __init__(self, node: Node, model: Model, types: Mapping[str, TensorType]) -> None:
        self.node, self.model, self.types = node, model, types
        self.steps: list[Step] = []
        self.last = node.inputs[0] if node.inputs else ""

    def type(self, index: int = 0) -> TensorType:
        return self.types[self.node.inputs[index]]

    def array(self, index: int) -> tuple[str, np.ndarray]:
        name = self.node.inputs[index]
        return name, np.asarray(self.model.parameters[name])

    def add(
        self,
        function: str = "",
        module: Expression | None = None,
        state: Mapping[str, tuple[str, np.ndarray]] | None = None,
        operands: Sequence[str] | None = None,
        part: str = "",
        constants: Mapping[str, tuple[str, np.ndarray]] | None = None,
    ) -> None:
        """The next step, of the last one's value unless `operands` says otherwise; `part` names one before the last."""
        value = f"{self.node.name}:{part}" if part else self.node.name
        read = (self.last,) if operands is None else tuple(operands)
        stored = {name: (name, np.asarray(self.model.parameters[name])) for name in read if self._is_stored(name)}
        held = {**stored, **(constants or {})}
        self.steps.append(Step(self.node, value, read, None if held else module, function, state or {}, held))
        self.last = value

    def _is_stored(self, name: str) -> bool:
        return name in self.model.parameters

    def pad(self, padding: Padding, value: float = 0.0, part: str = "pad") -> None:
        top, left, bottom, right = padding
        if any(padding):
            sides = f"({left}, {right}, {top}, {bottom})"
            filled = "" if value == 0 else f", value={number(value)}"
            module = f"nn.ZeroPad2d({sides})" if value == 0 else f"nn.ConstantPad2d({sides}, {number(value)})"
            self.add(f"F.pad({{}}, {sides}{filled})", Expression(module), part=part)


def number(value: float) -> str:
    """Code for a float."""
    if math.isinf(value):
        return 'float("-inf")' if value < 0 else 'float("inf")'
    return repr(int(value)) if value == int(value) and abs(value) < 1e6 else repr(float(value))


def pair(values: tuple[int, ...]) -> str:
    """Code for (height, width): one number where they are equal."""
    return str(values[0]) if len(set(values)) == 1 else str(tuple(values))


def arguments(*positional: tuple[str, str], **named: tuple[str, str]) -> Expression:
    """Arguments of a constructor, each (what it is, code)."""
    template = ", ".join(["{}"] * len(positional) + [f"{key}={{}}" for key in named])
    return Expression(template, (*positional, *named.values()))


def call(function: str, given: Expression, literal: str = "") -> Expression:
    """`function(given, literal)`; the literal is the same in all networks."""
    inside = ", ".join(part for part in (given.template, literal) if part)
    return Expression(f"{function}({inside})", given.values)


Translator = Callable[[Layer, Any], None]
TRANSLATORS: dict[type[Operator], Translator] = {}
"""Operator -> what adds its steps."""
translates = registering(TRANSLATORS)
"""Enters a translator into the table under the operator's class."""


def steps_of(model: Model) -> list[Step]:
    """Every step of forward, in order. All operators of `model` must be in TRANSLATORS."""
    types, steps = model.types(), []
    for node in model.nodes:
        layer = Layer(node, model, types)
        TRANSLATORS[type(node.operator)](layer, node.operator)
        steps += layer.steps
    return steps


def _weight_and_bias(layer: Layer) -> dict[str, tuple[str, np.ndarray]]:
    names = ("weight", "bias")[: len(layer.node.inputs) - 1]
    return {name: layer.array(index) for index, name in enumerate(names, 1)}


@translates(Convolution)
def convolution(layer: Layer, operator: Convolution) -> None:
    top, left, bottom, right = operator.padding
    symmetrical = (top, left) == (bottom, right)
    if not symmetrical:
        layer.pad(operator.padding)
    state = _weight_and_bias(layer)
    out_channels, group_channels, *kernel = state["weight"][1].shape
    named = {"stride": ("stride", pair(operator.strides))}
    if symmetrical and (top or left):
        named["padding"] = ("padding", pair((top, left)))
    if operator.dilation != (1, 1):
        named["dilation"] = ("dilation", pair(operator.dilation))
    if operator.groups != 1:
        named["groups"] = ("groups", str(operator.groups))
    given = arguments(
        ("in_channels", str(group_channels * operator.groups)), ("out_channels", str(out_channels)),
        ("kernel_size", pair(tuple(kernel))), **named,
    )  # fmt: skip
    module = call("nn.Conv2d", given, "" if "bias" in state else "bias=False")
    layer.add(module=module, state=state)


@translates(Dense)
def dense(layer: Layer, operator: Dense) -> None:
    state = _weight_and_bias(layer)
    out_features, in_features = state["weight"][1].shape
    given = arguments(("in_features", str(in_features)), ("out_features", str(out_features)))
    layer.add(module=call("nn.Linear", given, "" if "bias" in state else "bias=False"), state=state)


@translates(BatchNorm)
def batch_norm(layer: Layer, operator: BatchNorm) -> None:
    fields = ("weight", "bias", "running_mean", "running_var")
    state = {name: layer.array(index) for index, name in enumerate(fields, 1)}
    if operator.fix_gamma:
        name, gamma = state["weight"]
        state["weight"] = name, np.ones_like(gamma)
    state["num_batches_tracked"] = "", np.zeros((), np.int64)
    named = {}
    if operator.epsilon != 1e-5:
        named["eps"] = ("eps", repr(operator.epsilon))
    # MXNet counts what a step of training keeps, PyTorch what it adds.
    if (momentum := round(1 - operator.momentum, 12)) != 0.1:
        named["momentum"] = ("momentum", repr(momentum))
    rank = len(layer.type().shape)
    given = arguments(("channels", str(layer.type().shape[1])), **named)
    layer.add(module=call("nn.BatchNorm2d" if rank == 4 else "nn.BatchNorm1d", given), state=state)


def _same(function: str, module: str) -> Translator:
    return lambda layer, operator: layer.add(function, Expression(module))


TRANSLATORS[Relu] = _same("F.relu({})", "nn.ReLU()")
TRANSLATORS[Sigmoid] = _same("torch.sigmoid({})", "nn.Sigmoid()")
TRANSLATORS[Tanh] = _same("torch.tanh({})", "nn.Tanh()")
TRANSLATORS[Flatten] = _same("torch.flatten({}, 1)", "nn.Flatten()")


@translates(Erf)
def error_function(layer: Layer, operator: Erf) -> None:
    layer.add("torch.erf({})")


@translates(LocalResponseNorm)
def local_response_norm(layer: Layer, operator: LocalResponseNorm) -> None:
    named = {"alpha": operator.alpha, "beta": operator.beta, "k": operator.bias}
    given = ", ".join([str(operator.size), *(f"{name}={number(value)}" for name, value in named.items())])
    layer.add(f"F.local_response_norm({{}}, {given})", Expression(f"nn.LocalResponseNorm({given})"))


@translates(Upsample)
def upsample(layer: Layer, operator: Upsample) -> None:
    scale = pair(operator.scale)
    module = Expression(f'nn.Upsample(scale_factor={scale}, mode="nearest")')
    layer.add(f'F.interpolate({{}}, scale_factor={scale}, mode="nearest")', module)


@translates(Clip)
def clip(layer: Layer, operator: Clip) -> None:
    low, high = operator.low, operator.high
    if (low, high) == (0, 6):
        layer.add("F.relu6({})", Expression("nn.ReLU6()"))
        return
    bounds = [f"min={number(low)}"] if low != -math.inf or high == math.inf else []
    bounds += [f"max={number(high)}"] if high != math.inf else []
    module = Expression(f"nn.Hardtanh({number(low)}, {number(high)})") if -math.inf < low < high < math.inf else None
    layer.add(f"torch.clamp({{}}, {', '.join(bounds)})", module)


@translates(LeakyRelu)
def leaky_relu(layer: Layer, operator: LeakyRelu) -> None:
    slope = repr(float(operator.slope))
    layer.add(f"F.leaky_relu({{}}, {slope})", Expression(f"nn.LeakyReLU({slope})"))


@translates(Softmax)
def softmax(layer: Layer, operator: Softmax) -> None:
    layer.add(f"F.softmax({{}}, dim={operator.axis})", Expression(f"nn.Softmax(dim={operator.axis})"))


@translates(MaxPool)
def max_pool(layer: Layer, operator: MaxPool) -> None:
    _pool(layer, operator, "max")


@translates(AveragePool)
def average_pool(layer: Layer, operator: AveragePool) -> None:
    _pool(layer, operator, "avg")


def _pool(layer: Layer, operator: MaxPool | AveragePool, kind: str) -> None:
    x = layer.type()
    windows = symmetric(operator, x)
    padding = ""
    if windows is None:
        around = operator.padding if isinstance(operator, MaxPool) else operator.full_padding
        layer.pad(around, -math.inf if kind == "max" else 0.0)
    else:
        padding += f", padding={pair(windows.padding)}" if any(windows.padding) else ""
        padding += ", ceil_mode=True" if windows.ceil else ""
        padding += ", count_include_pad=False" if kind == "avg" and not windows.count_include_pad else ""
    # PyTorch's own default for the stride is the kernel, MXNet's is 1: it is always written.
    given = f"{pair(operator.kernel)}, stride={pair(operator.strides)}{padding}"
    function = f"F.{kind}_pool2d({{}}, {given})"
    module = Expression(f"nn.{kind.capitalize()}Pool2d({given})")
    if windows is None and isinstance(operator, AveragePool):
        area = math.prod(operator.kernel)
        divisors = operator.divisors(*x.shape[2:])
        if not np.all(divisors == area):
            layer.add(function, module, part="window")
            share = (area / divisors).astype(np.float32)
            name = f"{layer.node.name}:share"
            layer.add("{} * {}", operands=(layer.last, name), constants={name: ("", share)})
            return
    layer.add(function, module)


@translates(GlobalPool)
def global_pool(layer: Layer, operator: GlobalPool) -> None:
    kind = "avg" if operator.mode == "average" else "max"
    layer.add(f"F.adaptive_{kind}_pool2d({{}}, 1)", Expression(f"nn.Adaptive{kind.capitalize()}Pool2d(1)"))


@translates(Reshape)
def reshape(layer: Layer, operator: Reshape) -> None:
    layer.add(f"{{}}.reshape({', '.join(map(str, (-1, *operator.shape)))})")


@translates(Transpose)
def transpose(layer: Layer, operator: Transpose) -> None:
    layer.add(f"{{}}.permute({', '.join(map(str, operator.axes))})")


@translates(Slice)
def cut(layer: Layer, operator: Slice) -> None:
    step = f":{operator.step}" if operator.step != 1 else ""
    layer.add(f"{{}}[{':, ' * operator.axis}{operator.start}:{operator.stop}{step}]")


@translates(Pad)
def pad(layer: Layer, operator: Pad) -> None:
    if any(operator.padding):
        layer.pad(operator.padding, operator.value, part="")
    else:
        layer.add("F.pad({}, (0, 0))")


@translates(Concatenate)
def concatenate(layer: Layer, operator: Concatenate) -> None:
    slots = ", ".join(["{}"] * len(layer.node.inputs))
    one = "," if len(layer.node.inputs) == 1 else ""
    layer.add(f"torch.cat(({slots}{one}), {operator.axis})", operands=layer.node.inputs)


BINARY = {
    "add": "{} + {}", "subtract": "{} - {}", "multiply": "{} * {}", "divide": "{} / {}",
    "maximum": "torch.maximum({}, {})", "minimum": "torch.minimum({}, {})",
}  # fmt: skip


@translates(Binary)
def binary(layer: Layer, operator: Binary) -> None:
    layer.add(BINARY[operator.function], operands=layer.node.inputs)


@translates(Scalar)
def scalar(layer: Layer, operator: Scalar) -> None:
    value = number(operator.value) if operator.value >= 0 else f"({number(operator.value)})"
    if operator.function in ("maximum", "minimum"):
        bound = "min" if operator.function == "maximum" else "max"
        layer.add(f"torch.clamp({{}}, {bound}={number(operator.value)})")
    elif operator.reverse:
        layer.add(BINARY[operator.function].format(value, "{}"))
    else:
        layer.add(BINARY[operator.function].format("{}", value))
