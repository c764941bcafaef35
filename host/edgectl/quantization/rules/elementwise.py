"""Additions, products, maxima and minima of two tensors; ReLUs and clips that nothing before took over."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from edgectl.graph import Node
from edgectl.operators.activation import Clip
from edgectl.operators.base import Operator
from edgectl.operators.elementwise import Binary
from edgectl.operators.integer import EXTREMA, IntegerAdd, IntegerExtremum, IntegerMultiply
from edgectl.operators.quantization import Requantize
from edgectl.quantization.builder import MAXIMUM_SHIFT, Form, IntegerModelBuilder, upper_bound
from edgectl.quantization.scales import power_of_two_ratio
from edgectl.quantization.unary_chains import PRODUCT

FEW_STEPS = 32
"""Limits of fewer steps are rounded by more than a hundredth or so."""


def binary(builder: IntegerModelBuilder, node: Node) -> bool:
    """Sum, product, maximum or minimum of two int8 tensors [ReLU]."""
    assert isinstance(node.operator, Binary)
    function = node.operator.function
    if function == PRODUCT:
        return _product(builder, node)
    first, second = (builder.as_int8(name) for name in node.inputs)
    first, second, ratio = _meeting(builder, node, first, second)
    make = IntegerAdd if function == "add" else partial(IntegerExtremum, function)
    shifted = partial(make, max(ratio, 0), max(-ratio, 0))
    return _narrow(builder, node, (first, second), min(first.scale, second.scale), shifted)


def _product(builder: IntegerModelBuilder, node: Node) -> bool:
    """Of tensors that are int8 already; one may be a number for each channel, as a gate is."""
    if not all(name in builder.int8 for name in node.inputs):
        return False
    first, second = (builder.int8[name] for name in node.inputs)
    return _narrow(builder, node, (first, second), first.scale * second.scale, IntegerMultiply)


def _narrow(
    builder: IntegerModelBuilder,
    node: Node,
    operands: tuple[Form, Form],
    unit: float,
    make: Callable[[int, int, int], Operator],
) -> bool:
    """Emit `node` [ReLU] in int8: `make` makes it of shift and limits, its result is in `unit`s before."""
    value, bound = builder.clip_after(node.name)
    scale, shift = builder.narrowed(value, unit)
    integer = make(shift, -127 if bound is None else 0, upper_bound(bound, scale))
    name = builder.emit(value, integer, (operands[0].name, operands[1].name), node.label)
    builder.int8[value] = Form(name, scale)
    builder.fuse(node.name, value)
    return True


def _meeting(builder: IntegerModelBuilder, node: Node, first: Form, second: Form) -> tuple[Form, Form, int]:
    """Both operands in scales that a shift brings together, which is k where first's is 2**k of second's."""
    ratio = power_of_two_ratio(first.scale, second.scale)
    if ratio is not None and abs(ratio) <= MAXIMUM_SHIFT:
        return first, second, ratio
    # An extremum is the same of operands that are cut off at its own range; a sum needs them whole.
    assert isinstance(node.operator, Binary)
    shown = () if node.operator.function in EXTREMA else node.inputs
    needed = max(builder.largest(name) for name in (*shown, node.name)) / 127
    # Scales that are powers of two are up to twice as coarse as they must. A coarser one would show nothing of the
    # finer operand.
    scales = [form.scale for form in (first, second) if form.scale <= 2 * needed]
    scale = max(scales, default=needed or max(first.scale, second.scale))
    first, second = (
        form if form.scale == scale else builder.rescaled(value, node, form, scale)
        for value, form in zip(node.inputs, (first, second), strict=True)
    )
    return first, second, 0


def clip(builder: IntegerModelBuilder, node: Node) -> bool:
    """Limits of a value that is int8 already, rounded to its scale, or to a finer one where that has few steps."""
    operator = node.operator
    assert isinstance(operator, Clip)
    if node.inputs[0] not in builder.int8:
        return False
    x = builder.int8[node.inputs[0]]
    if x.ratios is not None:
        return False
    scale, shift = x.scale, 0
    if 0 < max(abs(operator.low), abs(operator.high)) < FEW_STEPS * x.scale:
        scale, shift = min((scale, shift), builder.narrowed(node.name, x.scale))
    low, high = (round(min(max(limit / scale, -127.0), 127.0)) for limit in (operator.low, operator.high))
    name = builder.emit(node.name, Requantize(shift, low, high), (x.name,), node.label)
    builder.int8[node.name] = Form(name, scale)
    return True


def relu(builder: IntegerModelBuilder, node: Node) -> bool:
    if node.inputs[0] not in builder.int8:
        return False
    x = builder.int8[node.inputs[0]]
    name = builder.emit(node.name, Requantize(0, 0, 127), (x.name,), node.label)
    builder.int8[node.name] = Form(name, x.scale, x.ratios)
    return True
