"""Tables of functions that are filled where the functions are written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

Key = TypeVar("Key")
Function = TypeVar("Function", bound=Callable[..., Any])


def registering(table: dict[Key, Function]) -> Callable[..., Callable[[Function], Function]]:
    """What enters functions into `table`: a decorator's factory that takes the keys of one."""

    def keys_of(*keys: Key) -> Callable[[Function], Function]:
        def register(function: Function) -> Function:
            table.update(dict.fromkeys(keys, function))
            return function

        return register

    return keys_of
