"""Collects the verbs, runs one, and turns errors into messages and exit codes."""

from __future__ import annotations

import difflib
import functools
import pkgutil
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Annotated

import typer

from edge_agent.errors import AgentError
from edge_agent.version import VERSION
from edgectl.cli import verbs
from edgectl.cli.terminal import errors
from edgectl.errors import EdgectlError, UsageError

INTERRUPTED = 130
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
  edgectl deploy resnet20_cifar10       compile, start a simulated board, run a photograph
  edgectl run PHOTO.jpg                 classify with what is deployed
  edgectl bench --number 10 --repeat 3  measure it
  edgectl status                        what is live, and where its metrics are
  edgectl stop                          end the simulated board

\b
Exit codes: 0 ok, 1 failure, 2 usage, 3 unreachable, 4 incompatible, 5 verification failed, 6 busy, 124 timeout."""


def verb_functions() -> dict[str, Callable[..., None]]:
    """Every verb: module NAME in `verbs/` has a function NAME."""
    names = sorted(module.name for module in pkgutil.iter_modules(verbs.__path__))
    return {name: getattr(import_module(f"{verbs.__name__}.{name}"), name) for name in names}


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
        app.command(name)(_interruptible(function))
    return app


def _interruptible(verb: Callable[..., None]) -> Callable[..., None]:
    """`verb`, whose interruption has the exit code that shells expect."""

    @functools.wraps(verb)
    def wrapped(*arguments: object, **options: object) -> None:
        try:
            verb(*arguments, **options)
        except KeyboardInterrupt:
            errors().print("interrupted")
            raise typer.Exit(INTERRUPTED) from None

    return wrapped


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    code = run(sys.argv[1:] if arguments is None else list(arguments))
    if arguments is None:
        sys.exit(code)
    return code


def run(arguments: list[str]) -> int:
    """Run one command; every error becomes one message on standard error and an exit code."""
    known = verb_functions()
    if arguments and not arguments[0].startswith("-") and arguments[0] not in known:
        near = difflib.get_close_matches(arguments[0], known, 1)
        hint = f"did you mean `edgectl {near[0]}`?" if near else f"verbs are {', '.join(known)}"
        return _failed(f"there is no verb '{arguments[0]}'; {hint}", UsageError.exit_code)
    try:
        application()(arguments, prog_name="edgectl")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except EdgectlError as error:
        return _failed(str(error), error.exit_code)
    except AgentError as error:
        return _failed(str(error), AGENT_EXIT_CODES.get(error.code, 1))
    except OSError as error:
        return _failed(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}", 1)
    return 0


def _failed(message: str, code: int) -> int:
    errors().print("[bold red]error:[/bold red] ", end="")
    errors().print(message, markup=False, highlight=False)
    return code
