"""The command line: one file per verb in `verbs/`, each a thin face on the package's functions."""

from __future__ import annotations

from edgectl.cli.application import main

__all__ = ["main"]
