"""Operators of PyTorch that overwrite their input, turned into ones that do not: who reads the input later means the
result."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from edgectl.errors import ModelError
from edgectl.interchange.exported_program import Call, ExportedProgram, Reference

VIEWS = frozenset({
    "view", "_unsafe_view", "reshape", "flatten", "unflatten", "permute", "transpose", "t", "squeeze", "unsqueeze",
    "expand", "slice", "select", "chunk", "split", "split_with_sizes", "unbind", "detach", "detach_", "contiguous",
    "alias", "to", "dropout", "feature_dropout", "alpha_dropout",
})  # fmt: skip
"""Operators whose results may share memory with their input."""


def functional(program: ExportedProgram) -> tuple[tuple[Call, ...], tuple[str, ...]]:
    """The calls and outputs of `program` in which a name is one value throughout.

    Raises ModelError where a call overwrites memory that another name, read later, shares.
    """
    renamed: dict[str, str] = {}
    shared: dict[str, str] = {}
    last = _last_reads(program)
    defined = {*program.inputs, *program.stored}
    calls = []
    for place, call in enumerate(program.calls):
        if not defined.isdisjoint(call.results):
            raise ModelError(f"the program defines {', '.join(call.results)} twice; it is damaged")
        defined.update(call.results)
        arguments = {key: _renamed(value, renamed) for key, value in call.arguments.items()}
        calls.append(replace(call, arguments=arguments))
        read = next(iter(references(call.arguments)), None)
        if read is None or not call.results:
            continue
        root = shared.get(read, read)
        if call.operator in VIEWS:
            shared.update(dict.fromkeys(call.results, root))
        if not call.operator.endswith("_") or call.operator in VIEWS:
            continue
        others = [name for name in (root, *shared) if name != read and shared.get(name, name) == root]
        late = [name for name in others if last.get(name, -1) > place and name not in renamed]
        if late:
            raise ModelError(
                f"operator '{call.target}' of layer '{call.module or call.results[0]}' overwrites a part of "
                f"'{late[0]}', which is read later; write it without changing tensors in place"
            )
        renamed[_current(read, renamed)] = call.results[0]
        shared[call.results[0]] = root
    return tuple(calls), tuple(_current(name, renamed) for name in program.outputs)


def references(arguments: Mapping[str, Any]) -> Iterator[str]:
    """The names of values among `arguments`, in order."""
    for value in arguments.values():
        yield from (item.name for item in _items(value) if isinstance(item, Reference))


def _items(value: Any) -> Iterable[Any]:
    return value if isinstance(value, list) else (value,)


def _last_reads(program: ExportedProgram) -> dict[str, int]:
    last = {name: place for place, call in enumerate(program.calls) for name in references(call.arguments)}
    return {**last, **dict.fromkeys(program.outputs, len(program.calls))}


def _renamed(value: Any, renamed: Mapping[str, str]) -> Any:
    if isinstance(value, list):
        return [_renamed(item, renamed) for item in value]
    return Reference(_current(value.name, renamed)) if isinstance(value, Reference) else value


def _current(name: str, renamed: Mapping[str, str]) -> str:
    while name in renamed:
        name = renamed[name]
    return name
