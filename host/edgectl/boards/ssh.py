"""The way to an agent on the loopback of its board: a port forwarded by SSH."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

import paramiko

from edgectl.boards.host_keys import (
    Pinned,
    Unknown,
    changed_in_known_hosts,
    entry_name,
    failures,
    known_hosts,
    other_types,
)
from edgectl.boards.ssh_target import SCHEME, SshTarget
from edgectl.errors import AuthenticationError, DeadlineError, UnreachableError, UsageError

# Its errors are raised as well; without a handler Python would print their tracebacks on the terminal.
logging.getLogger("paramiko").addHandler(logging.NullHandler())

CHUNK_BYTES = 64 << 10
_CONNECT_FAILED, _PROHIBITED = 2, 1


def connect(target: SshTarget, host_key: str, identity_file: str, seconds: float) -> paramiko.SSHClient:
    """Log in with a key: of `identity_file`, else of the user's agent and ~/.ssh. Never with a password.

    `host_key` is what the server is pinned to, `TYPE SHA256:...`; without it known_hosts must have it. Raises
    VerificationError (host key), AuthenticationError, UnreachableError, DeadlineError, UsageError (identity file).
    """
    client = paramiko.SSHClient()
    if host_key:
        client.set_missing_host_key_policy(Pinned(target, host_key))
    else:
        client.set_missing_host_key_policy(Unknown(target))
        for name, key in (known_hosts().lookup(entry_name(target)) or {}).items():
            client.get_host_keys().add(entry_name(target), name, key)
    identity = os.fspath(Path(identity_file).expanduser()) if identity_file else None
    if identity and not os.access(identity, os.R_OK):
        raise UsageError(f"the identity file {identity} cannot be read")
    end = time.monotonic() + seconds
    options: dict[str, Any] = {
        "timeout": seconds,
        "banner_timeout": seconds,
        "auth_timeout": seconds,
        "allow_agent": identity is None,
        "look_for_keys": identity is None,
        "key_filename": identity,
        "disabled_algorithms": {"keys": other_types(host_key)} if host_key else None,
    }
    try:
        with failures(target, end):
            try:
                client.connect(target.host, target.port, target.user, **options)
            except paramiko.BadHostKeyException as error:
                raise changed_in_known_hosts(target, error) from None
            except paramiko.PasswordRequiredException:
                raise AuthenticationError(
                    f"the private key {identity or 'in ~/.ssh'} for {target} is encrypted; give it to your "
                    "agent: ssh-add"
                ) from None
            except paramiko.AuthenticationException as error:
                raise _refused(target, identity, error) from None
            except paramiko.ssh_exception.IncompatiblePeer as error:
                raise UnreachableError(
                    f"{target} has no host key of the pinned type ({host_key or 'as known_hosts has'}): {error}"
                ) from None
            except paramiko.SSHException as error:
                if identity and "private key" in str(error):
                    raise UsageError(f"the identity file {identity} holds no private SSH key: {error}") from None
                if "No authentication methods" not in str(error):
                    raise
                raise _refused(target, identity, error) from None
    except BaseException:
        client.close()
        raise
    return client


def _refused(target: SshTarget, identity: str | None, error: Exception) -> AuthenticationError:
    tried = identity or "your SSH agent's keys and those in ~/.ssh"
    return AuthenticationError(
        f"{target.host} refuses to log in '{target.user}' with {tried} ({error}); put your key there: "
        f"ssh-copy-id {target}"
    )


class SshRoute:
    """Connections to a port on a board's loopback. The SSH connection is made with the first and kept for others."""

    def __init__(self, target: SshTarget, port: int, host_key: str = "", identity_file: str = "") -> None:
        self._target, self._port = target, port
        self._host_key, self._identity_file = host_key, identity_file
        self._client: paramiko.SSHClient | None = None

    def __str__(self) -> str:
        return f"{SCHEME}{self._target}"

    @property
    def host(self) -> str:
        return self._target.host

    def client(self, seconds: float) -> paramiko.SSHClient:
        """The SSH connection, made again where it is lost. Raises what `connect` raises."""
        transport = None if self._client is None else self._client.get_transport()
        if self._client is None or transport is None or not transport.is_active():
            self.close()
            self._client = connect(self._target, self._host_key, self._identity_file, seconds)
        return self._client

    def dial(self, seconds: float) -> socket.socket:
        """A connection to the port. Raises what `connect` raises, UnreachableError where nothing listens there."""
        end = time.monotonic() + seconds
        transport = self.client(seconds).get_transport()
        assert transport is not None
        place = ("127.0.0.1", self._port)
        try:
            channel = transport.open_channel("direct-tcpip", place, ("127.0.0.1", 0), timeout=max(0.1, seconds))
        except paramiko.ChannelException as error:
            if error.code == _PROHIBITED:
                raise UnreachableError(
                    f"the SSH server of {self._target} does not forward ports; set AllowTcpForwarding yes in its "
                    "sshd_config"
                ) from None
            raise UnreachableError(
                f"no agent listens on port {self._port} of {self._target.host} ({error.text}); start edge-agent there"
            ) from None
        except (paramiko.SSHException, EOFError, OSError) as error:
            if time.monotonic() >= end or "Timeout" in str(error):
                raise DeadlineError(f"{self._target} did not forward port {self._port} in time") from None
            raise UnreachableError(f"the SSH connection to {self._target} broke: {error}") from None
        near, far = socket.socketpair()
        for pump in (_to_board, _from_board):
            threading.Thread(target=pump, args=(far, channel), name=f"ssh {self._target.host}", daemon=True).start()
        return near

    def close(self) -> None:
        """End the SSH connection, and all connections through it."""
        if self._client is not None:
            self._client.close()
            self._client = None


def _to_board(local: socket.socket, channel: paramiko.Channel) -> None:
    """Forward what comes from here until either end closes; then end both."""
    with contextlib.suppress(OSError, EOFError):
        while data := local.recv(CHUNK_BYTES):
            channel.sendall(data)
    _close(channel)


def _close(channel: paramiko.Channel) -> None:
    """Close a channel, whose connection may be gone."""
    with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
        channel.close()


def _from_board(local: socket.socket, channel: paramiko.Channel) -> None:
    """Forward what comes from the board until either end closes; then end both."""
    with contextlib.suppress(OSError, EOFError):
        while data := channel.recv(CHUNK_BYTES):
            local.sendall(data)
    _close(channel)
    with contextlib.suppress(OSError):
        local.shutdown(socket.SHUT_RDWR)
    local.close()
