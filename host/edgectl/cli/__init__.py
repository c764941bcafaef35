"""The command line: one file per verb in `verbs/`, each a thin face on the package's functions."""

from __future__ import annotations

import sys
from collections.abc import Sequence

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells expect it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code, or exits with it where `arguments` are the process's own."""
    try:
        # Here and not above: Ctrl-C during the imports must not show a traceback either.
        from edgectl.cli.application import main as run
    except KeyboardInterrupt:
        sys.stderr.write("error: interrupted\n")
        sys.exit(INTERRUPTED)
    return run(arguments)
