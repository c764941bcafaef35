"""Modules as classes: those of the same structure share one, whose constructor takes the numbers that differ."""

from __future__ import annotations

import keyword
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from edgectl.interchange.module_tree import Placed, Tree, consumers
from edgectl.interchange.torch_layers import Expression
from edgectl.interchange.translation import Names

MODULE_ATTRIBUTES = frozenset({
    "T_destination", "add_module", "apply", "bfloat16", "buffers", "call_super_init", "children", "compile",
    "cpu", "cuda", "double", "dump_patches", "eval", "extra_repr", "float", "forward", "get_buffer",
    "get_extra_state", "get_parameter", "get_submodule", "half", "ipu", "load_state_dict", "modules", "mtia",
    "named_buffers", "named_children", "named_modules", "named_parameters", "parameters",
    "register_backward_hook", "register_buffer", "register_forward_hook", "register_forward_pre_hook",
    "register_full_backward_hook", "register_full_backward_pre_hook", "register_load_state_dict_post_hook",
    "register_load_state_dict_pre_hook", "register_module", "register_parameter",
    "register_state_dict_post_hook", "register_state_dict_pre_hook", "requires_grad_", "set_extra_state",
    "set_submodule", "share_memory", "state_dict", "to", "to_empty", "train", "training", "type", "xpu",
    "zero_grad",
})  # fmt: skip
"""Names that nn.Module has for itself."""
LINE = 100
"""Columns beyond which a sequence of modules is written one a line."""


@dataclass
class Instance:
    """One module of the tree in the making.

    `children` are (attribute, how to construct it) in order, `lines` the body of forward; `expression` constructs the
    module itself, whose class is called after `stem`. `targets` says where each step's value is: the path of a module,
    or the code in forward; `stored` are (the model's parameter, path in the state dict, array).
    """

    tree: Tree
    arguments: tuple[str, ...] = ()
    lines: list[str] = field(default_factory=list)
    children: list[tuple[str, Instance | Expression]] = field(default_factory=list)
    sequential: bool = False
    stem: str = "Block"
    expression: Expression | None = None
    targets: dict[str, str] = field(default_factory=dict)
    stored: list[tuple[str, str, object]] = field(default_factory=list)

    def child(self, index: int) -> Expression:
        found = self.children[index][1]
        if isinstance(found, Expression):
            return found
        if found.sequential:
            return _sequential(found)
        assert found.expression is not None
        return found.expression


def identifier(name: str, otherwise: str = "layer") -> str:
    """`name` as an attribute of a module."""
    made = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_") or otherwise
    if made[0].isdigit():
        made = f"{otherwise}{made}"
    return f"{made}_" if keyword.iskeyword(made) or made in MODULE_ATTRIBUTES else made


def camel_case(name: str) -> str:
    """`name` as a class's name."""
    made = "".join(part[:1].upper() + part[1:] for part in re.split(r"[^A-Za-z0-9]+", name))
    return made if made[:1].isalpha() else f"Net{made}"


