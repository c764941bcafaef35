"""`package.module:factory`: a network that the user's own code makes."""

from __future__ import annotations

import importlib
import os
import re
import sys
from typing import Any

from edgectl.errors import ModelError, UsageError

FACTORY = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def is_factory(name: str) -> bool:
    """Whether `name` is written as package.module:factory."""
    return FACTORY.fullmatch(name) is not None


def call_factory(name: str) -> Any:
    """What the function `name` returns, or the module of PyTorch that it names. Imports and runs the user's code, from
    the working folder too, as `python -m` does.

    Raises UsageError where there is no such function, ModelError where it fails.
    """
    module_name, _, path = name.partition(":")
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        try:
            found: Any = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name is None or not (module_name + ".").startswith(error.name + "."):
                raise
            raise UsageError(
                f"{name}: there is no module '{error.name}' in {here} or installed; give package.module:factory, as "
                "for `from package.module import factory`"
            ) from error
        for part in path.split("."):
            if not hasattr(found, part):
                names = sorted(key for key in vars(found) if not key.startswith("_") and callable(getattr(found, key)))
                raise UsageError(
                    f"{name}: '{module_name}' has no '{part}'; it has {', '.join(names[:20]) or 'no functions'}"
                )
            found = getattr(found, part)
        return found() if (callable(found) and not hasattr(found, "state_dict")) or isinstance(found, type) else found
    except (UsageError, ModelError, KeyboardInterrupt):
        raise
    # It is the user's code, which may raise anything; SystemExit too must not end edgectl without a word.
    except (Exception, SystemExit) as error:
        raise ModelError(f"{name} failed: {type(error).__name__}: {error}") from error
    finally:
        if here in sys.path:
            sys.path.remove(here)
