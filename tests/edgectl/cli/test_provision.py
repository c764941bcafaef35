"""edgectl provision as a command: what it shows, asks and refuses, on a board of its own behind a real sshd."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgectl.cli import main
from tests.edgectl.provisioning.wheels import make_wheel
from tests.isolated_board import IsolatedBoard, isolated_board
from tests.ssh_server import fingerprint, free_port


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IsolatedBoard]:
    with isolated_board(tmp_path_factory.mktemp("board")) as made:
        yield made


@pytest.fixture(autouse=True)
def own_inventory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGECTL_INVENTORY", str(tmp_path / "boards.toml"))


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    for name in ("pip-26.0", "prometheus_client-0.26.0"):
        make_wheel(tmp_path / "wheels", f"{name}-py3-none-any.whl")
    return tmp_path / "wheels"


def said(capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    captured = capsys.readouterr()
    return captured.out, captured.err


def test_a_dry_run_shows_each_step(board: IsolatedBoard, wheels: Path, capsys: pytest.CaptureFixture[str]) -> None:
    login = ["provision", board.target, "--identity-file", str(board.identity), "--wheelhouse", str(wheels)]
    login += ["--accept-fingerprint", fingerprint(board.host_key), "--dry-run"]
    assert main([*login, "--type", "sim", "--name", "desk"]) == 0
    out, _ = said(capsys)
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == ["step", "what"]
    assert ["user", "would", "be", "done", "create", "the", "system", "user", "edge-agent,"] in [
        line[:9] for line in lines
    ]
    assert "Nothing was touched (dry run)" in out and len([line for line in lines if "would" in line]) == 10
    assert main([*login, "--type", "sim", "--json"]) == 0
    document = json.loads(said(capsys)[0])
    assert document["dry_run"] and document["profile"] == "sim" and document["name"]
    assert document["steps"][0]["name"] == "key file"
    assert {step["state"] for step in document["steps"]} == {"would be done"}
    assert main([*login, "--type", "pynq-z2", "--name", "desk"]) == 4
    assert "board: processor is x86_64, it must be armv7; give the right --type" in said(capsys)[1]


def test_removing_asks_first(board: IsolatedBoard, capsys: pytest.CaptureFixture[str]) -> None:
    login = ["provision", board.target, "--identity-file", str(board.identity), "--uninstall"]
    login += ["--accept-fingerprint", fingerprint(board.host_key)]
    assert main(login) == 2
    assert "--uninstall asks before it removes anything; without a terminal say --yes" in said(capsys)[1]
    assert main([*login, "--yes"]) == 0
    assert f"Nothing to do: {board.target} has no agent" in said(capsys)[0]


def test_who_is_there_is_not_taken_on_trust(board: IsolatedBoard, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["provision", board.target, "--identity-file", str(board.identity), "--type", "sim"]) == 5
    error = said(capsys)[1]
    assert f"edgectl provision {board.target} --accept-fingerprint {fingerprint(board.host_key)}" in error
    assert main(["provision", board.target, "--accept-fingerprint", "SHA256:short"]) == 2


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "give either USER@HOST, or --fetch FOLDER"),
        (["root@x", "--fetch", "wheels"], 2, "give either USER@HOST, or --fetch FOLDER"),
        (["root@x", "--purge"], 2, "--purge goes with --uninstall"),
        (["nobody"], 2, "'nobody' is not USER@HOST[:PORT]"),
        (["root@x", "--type", "toaster"], 2, "there is no board 'toaster'"),
        (["--fetch", "wheels", "--for", "toaster"], 2, "'toaster' is not MACHINE-PYTHON"),
    ],
)
def test_wrong_usage(arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["provision", *arguments]) == code
    assert message in said(capsys)[1]


def test_nobody_answers(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["provision", f"root@127.0.0.1:{free_port()}", "--type", "sim", "--yes"]) == 3
    assert "no SSH server answers at root@127.0.0.1" in said(capsys)[1]


def test_a_server_that_hangs_up_is_told_in_one_line(tmp_path: Path) -> None:
    """In a process of its own: what libraries log must not get onto the terminal."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hang_up() -> None:
            with contextlib.suppress(OSError):
                while True:
                    listener.accept()[0].close()

        threading.Thread(target=hang_up, daemon=True).start()
        target = f"root@127.0.0.1:{listener.getsockname()[1]}"
        command = "import sys; from edgectl.cli import main; sys.exit(main())"
        run = [sys.executable, "-c", command, "provision", target, "--type", "sim"]
        done = subprocess.run(run, capture_output=True, text=True, timeout=60, check=False)
        listener.shutdown(socket.SHUT_RDWR)
    assert done.returncode == 3 and done.stderr.startswith(f"error: what answers at {target} does not speak SSH")
    assert done.stderr.count("\n") == 1


def test_wheels_are_fetched_for_later(
    wheels: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgectl.provisioning.wheelhouse.requirements", lambda extra="": ["prometheus-client>=0.20"])
    assert main(["provision", "--fetch", str(wheels), "--json"]) == 0
    document = json.loads(said(capsys)[0])
    assert document["for"] == "armv7l-3.10" and "prometheus_client-0.26.0-py3-none-any.whl" in document["files"]
    assert main(["provision", "--fetch", str(wheels), "--for", "armv7l-3.10"]) == 0
    assert f"Next     edgectl provision USER@HOST --wheelhouse {wheels}" in said(capsys)[0]
