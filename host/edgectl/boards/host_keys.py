"""Who an SSH server must be: pinned by the inventory, or known to OpenSSH's files. Nothing is trusted unasked."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import paramiko

from edgectl.boards.ssh_target import SSH_PORT, SshTarget
from edgectl.errors import DeadlineError, UnreachableError, UsageError, VerificationError

SYSTEM_KNOWN_HOSTS = Path("/etc/ssh/ssh_known_hosts")
KEY_ALGORITHMS = {
    "ssh-ed25519": "ssh-ed25519",
    "ecdsa-sha2-nistp256": "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384": "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521": "ecdsa-sha2-nistp521",
    "rsa-sha2-512": "ssh-rsa",
    "rsa-sha2-256": "ssh-rsa",
}
"""What a server may sign with, the preferred first, and the type of key that each needs."""


def described(key: paramiko.PKey) -> str:
    """A key as the inventory pins it: `TYPE SHA256:...`."""
    return f"{key.get_name()} {key.fingerprint}"


def other_types(pin: str) -> list[str]:
    """The host key algorithms that must not be negotiated, so that a server shows the key that is pinned."""
    wanted = pin.split(" ")[0]
    return [name for name, kind in KEY_ALGORITHMS.items() if kind != wanted]


class Pinned(paramiko.MissingHostKeyPolicy):
    """Accepts the one key that is pinned."""

    def __init__(self, target: SshTarget, pin: str) -> None:
        self._target, self._pin = target, pin

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
        if described(key) != self._pin:
            raise changed(self._target, self._pin, described(key), "edgectl boards remove NAME, and add it again")


class Unknown(paramiko.MissingHostKeyPolicy):
    """Accepts nothing: known_hosts does not have the server."""

    def __init__(self, target: SshTarget) -> None:
        self._target = target

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
        raise unknown(self._target, described(key))


def known_hosts() -> paramiko.HostKeys:
    """What OpenSSH's files of this user and of this machine know."""
    keys = paramiko.HostKeys()
    for file in (SYSTEM_KNOWN_HOSTS, Path("~/.ssh/known_hosts").expanduser()):
        if file.exists():
            try:
                keys.load(os.fspath(file))
            except (OSError, UnicodeDecodeError, paramiko.SSHException) as error:
                raise UsageError(f"{file} cannot be read: {error}") from error
    return keys


def entry_name(target: SshTarget) -> str:
    """The name of a server in known_hosts."""
    return target.host if target.port == SSH_PORT else f"[{target.host}]:{target.port}"


def shown_key(target: SshTarget, accepted: str = "", seconds: float = 10.0) -> tuple[str, bool]:
    """The key that a server shows, as `TYPE SHA256:...`, and whether known_hosts has it. Nobody logs in.

    With an `accepted` fingerprint `SHA256:...`, the server's key of any type that has it. Raises VerificationError
    where known_hosts has another key or no key is the accepted one, UnreachableError, DeadlineError.
    """
    end = time.monotonic() + seconds
    known = known_hosts().lookup(entry_name(target)) or {}
    types = sorted(KEY_ALGORITHMS, key=lambda name: KEY_ALGORITHMS[name] not in known)
    shown: list[str] = []
    while types:
        key = _offered(target, tuple(types), end)
        if key is None:
            break
        if key.get_name() in known and known[key.get_name()] != key:
            raise changed(target, described(known[key.get_name()]), described(key), _forget(target))
        if not accepted or key.fingerprint == accepted:
            return described(key), key.get_name() in known
        shown.append(described(key))
        types = [name for name in types if KEY_ALGORITHMS[name] != key.get_name()]
    raise VerificationError(
        f"{target} shows {' and '.join(shown) or 'no key that can be used'}, not {accepted}: it is not the board that "
        "you mean, or somebody is in between; look at the board: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub"
    )


def _offered(target: SshTarget, types: tuple[str, ...], end: float) -> paramiko.PKey | None:
    """The key that a server shows when it can choose between `types`; None where it has none of them."""
    with failures(target, end):
        connection = socket.create_connection((target.host, target.port), timeout=max(0.001, end - time.monotonic()))
        transport = paramiko.Transport(connection)
        try:
            transport.get_security_options().key_types = types
            transport.start_client(timeout=max(0.001, end - time.monotonic()))
            return transport.get_remote_server_key()
        except paramiko.ssh_exception.IncompatiblePeer:
            return None
        finally:
            transport.close()


@contextmanager
def failures(target: SshTarget, end: float) -> Iterator[None]:
    """Turn what a connection to an SSH server can fail with into UnreachableError and DeadlineError."""
    late = DeadlineError(f"{target} did not answer by SSH in time; is it on, and reachable from here?")
    try:
        yield
    except TimeoutError:
        raise late from None
    except (OSError, EOFError) as error:
        raise UnreachableError(f"no SSH server answers at {target}: {error or 'it hung up'}") from error
    except paramiko.SSHException as error:
        if time.monotonic() >= end or isinstance(error.__cause__, TimeoutError) or "Timeout" in str(error):
            raise late from None
        raise UnreachableError(f"what answers at {target} does not speak SSH as it must: {error}") from error


def changed(target: SshTarget, expected: str, found: str, repair: str) -> VerificationError:
    """What to raise where a server shows another key than it must."""
    return VerificationError(
        f"the host key of {target} has CHANGED: expected {expected}, found {found}. Somebody may be in between. Where "
        f"the board was installed again, compare with ssh-keygen -lf /etc/ssh/ssh_host_*_key.pub on it, then: {repair}"
    )


def unknown(target: SshTarget, found: str, command: str = "") -> VerificationError:
    """What to raise where nothing says what a server's key must be; `command` takes --accept-fingerprint."""
    return VerificationError(
        f"the host key of {target} is not known: it shows {found}. Compare with ssh-keygen -lf "
        f"/etc/ssh/ssh_host_*_key.pub on the board, then: {command or f'edgectl boards add NAME --ssh {target}'} "
        f"--accept-fingerprint {found.split(' ')[1]}"
    )


def _forget(target: SshTarget) -> str:
    return f"ssh-keygen -R '{entry_name(target)}'"


def changed_in_known_hosts(target: SshTarget, error: paramiko.BadHostKeyException) -> VerificationError:
    """What to raise for a server that shows another key than known_hosts has."""
    return changed(target, described(error.expected_key), described(error.key), _forget(target))
