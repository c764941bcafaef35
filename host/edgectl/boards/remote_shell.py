"""Commands and files on a board without an agent: plain SSH."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

import paramiko

from edgectl.errors import EdgectlError, IncompatibleError, UnreachableError, UsageError

_SSH_PORT = 22
_CONNECT_SECONDS = 10.0


@dataclass(frozen=True)
class Completed:
    """A command that has ended."""

    code: int
    output: str
    errors: str


def parse_login(login: str) -> tuple[str, str, int]:
    """User, host and port of USER@HOST or USER@HOST:PORT. Raises UsageError."""
    match = re.fullmatch(r"([^@:\s]+)@(\[[0-9a-fA-F:.]+\]|[^@:\s\[\]]+)(?::([0-9]{1,5}))?", login)
    if match is None or not 0 < int(match[3] or _SSH_PORT) < 65536:
        raise UsageError(f"'{login}' is not USER@HOST or USER@HOST:PORT")
    return match[1], match[2].strip("[]"), int(match[3] or _SSH_PORT)


class RemoteShell(Protocol):
    """A login on a board."""

    def run(self, command: str, seconds: float = 60.0) -> Completed:
        """Run a POSIX shell command. Raises UnreachableError where the connection ends or `seconds` pass."""

    def put(self, data: bytes, path: str) -> None:
        """Write a file. Raises EdgectlError."""


class SshShell:
    """A login by SSH, with the user's keys or agent. Hosts must be known: their key is never added unseen."""

    def __init__(self, login: str) -> None:
        """`login` is USER@HOST or USER@HOST:PORT.

        Raises UnreachableError, IncompatibleError (the host's key, or no right to log in), UsageError.
        """
        user, host, port = parse_login(login)
        self.login = login
        self._client = paramiko.SSHClient()
        self._client.load_system_host_keys()
        self._client.set_missing_host_key_policy(paramiko.RejectPolicy())
        try:
            self._client.connect(host, port, user, timeout=_CONNECT_SECONDS, banner_timeout=_CONNECT_SECONDS)
        except paramiko.BadHostKeyException as error:
            raise IncompatibleError(
                f"{host} shows another key than known_hosts has: {error}; if the board was set up anew, remove the old "
                f"key: ssh-keygen -R {shlex.quote(host)}"
            ) from error
        except paramiko.AuthenticationException as error:
            raise IncompatibleError(
                f"{login} does not let you in: {error}; copy your key there: ssh-copy-id {shlex.quote(login)}"
            ) from error
        except paramiko.SSHException as error:
            raise UnreachableError(
                f"no SSH session with {login}: {error}; if its key is not known yet, connect once and compare the "
                f"fingerprint: ssh {shlex.quote(login)}"
            ) from error
        except OSError as error:
            raise UnreachableError(f"{login} does not answer: {error.strerror or error}; is it on?") from error

    def __enter__(self) -> SshShell:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def run(self, command: str, seconds: float = 60.0) -> Completed:
        try:
            _, output, errors = self._client.exec_command(command, timeout=seconds)
            texts = output.read().decode(errors="replace"), errors.read().decode(errors="replace")
            return Completed(output.channel.recv_exit_status(), *texts)
        except (paramiko.SSHException, OSError) as error:
            raise UnreachableError(f"the SSH session with {self.login} broke off: {error or 'no answer'}") from error

    def put(self, data: bytes, path: str) -> None:
        try:
            with self._client.open_sftp() as session, session.open(path, "wb") as file:
                file.set_pipelined(True)
                file.write(data)
        except (paramiko.SSHException, OSError) as error:
            raise EdgectlError(f"{path} cannot be written on {self.login}: {error}") from error
