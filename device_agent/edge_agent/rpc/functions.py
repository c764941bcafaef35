"""The table of functions that a client may call by name: name, parameter types, result, meaning.

A function is exported where it is defined (stock.py, edge.py, module.py) and nowhere else; `python -m
edge_agent.rpc.functions` prints the table for docs/rpc.md, and a test holds the two together.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from edge_agent.errors import InputError
from edge_agent.rpc.codec import DataType, Device, FunctionHandle, ModuleHandle, ObjectHandle, Pointer, Tensor, Value

_NAMES: dict[Any, str] = {
    int: "int",
    bool: "bool",
    float: "float",
    str: "string",
    bytes: "bytes",
    type(None): "none",
    Tensor: "tensor",
    Device: "device",
    DataType: "dtype",
    ModuleHandle: "module",
    FunctionHandle: "function",
    ObjectHandle: "object",
    Pointer: "pointer",
}
_ANY = 6
"""A parameter of so many types is documented as taking any."""
Decorated = TypeVar("Decorated", bound=Callable[..., Any])


@dataclass(frozen=True)
class Parameter:
    """One parameter: the types it accepts; `repeated` where it takes all further arguments."""

    name: str
    types: tuple[type, ...]
    optional: bool
    repeated: bool

    def __str__(self) -> str:
        names = " or ".join(_NAMES[kind] for kind in self.types) if len(self.types) < _ANY else "any"
        return f"{self.name}{'?' if self.optional else ''}: {names}{' ...' if self.repeated else ''}"

    def accept(self, function: str, value: Value) -> Value:
        """The value as the parameter's type. Raises InputError."""
        if type(value) in self.types:
            return value
        if isinstance(value, bool) and int in self.types:
            return int(value)
        if isinstance(value, int) and float in self.types:
            return float(value)
        raise InputError(f"{function}: '{self.name}' is a {_NAMES[type(value)]}, it must be: {self}")


@dataclass(frozen=True)
class Function:
    """A callable function of the table. Its first argument is the session, or the module that has it."""

    name: str
    parameters: tuple[Parameter, ...]
    result: str
    meaning: str
    call: Callable[..., Any]

    @property
    def signature(self) -> str:
        return f"({', '.join(map(str, self.parameters))}) -> {self.result}"

    def __call__(self, owner: object, arguments: Sequence[Value]) -> Any:
        """Check the arguments and call. Raises InputError, and what the function raises."""
        repeated = bool(self.parameters) and self.parameters[-1].repeated
        required = sum(not parameter.optional and not parameter.repeated for parameter in self.parameters)
        if len(arguments) < required or (len(arguments) > len(self.parameters) and not repeated):
            raise InputError(f"{self.name} takes {self.signature}, {len(arguments)} arguments were given")
        checked = [
            self.parameters[min(position, len(self.parameters) - 1)].accept(self.name, value)
            for position, value in enumerate(arguments)
        ]
        return self.call(owner, *checked)


def exported(name: str, meaning: str) -> Callable[[Decorated], Decorated]:
    """Mark a function for the table. Its annotations are the types that callers must give."""

    def mark(function: Decorated) -> Decorated:
        function.__dict__["exported"] = (name, meaning)
        return function

    return mark


def _types(annotation: Any) -> tuple[type, ...]:
    return typing.get_args(annotation) or (annotation,)


def describe(function: Callable[..., Any]) -> Function:
    """The table's entry for an exported function."""
    name, meaning = function.__dict__["exported"]
    # Session is imported for type checkers only: it imports this module.
    hints = typing.get_type_hints(function, {**function.__globals__, "Session": object})
    parameters = tuple(
        Parameter(p.name, _types(hints[p.name]), p.default is not p.empty, p.kind is p.VAR_POSITIONAL)
        for p in list(inspect.signature(function).parameters.values())[1:]
    )
    results = _types(hints["return"])
    result = " or ".join(_NAMES[kind] for kind in results) if len(results) < _ANY else "any"
    return Function(name, parameters, result, meaning, function)


def collect(namespace: Mapping[str, Any]) -> dict[str, Function]:
    """The exported functions of a module or class namespace, by their exported names."""
    entries = [
        describe(value) for value in namespace.values() if inspect.isfunction(value) and hasattr(value, "exported")
    ]
    return {entry.name: entry for entry in entries}


def markdown(functions: Mapping[str, Function]) -> str:
    """The table as docs/rpc.md shows it."""
    rows = ["| function | parameters and result | meaning |", "|---|---|---|"]
    rows += [
        f"| `{f.name}` | `{f.signature}` | {f.meaning} |" for f in sorted(functions.values(), key=lambda f: f.name)
    ]
    return "\n".join(rows)


def main() -> None:
    from edge_agent.rpc.module import MODULE_FUNCTIONS
    from edge_agent.rpc.session import FUNCTIONS

    print(markdown(FUNCTIONS), markdown(MODULE_FUNCTIONS), sep="\n\n")


if __name__ == "__main__":
    main()
