"""Collects the verbs, runs one, and turns errors into messages and exit codes."""

from __future__ import annotations

import contextlib
import difflib
import functools
import os
import pkgutil
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from edge_agent.errors import AgentError
from edge_agent.version import VERSION
from edgectl.cli import INTERRUPTED, verbs
from edgectl.cli.terminal import failure
from edgectl.errors import EdgectlError, UsageError

AGENT_EXIT_CODES = {
    "incompatible": 4,
    "program": 4,
    "protocol": 4,
    "verification": 5,
    "busy": 6,
    "timeout": 124,
    "input": 2,
}
"""Exit codes of the agent's errors where its code runs in this process."""

HELP = """Put neural networks on FPGA boards that carry the VTA accelerator, and keep them measured.

\b
Try:
  edgectl deploy resnet20_cifar10   compile, start a simulated board, classify
  edgectl run PHOTO.jpg             classify with what is deployed
  edgectl bench --repeat 3          measure it
  edgectl status                    what is live, where its metrics are
  edgectl stop                      end the simulated board

\b
Exit codes: 0 ok, 1 failure, 2 usage, 3 unreachable, 4 incompatible,
            5 verification failed, 6 busy, 124 timeout, 130 interrupted."""


def verb_functions() -> dict[str, Callable[..., None]]:
    """Every verb: module NAME in `verbs/` has a function NAME, and may have `subverbs`."""
    names = sorted(module.name for module in pkgutil.iter_modules(verbs.__path__))
    return {name: getattr(import_module(f"{verbs.__name__}.{name}"), name) for name in names}


def subverb_functions(verb: str) -> dict[str, Callable[..., None]]:
    """The verbs below a verb: what its module names in `subverbs`; the verb itself runs without one."""
    module = sys.modules.get(f"{verbs.__name__}.{verb}")
    return dict(getattr(module, "subverbs", {}))


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"edgectl {VERSION}")
        raise typer.Exit


def application() -> typer.Typer:
    """The command with all its verbs."""
    app = typer.Typer(
        help=HELP,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback()
    def options(
        version: Annotated[
            bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
        ] = False,
    ) -> None: ...

    for name, function in verb_functions().items():
        if not (subverbs := subverb_functions(name)):
            app.command(name)(_interruptible(function))
            continue
        group = typer.Typer(invoke_without_command=True, rich_markup_mode=None)
        group.callback()(_interruptible(function))
        for word, subverb in subverbs.items():
            group.command(word)(_interruptible(subverb))
        app.add_typer(group, name=name)
    return app


def _interruptible(verb: Callable[..., None]) -> Callable[..., None]:
    """`verb`, whose interruption has the exit code that shells expect."""

    @functools.wraps(verb)
    def wrapped(*arguments: object, **options: object) -> None:
        try:
            verb(*arguments, **options)
        except KeyboardInterrupt:
            raise typer.Exit(_failed("interrupted", INTERRUPTED)) from None

    return wrapped


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code, or without `arguments` ends the process with it."""
    if arguments is not None:
        return run(list(arguments))
    # A closed terminal and `kill` end a deploy as Ctrl-C does: with what it started.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    sys.exit(run(sys.argv[1:]))


def _end(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


def run(arguments: list[str]) -> int:
    """Run one command; every error becomes one message on standard error and an exit code."""
    known = verb_functions()
    if arguments and not arguments[0].startswith("-") and arguments[0] not in known:
        near = difflib.get_close_matches(arguments[0], known, 1)
        hint = f"did you mean `edgectl {near[0]}`?" if near else f"verbs are {', '.join(known)}"
        return _failed(f"there is no verb '{arguments[0]}'; {hint}", UsageError.exit_code)
    if any("\0" in argument for argument in arguments):
        return _failed("an argument holds a NUL character; leave it out", UsageError.exit_code)
    try:
        try:
            application()(arguments, prog_name="edgectl")
        finally:
            sys.stdout.flush()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except KeyboardInterrupt:
        return _failed("interrupted", INTERRUPTED)
    except EdgectlError as error:
        return _failed(str(error), error.exit_code)
    except AgentError as error:
        return _failed(str(error), AGENT_EXIT_CODES.get(error.code, 1))
    except BrokenPipeError:
        # The reader of a pipe, such as `head`, has what it wanted.
        _discard_output()
        return 0
    except OSError as error:
        _discard_output()
        return _failed(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}", 1)
    except MemoryError as error:
        return _failed(f"there is not enough memory for this: {error or 'a smaller --shape or --batch needs less'}", 1)
    except Exception as error:
        if os.environ.get("EDGECTL_DEBUG"):
            raise
        where = traceback.extract_tb(error.__traceback__)[-1]
        return _failed(
            f"unexpected {type(error).__name__} in {Path(where.filename).name}:{where.lineno}: {error}; this is a "
            "defect of edgectl, please report it with the output of the same command under EDGECTL_DEBUG=1",
            1,
        )
    return 0


def _discard_output() -> None:
    """Nothing more can be written to standard output: the interpreter must not try again when it ends."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _failed(message: str, code: int) -> int:
    failure(message)
    return code
