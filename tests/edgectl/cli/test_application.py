"""The command as a whole: help, speed of start, verbs found by their files, errors of every kind, pipes and signals."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edge_agent.errors import AgentError, InputError, ProgramError, ProtocolError
from edge_agent.errors import BusyError as AgentBusyError
from edge_agent.errors import DeadlineError as AgentDeadlineError
from edge_agent.errors import IncompatibleError as AgentIncompatibleError
from edge_agent.errors import VerificationError as AgentVerificationError
from edgectl import errors
from edgectl.cli import application
from tests.edgectl.cli.conftest import Edgectl, in_process_of_its_own, spawn

VERBS = [
    "bench",
    "boards",
    "compile",
    "convert",
    "deploy",
    "evaluate",
    "flash",
    "inspect",
    "lease",
    "models",
    "provision",
    "report",
    "run",
    "sd",
    "status",
    "stop",
]


def test_verbs_are_the_files_of_their_folder() -> None:
    assert list(application.verb_functions()) == VERBS


def test_help_begins_with_examples(edgectl: Edgectl) -> None:
    result = edgectl("--help")
    assert result.code == 0
    assert "edgectl deploy resnet20_cifar10" in result.out
    assert "Exit codes: 0 ok, 1 failure, 2 usage, 3 unreachable" in result.out
    for verb in VERBS:
        assert f"\n  {verb} " in result.out
    assert "..." not in result.out.partition("Commands:")[2] and max(map(len, result.out.splitlines())) <= 80


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_and_json(edgectl: Edgectl, verb: str) -> None:
    result = edgectl(verb, "--help")
    assert result.code == 0 and result.out.startswith(f"Usage: edgectl {verb}")
    assert "--json" in result.out


def test_no_argument_shows_the_help(edgectl: Edgectl) -> None:
    result = edgectl()
    assert "edgectl deploy resnet20_cifar10" in result.out + result.err


def test_version(edgectl: Edgectl) -> None:
    result = edgectl("--version")
    assert result.code == 0 and result.out.startswith("edgectl ")


@pytest.mark.parametrize(("typo", "verb"), [("depoly", "deploy"), ("inpsect", "inspect"), ("stats", "status")])
def test_a_typo_gets_a_suggestion(edgectl: Edgectl, typo: str, verb: str) -> None:
    result = edgectl(typo, "x")
    assert (result.code, result.out) == (2, "")
    assert f"there is no verb '{typo}'; did you mean `edgectl {verb}`?" in result.err


def test_an_unknown_verb_lists_the_known(edgectl: Edgectl) -> None:
    result = edgectl("xyzzy")
    assert result.code == 2 and ", ".join(VERBS) in result.err


def test_a_mistyped_option_gets_a_suggestion(edgectl: Edgectl) -> None:
    result = edgectl("deploy", "resnet20_cifar10", "--bord", "sim")
    assert result.code == 2 and "--board" in result.err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.EdgectlError("x"), 1),
        (errors.ModelError("x"), 1),
        (errors.CompileError("x"), 1),
        (errors.UnknownModelError("x"), 2),
        (errors.UsageError("x"), 2),
        (errors.UnreachableError("x"), 3),
        (errors.IncompatibleError("x"), 4),
        (errors.VerificationError("x"), 5),
        (errors.BusyError("x"), 6),
        (errors.DeadlineError("x"), 124),
        (AgentError("x"), 1),
        (InputError("x"), 2),
        (AgentIncompatibleError("x"), 4),
        (ProgramError("x"), 4),
        (ProtocolError("x"), 4),
        (AgentVerificationError("x"), 5),
        (AgentBusyError("x"), 6),
        (AgentDeadlineError("x"), 124),
        (OSError(28, "No space left on device", "/some/file"), 1),
        (MemoryError(), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_exit_codes(edgectl: Edgectl, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(application, "verb_functions", lambda: {"models": fail, "other": fail})
    result = edgectl("models")
    assert (result.code, result.out) == (code, "")
    assert result.err.startswith("error: ") and result.err.count("\n") == 1


def test_a_defect_is_reported_without_a_traceback(edgectl: Edgectl, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise RuntimeError("the [bold]cause[/bold]")

    monkeypatch.setattr(application, "verb_functions", lambda: {"models": fail, "other": fail})
    result = edgectl("models")
    assert result.code == 1
    assert "RuntimeError" in result.err and "the [bold]cause[/bold]" in result.err and "EDGECTL_DEBUG=1" in result.err
    monkeypatch.setenv("EDGECTL_DEBUG", "1")
    with pytest.raises(RuntimeError):
        edgectl("models")


def test_what_compiles_nothing_starts_without_tvm_and_help_without_numpy() -> None:
    code = (
        "import sys; from edgectl.cli import main; code = main(sys.argv[1:]); "
        "print(sorted({'tvm', 'numpy'} & set(sys.modules))); sys.exit(code)"
    )
    assert in_process_of_its_own("deploy", "--help", code=code).out.endswith("[]\n")
    assert in_process_of_its_own("stop", code=code).out.endswith("['numpy']\n")


def test_a_reader_that_leaves_is_no_error(demo_bundle: Path) -> None:
    process = spawn("inspect", "-d", demo_bundle)
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.readline().startswith("; program")
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(60) in (0, 1)


def test_a_full_disk_behind_standard_output_is_an_error() -> None:
    with open("/dev/full", "w") as full:
        result = in_process_of_its_own("models", stdout=full)
    assert (result.code, result.err) == (1, "error: No space left on device\n")


def test_as_a_program() -> None:
    command = [str(Path(sys.executable).with_name("edgectl")), "models", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and '"resnet18_v1"' in done.stdout and done.stderr == ""
