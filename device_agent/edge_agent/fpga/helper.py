"""The privileged helper: it alone may write the kernel's files, and programs what the agent hands to it.

The agent runs without privileges. It connects to a Unix socket, sends one line of JSON and the open file of a
bitstream, and gets one line of JSON back. The helper trusts nobody: only the user that it was told of (and root) may
ask, what is programmed has the announced digest and is an image for this board, and no path comes from outside.
"""

from __future__ import annotations

import argparse
import contextlib
import grp
import json
import logging
import os
import pwd
import signal
import socket
import struct
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

from edge_agent import boards, errors
from edge_agent.errors import AgentError, HardwareError, InputError
from edge_agent.fpga.programmer import DirectProgrammer, Programmer
from edge_agent.hardware.system import System
from edge_agent.supervision import Supervisor

logger = logging.getLogger("edge_agent.fpga.helper")

_REQUEST_BYTES = 4096
_REQUEST_SECONDS = 5.0
_ANSWER_SECONDS = 60.0
_CREDENTIALS = struct.Struct("3i")
"""Process, user and group of a peer (unix(7), SO_PEERCRED)."""
_ERRORS = {kind.code: kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, AgentError)}


class HelperProgrammer:
    """Programs through the helper behind a socket."""

    def __init__(self, path: Path, seconds: float = _ANSWER_SECONDS) -> None:
        self._path = path
        self._seconds = seconds

    def program(self, file: BinaryIO, sha256: str) -> float:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(self._seconds)
                connection.connect(str(self._path))
                request = json.dumps({"program": sha256}).encode() + b"\n"
                socket.send_fds(connection, [request], [file.fileno()])
                answer = _line(connection)
        except OSError as error:
            raise HardwareError(
                f"the helper that programs the FPGA does not answer at {self._path}: {error.strerror or error}; start "
                "it on the board: systemctl start edge-fpga"
            ) from error
        if not answer:
            raise HardwareError("the helper that programs the FPGA ended before it answered; see its log on the board")
        if "error" in answer:
            raise _ERRORS.get(answer.get("code", ""), HardwareError)(str(answer["error"]))
        return float(answer["seconds"])


def _line(connection: socket.socket) -> dict[str, Any]:
    """One line of JSON; empty where the peer ended before."""
    received = b""
    while b"\n" not in received:
        part = connection.recv(_REQUEST_BYTES)
        if not part:
            return {}
        received += part
    document = json.loads(received)
    return document if isinstance(document, dict) else {}


class Helper:
    """Serves one request at a time, on a socket that `users` (and root) may use."""

    def __init__(self, path: Path, programmer: Programmer, users: frozenset[int], group: int = -1) -> None:
        """The socket belongs to `group`. Raises OSError."""
        self._path = path
        self._programmer = programmer
        self._users = users | {0, os.getuid()}
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o117)
        try:
            self._listener.bind(str(path))
        finally:
            os.umask(before)
        os.chown(path, -1, group)
        self._listener.listen(4)
        self._listener.settimeout(0.2)

    def run(self, ended: threading.Event) -> None:
        while not ended.is_set():
            with contextlib.suppress(TimeoutError):
                connection, _ = self._listener.accept()
                with connection:
                    self._serve(connection)
        self._listener.close()
        self._path.unlink(missing_ok=True)

    def _serve(self, connection: socket.socket) -> None:
        try:
            connection.settimeout(_REQUEST_SECONDS)
            try:
                answer: dict[str, Any] = {"seconds": self._answer(connection)}
            except AgentError as error:
                logger.error("%s", error)
                answer = {"error": str(error), "code": error.code}
            connection.sendall(json.dumps(answer).encode() + b"\n")
        except OSError as error:
            logger.warning("a request ended early: %s", error)

    def _answer(self, connection: socket.socket) -> float:
        """Raises AgentError, OSError."""
        peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        _, user, _ = _CREDENTIALS.unpack(peer)
        request, descriptors, _, _ = socket.recv_fds(connection, _REQUEST_BYTES, 1)
        try:
            if user not in self._users:
                raise InputError(f"user {user} may not program the FPGA; the helper serves {sorted(self._users)}")
            try:
                sha256 = json.loads(request)["program"]
            except (ValueError, KeyError, TypeError):
                sha256 = None
            if not isinstance(sha256, str) or len(descriptors) != 1:
                raise InputError('a request is {"program": SHA-256} with one open file')
            # Its owner, not this helper, may change the file: what was verified is what is programmed, from memory.
            with os.fdopen(os.dup(descriptors[0]), "rb") as file:
                seconds = self._programmer.program(file, sha256)
            logger.info("programmed %s in %.2f s for user %d", sha256[:12], seconds, user)
            return seconds
        finally:
            for descriptor in descriptors:
                os.close(descriptor)


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="edge-fpga", description="Program this board's FPGA for the agent, which may not do that itself."
    )
    parser.add_argument("--board", required=True, help="this board's profile, such as pynq")
    parser.add_argument("--socket", type=Path, required=True, help="Unix socket to listen on")
    parser.add_argument("--user", required=True, help="the agent's user, who may ask")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the helper; returns the process's exit code."""
    options = parse_arguments(arguments)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    ended = threading.Event()
    try:
        user = pwd.getpwnam(options.user)
        programmer = DirectProgrammer(System.here(), boards.profile(options.board))
        helper = Helper(options.socket, programmer, frozenset({user.pw_uid}), grp.getgrgid(user.pw_gid).gr_gid)
    except (AgentError, OSError, KeyError) as error:
        print(f"edge-fpga: {error}", file=sys.stderr)
        return 1
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    supervisor = Supervisor()
    supervisor.ready()
    helper.run(ended)
    supervisor.stopping()
    return 0


if __name__ == "__main__":
    sys.exit(main())
