"""Which operators share a kernel: a chain of cheap operators follows whatever produces its input."""

from __future__ import annotations

from edgectl.codegen.cpu.lowering import Lowering, Pattern
from edgectl.codegen.cpu.lowerings import LOWERINGS
from edgectl.errors import CompileError
from edgectl.graph import Model, Node
from edgectl.operators.base import TensorType

Group = tuple[Node, ...]
"""Nodes of one kernel in topological order; only the last one's value leaves it."""


def lowering_of(node: Node) -> Lowering:
    """Raises CompileError, naming the layer, where the operator has no lowering."""
    lowering = LOWERINGS.get(type(node.operator))
    if lowering is None:
        raise CompileError(f"layer '{node.label}': CPU code generation does not know operator '{node.operator.kind}'")
    return lowering


def fuse(model: Model, types: dict[str, TensorType]) -> list[Group]:
    """The model's nodes as kernels, in an order in which each reads only what earlier ones wrote.

    A node joins the group that produces one of its operands when nothing else reads that operand and it is no output:
    elementwise nodes where the shape stays, injective ones where the group has no reduction; one node of those that use
    an operand several times.
    """
    readers = model.consumers()
    groups: dict[str, list[Node]] = {}
    for node in model.nodes:
        joined = next(
            (
                name
                for name in dict.fromkeys(node.inputs)
                if name in groups
                and len(readers[name]) == 1
                and name not in model.outputs
                and _joins(node, types, name, groups[name])
            ),
            None,
        )
        groups[node.name] = [*(groups.pop(joined) if joined is not None else []), node]
    return [tuple(group) for group in groups.values()]


def _joins(node: Node, types: dict[str, TensorType], operand: str, group: list[Node]) -> bool:
    if _repeats(node) and any(_repeats(member) for member in group):
        return False
    pattern = lowering_of(node).pattern
    if pattern is Pattern.ELEMENTWISE:
        return types[operand].shape == types[node.name].shape
    reduces = any(lowering_of(member).pattern is Pattern.REDUCTION for member in group)
    return pattern is Pattern.INJECTIVE and not reduces


def _repeats(node: Node) -> bool:
    """Whether the node's expression holds an operand more than once; chains of such would grow exponentially."""
    return lowering_of(node).repeats or len(set(node.inputs)) < len(node.inputs)


def leader_of(group: Group) -> Node:
    """The node that orders the loops: the last one that moves values, else the first. None moves a reduction's."""
    moving = [node for node in group if lowering_of(node).pattern is Pattern.INJECTIVE]
    return moving[-1] if moving else group[0]
