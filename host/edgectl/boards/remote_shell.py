"""Commands and files on a board without an agent: plain SSH."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

import paramiko

from edgectl.boards.ssh import connect
from edgectl.boards.ssh_target import SshTarget
from edgectl.errors import EdgectlError, UnreachableError

_CONNECT_SECONDS = 10.0


@dataclass(frozen=True)
class Completed:
    """A command that has ended."""

    code: int
    output: str
    errors: str


class RemoteShell(Protocol):
    """A login on a board."""

    def run(self, command: str, seconds: float = 60.0) -> Completed:
        """Run a POSIX shell command. Raises UnreachableError where the connection ends or `seconds` pass."""

    def put(self, data: bytes, path: str) -> None:
        """Write a file. Raises EdgectlError."""


def as_root(script: str) -> str:
    """A command that runs a script as root: by sudo, which must not ask for a password, where the login is not root."""
    quoted = shlex.quote(script)
    return f"if [ $(id -u) = 0 ]; then sh -c {quoted}; else sudo -n sh -c {quoted}; fi"


class SshShell:
    """A login by SSH. The host's key must be known, as for every connection by SSH."""

    def __init__(self, login: str, host_key: str = "", identity_file: str = "") -> None:
        """`login` is USER@HOST[:PORT]; `host_key` and `identity_file` as of `ssh.connect`. Raises UsageError, and what
        that raises."""
        self.login = SshTarget.parse(login)
        self._client = connect(self.login, host_key, identity_file, _CONNECT_SECONDS)

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