def instance_of(tree: Tree, path: str = "", stem: str = "", arguments: Sequence[str] = ()) -> Instance:
    """The module of `tree` and those in it; `arguments` are those of the root's forward."""
    if path and (whole := _as_sequence(tree, path, stem)):
        return whole
    instance = Instance(tree, stem=stem)
    variables = _Variables(tree, arguments)
    instance.arguments = variables.arguments
    attributes: dict[int, str] = {}
    # The same module or parameter in several steps is stored once for each.
    taken = Names()
    for index, member in enumerate(tree.members):
        if isinstance(member, Tree):
            attributes[index] = taken.unique(identifier(member.name))
        elif member.step.state:
            attributes[index] = taken.unique(identifier(member.leaf))
    for index, member in enumerate(tree.members):
        place = f"{path}." if path else ""
        if isinstance(member, Tree):
            attribute = attributes[index]
            inner = instance_of(member, f"{place}{attribute}", _stem(member.name, stem))
            instance.children.append((attribute, inner))
            operands, value = member.inputs, member.outputs[0]
            code = f"self.{attribute}({', '.join(variables.read(name) for name in operands)})"
            _absorb(instance, inner)
            variables.used(operands)
            instance.lines.append(f"{variables.written(value, operands)} = {code}")
            continue
        step = member.step
        held: dict[str, str] = {}
        for name, (source, array) in step.constants.items():
            attribute = taken.unique(identifier(source.rpartition(".")[2] or f"{member.leaf}_share"))
            held[name] = f"self.{attribute}"
            shape = str(tuple(int(extent) for extent in array.shape))
            instance.children.append((attribute, Expression("nn.Parameter(torch.empty({}))", (("shape", shape),))))
            instance.stored.append((source, f"{place}{attribute}", array))
        codes = [held.get(name) or variables.read(name) for name in step.operands]
        if step.state:
            assert step.module is not None
            attribute = attributes[index]
            instance.children.append((attribute, step.module))
            code = f"self.{attribute}({codes[0]})"
            instance.targets[step.value] = f"{place}{attribute}"
            _store(instance, member, f"{place}{attribute}")
        else:
            code = step.function.format(*codes)
        operands = tuple(name for name in step.operands if name not in held)
        variables.used(operands)
        line = f"{variables.written(step.value, operands)} = {code}"
        if not step.state:
            instance.targets[step.value] = f"{place}forward: {line}"
        instance.lines.append(line)
    instance.lines.append(f"return {', '.join(variables.read(name) for name in tree.outputs)}")
    return instance


def _stem(name: str, parent: str) -> str:
    letters = camel_case(re.sub(r"[_\d]+$", "", name) or f"{parent}_block")
    return letters


def _absorb(instance: Instance, inner: Instance) -> None:
    instance.targets.update(inner.targets)
    instance.stored += inner.stored


def _store(instance: Instance, place: Placed, path: str) -> None:
    for name, (source, array) in place.step.state.items():
        instance.stored.append((source, f"{path}.{name}", array))


def _as_sequence(tree: Tree, path: str, stem: str) -> Instance | None:
    """`tree` as nn.Sequential, where each of its members reads what the one before gives and nothing else."""
    if len(tree.inputs) != 1:
        return None
    counts, last = consumers(tree.members), tree.inputs[0]
    for member in tree.members:
        inputs, given = (
            (member.inputs, member.outputs)
            if isinstance(member, Tree)
            else (member.step.operands, (member.step.value,))
        )
        if tuple(inputs) != (last,) or counts[last] != 1 or (isinstance(member, Placed) and member.step.module is None):
            return None
        last = given[0]
    if tree.outputs != (last,):
        return None
    instance, names = Instance(tree, sequential=True, stem=stem), Names()
    for member in tree.members:
        wanted = member.name if isinstance(member, Tree) else member.leaf
        attribute = names.unique(re.sub(r"\W+", "_", wanted, flags=re.ASCII) or "layer")
        place = f"{path}.{attribute}"
        if isinstance(member, Tree):
            inner = instance_of(member, place, _stem(member.name, stem))
            instance.children.append((attribute, inner))
            _absorb(instance, inner)
            continue
        assert member.step.module is not None
        instance.children.append((attribute, member.step.module))
        instance.targets[member.step.value] = place
        _store(instance, member, place)
    return instance


