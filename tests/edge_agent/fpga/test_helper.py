"""The helper that programs for an agent without privileges: what it does, and for whom."""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from edge_agent.boards import profile
from edge_agent.errors import AgentError, HardwareError, IncompatibleError, VerificationError
from edge_agent.fpga.helper import Helper, HelperProgrammer
from edge_agent.fpga.programmer import DirectProgrammer
from tests.edge_agent.fpga.bitfiles import bit_file, configuration
from tests.edge_agent.fpga.kernel import Kernel, running_kernel

FILE = bit_file(configuration())
SHA256 = hashlib.sha256(FILE).hexdigest()


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Kernel]:
    with running_kernel(tmp_path / "root") as made:
        yield made


@pytest.fixture
def address(tmp_path: Path, kernel: Kernel) -> Iterator[Path]:
    ended = threading.Event()
    path = tmp_path / "socket"
    helper = Helper(path, DirectProgrammer(kernel.system, profile("pynq")), frozenset({12345}))
    thread = threading.Thread(target=helper.run, args=(ended,), daemon=True)
    thread.start()
    yield path
    ended.set()
    thread.join()
    assert not path.exists()


def send(path: Path, data: bytes, sha256: str, folder: Path) -> float:
    (folder / "file").write_bytes(data)
    with (folder / "file").open("rb") as file:
        return HelperProgrammer(path).program(file, sha256)


def test_it_programs_what_it_is_given(address: Path, kernel: Kernel, tmp_path: Path) -> None:
    assert address.stat().st_mode & 0o777 == 0o660
    assert send(address, FILE, SHA256, tmp_path) > 0
    assert len(kernel.programmed) == 1


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (FILE[:-4] + b"flip", VerificationError, "was announced; send it again"),
        (bit_file(configuration(), "7z010clg400"), IncompatibleError, "board 'pynq' has a 7z020"),
        (b"#!/bin/sh", VerificationError, "was announced|not a multiple of 4"),
    ],
)
def test_it_believes_nobody(
    address: Path, kernel: Kernel, tmp_path: Path, data: bytes, error: type[AgentError], message: str
) -> None:
    sha256 = SHA256 if data.endswith(b"flip") else hashlib.sha256(data).hexdigest()
    with pytest.raises(error, match=message):
        send(address, data, sha256, tmp_path)
    assert not kernel.programmed


@pytest.mark.parametrize(
    "request_line", [b"", b"{}\n", b"[1]\n", b'{"program": 5}\n', b"\xff\n", b'{"program": "abc"}\n']
)
def test_requests_that_are_none(address: Path, kernel: Kernel, tmp_path: Path, request_line: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(str(address))
        connection.sendall(request_line)
        connection.shutdown(socket.SHUT_WR)
        answer = json.loads(connection.makefile("rb").readline())
    assert answer["code"] == "input" and "one open file" in answer["error"]
    send(address, FILE, SHA256, tmp_path)
    assert len(kernel.programmed) == 1


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to become another user")
def test_another_user_is_refused(tmp_path_factory: pytest.TempPathFactory, address: Path, kernel: Kernel) -> None:
    for folder in (address, *address.parents):
        if folder.stat().st_uid == os.getuid() and folder not in (Path("/"), Path("/tmp")):
            folder.chmod(0o777)
    code = "; ".join(
        (
            "import os, sys, socket, json",
            "os.setgroups([]); os.setgid(54321); os.setuid(54321)",
            "c = socket.socket(socket.AF_UNIX); c.connect(sys.argv[1])",
            'socket.send_fds(c, [b\'{"program": "x"}\'], [0])',
            "print(json.loads(c.makefile('rb').readline())['error'])",
        )
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, str(address)],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert ran.stdout.startswith("user 54321 may not program the FPGA"), ran.stderr
    assert not kernel.programmed


def test_a_helper_that_is_not_there_or_dies(tmp_path: Path) -> None:
    with pytest.raises(HardwareError, match=r"does not answer at .*/socket: No such file.*systemctl start edge-fpga"):
        send(tmp_path / "socket", FILE, SHA256, tmp_path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(tmp_path / "socket"))
        listener.listen(1)
        thread = threading.Thread(target=lambda: listener.accept()[0].close())
        thread.start()
        with pytest.raises(HardwareError, match=r"ended before it answered|does not answer"):
            send(tmp_path / "socket", FILE, SHA256, tmp_path)
        thread.join()


def test_as_a_process(kernel: Kernel, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    command = [sys.executable, "-m", "edge_agent.fpga.helper", "--board", "pynq", "--socket", str(path)]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "EDGE_AGENT_ROOT": str(kernel.system.root),
    }
    process = subprocess.Popen([*command, "--user", getpass.getuser()], env=environment)
    try:
        while not path.exists() and process.poll() is None:
            time.sleep(0.02)
        send(path, FILE, SHA256, tmp_path)
        assert len(kernel.programmed) == 1
    finally:
        process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0 and not path.exists()
    wrong = subprocess.run(
        [*command, "--user", "nobody-of-this-name"],
        env=environment,
        capture_output=True,
        check=False,
    )
    assert wrong.returncode == 1 and b"edge-fpga: " in wrong.stderr


def test_a_programmer_gets_an_open_file(kernel: Kernel, tmp_path: Path) -> None:
    """The path of the file may be another one by then."""
    (tmp_path / "file").write_bytes(FILE)
    file: BinaryIO
    with (tmp_path / "file").open("rb") as file:
        (tmp_path / "file").unlink()
        DirectProgrammer(kernel.system, profile("pynq")).program(file, SHA256)