class _Variables:
    """Names of forward's variables: one is used again where what it holds is not read any more."""

    def __init__(self, tree: Tree, arguments: Sequence[str]) -> None:
        self._remaining = dict(consumers(tree.members))
        for name in tree.outputs:
            self._remaining[name] = self._remaining.get(name, 0) + 1
        self._fresh = iter(["x", "y", "z", *(f"x{number}" for number in range(1, 1 << 20))])
        self._protected = frozenset(arguments)
        self._names: dict[str, str] = {}
        self.arguments = tuple(arguments) or tuple(next(self._fresh) for _ in tree.inputs)
        self._names.update(zip(tree.inputs, self.arguments, strict=True))

    def read(self, value: str) -> str:
        return self._names[value]

    def used(self, values: Sequence[str]) -> None:
        for value in dict.fromkeys(values):
            self._remaining[value] -= 1

    def written(self, value: str, operands: Sequence[str]) -> str:
        """The variable for `value`: that of the first of `operands` which nothing reads any more, or a new one."""
        free = [
            self._names[name]
            for name in operands
            if not self._remaining[name] and self._names[name] not in self._protected
        ]
        idle = free or self._idle()
        name = idle[0] if idle else self._next()
        self._names[value] = name
        return name

    def _idle(self) -> list[str]:
        alive = {self._names[value] for value, count in self._remaining.items() if count and value in self._names}
        known = dict.fromkeys(self._names.values())
        return [name for name in known if name not in alive and name not in self._protected]

    def _next(self) -> str:
        return next(name for name in self._fresh if name not in self._protected)


def _sequential(instance: Instance) -> Expression:
    """nn.Sequential of the children, named; runs of the same are one comprehension."""
    entries = [(name, instance.child(index)) for index, (name, _) in enumerate(instance.children)]
    parts: list[str] = []
    values: list[tuple[str, str]] = []
    for run in _runs(entries):
        name, first = run[0]
        values += first.values
        if len(run) == 1:
            parts.append(f'("{name}", {first.template})')
            continue
        stem, begin = re.fullmatch(r"(.*?)(\d+)", name).groups()  # type: ignore[union-attr]
        key = f'f"{stem}{{{{i}}}}"' if stem else "str(i)"
        parts.append(f"*(({key}, {first.template}) for i in range({begin}, {int(begin) + len(run)}))")
    one_line = f"nn.Sequential(OrderedDict([{', '.join(parts)}]))"
    if len(one_line) <= LINE and "\n" not in one_line:
        return Expression(one_line, tuple(values))
    body = "".join(f"    {_indented(part)},\n" for part in parts)
    return Expression(f"nn.Sequential(OrderedDict([\n{body}]))", tuple(values))


def _indented(code: str) -> str:
    return code.replace("\n", "\n    ")


def _runs(entries: list[tuple[str, Expression]]) -> list[list[tuple[str, Expression]]]:
    """Neighbours that differ in a count in their names alone, three or more; everything else by itself."""
    runs: list[list[tuple[str, Expression]]] = []
    for (_, _), group in groupby(entries, lambda entry: (re.sub(r"\d+$", "", entry[0]), entry[1])):
        found = list(group)
        counts = [int(match[0]) if (match := re.search(r"(0|[1-9]\d*)$", name)) else -1 for name, _ in found]
        counted = len(found) > 2 and counts == list(range(counts[0], counts[0] + len(counts))) and counts[0] >= 0
        runs += [found] if counted else [[entry] for entry in found]
    return runs


def classes_of(root: Instance, name: str) -> list[str]:
    """The code of every class, those first that others use; the root's is last and is called `name`."""
    levels: dict[int, list[Instance]] = defaultdict(list)
    _collect(root, levels)
    names = Names((name, "torch", "nn", "F", "OrderedDict"))
    written: list[str] = []
    titles = _titles(root, levels)
    for level in sorted(levels):
        same: dict[object, list[Instance]] = defaultdict(list)
        for instance in levels[level]:
            if instance is not root:
                same[_structure(instance)].append(instance)
        for instances in same.values():
            stem = instances[0].stem
            written.append(_shared(instances, names.unique(titles[stem].pop(0))))
    written.append(_class(root, name, (), lambda index: root.child(index).code()))
    return written


def _titles(root: Instance, levels: Mapping[int, list[Instance]]) -> dict[str, list[str]]:
    """Names for the classes of each stem: letters tell those apart that share one."""
    counts: dict[str, int] = defaultdict(int)
    for instances in levels.values():
        # Before their children have classes, instances of one structure may still look different: more than enough.
        for instance in instances:
            if instance is not root:
                counts[instance.stem] += 1
    return {stem: [stem, *(f"{stem}{_letters(n)}" for n in range(1, count))] for stem, count in counts.items()}


def _letters(number: int) -> str:
    """1 -> B, 25 -> Z, 26 -> AA: as columns of a table are called, from B on."""
    text = ""
    number += 1
    while number:
        number, rest = divmod(number - 1, 26)
        text = chr(ord("A") + rest) + text
    return text


def _collect(instance: Instance, levels: dict[int, list[Instance]]) -> int:
    """Enter every class under the number of classes in it."""
    inner = [_collect(child, levels) for _, child in instance.children if isinstance(child, Instance)]
    if instance.sequential:
        return max(inner, default=0)
    level = 1 + max(inner, default=0)
    levels[level].append(instance)
    return level


def _structure(instance: Instance) -> object:
    children = tuple((name, instance.child(index).template) for index, (name, _) in enumerate(instance.children))
    return children, tuple(instance.lines), instance.arguments


def _shared(instances: list[Instance], name: str) -> str:
    """The class of all `instances`, and how each is constructed."""
    slots = [
        [
            (child, *value)
            for index, (child, _) in enumerate(instance.children)
            for value in instance.child(index).values
        ]
        for instance in instances
    ]
    columns = list(zip(*slots, strict=True))
    parameters: dict[tuple[str, ...], str] = {}
    names = Names(("self", "torch", "nn", "F"))
    codes: list[str] = []
    for column in columns:
        vector = tuple(code for _, _, code in column)
        if len(set(vector)) == 1:
            codes.append(vector[0])
            continue
        if vector not in parameters:
            child, what, _ = column[0]
            taken = what in parameters.values()
            parameters[vector] = names.unique(identifier(f"{child}_{what}", "value") if taken else what)
        codes.append(parameters[vector])
    order = tuple(parameters.values())
    for place, instance in enumerate(instances):
        given = tuple((parameter, vector[place]) for vector, parameter in parameters.items())
        instance.expression = Expression(f"{name}({', '.join(['{}'] * len(given))})", given)
    remaining = iter(codes)

    def constructed(index: int) -> str:
        expression = instances[0].child(index)
        return expression.template.format(*(next(remaining) for _ in expression.values))

    return _class(instances[0], name, order, constructed)


def _class(instance: Instance, name: str, parameters: Sequence[str], constructed: Callable[[int], str]) -> str:
    given = "".join(f", {parameter}" for parameter in parameters)
    lines = [f"class {name}(nn.Module):", f"    def __init__(self{given}):", "        super().__init__()"]
    for index, (attribute, _) in enumerate(instance.children):
        code = constructed(index).replace("\n", "\n        ")
        lines.append(f"        self.{attribute} = {code}")
    lines += ["", f"    def forward(self, {', '.join(instance.arguments)}):"]
    lines += [f"        {line}" for line in _folded(instance.lines)]
    return "\n".join(lines) + "\n"


def _folded(lines: Sequence[str]) -> list[str]:
    """forward's body, where functions enclose what they are of, and what is returned is not named first."""
    body: list[str] = []
    for line in lines:
        function = re.fullmatch(r"(\w+) = ((?:F|torch)\.\w+)\(\1((?:, .*)?)\)", line)
        before = re.fullmatch(r"(\w+) = ((?!F\.|torch\.).+)", body[-1]) if body else None
        if function and before and before[1] == function[1] and not re.search(rf"\b{function[1]}\b", function[3]):
            body[-1] = f"{function[1]} = {function[2]}({before[2]}{function[3]})"
        else:
            body.append(line)
    if len(body) > 1 and (match := re.fullmatch(r"return (\w+)", body[-1])):
        target, _, code = body[-2].partition(" = ")
        if target == match[1]:
            body[-2:] = [f"return {code}"]
    return body
