"""The controller's connection to an agent: typed calls with deadlines, on the same codec as the agent's RPC port."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np

from edge_agent.errors import AgentError
from edge_agent.errors import DeadlineError as AgentDeadlineError
from edge_agent.errors import IncompatibleError as AgentIncompatibleError
from edge_agent.errors import ProtocolError as AgentProtocolError
from edge_agent.rpc import arrays, codec, handshake
from edge_agent.rpc.channel import Channel, ConnectionClosed
from edge_agent.rpc.codec import Code, Pointer, Reader, Value
from edge_agent.version import CONTROL_PROTOCOL
from edgectl.errors import (
    BusyError,
    DeadlineError,
    EdgectlError,
    IncompatibleError,
    UnreachableError,
    UsageError,
    VerificationError,
)

CHUNK_BYTES = 256 << 10
MAXIMUM_REPLY_BYTES = 1 << 30
_ERRORS: dict[str, type[EdgectlError]] = {
    "incompatible": IncompatibleError,
    "program": IncompatibleError,
    "protocol": IncompatibleError,
    "verification": VerificationError,
    "busy": BusyError,
    "timeout": DeadlineError,
    "input": UsageError,
    "hardware": EdgectlError,
    "degraded": EdgectlError,
    "failure": EdgectlError,
}
Progress = Callable[[int, int], None]
"""Called with the bytes that have arrived so far and those there are in total."""
Kind = TypeVar("Kind", str, bytes, int)


class Route(Protocol):
    """A way to an agent's RPC port; `str` names it for people."""

    def dial(self, seconds: float) -> socket.socket:
        """A connection within so many seconds. Raises UnreachableError, DeadlineError."""

    def close(self) -> None:
        """End what connections were made through."""


class Address(NamedTuple):
    """Where an agent's RPC port is."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def dial(self, seconds: float) -> socket.socket:
        """A TCP connection. Raises UnreachableError, DeadlineError."""
        try:
            return socket.create_connection(self, timeout=max(0.001, seconds))
        except TimeoutError:
            raise DeadlineError(
                f"the board at {self} did not answer within {seconds:.3g} s; is it on, and reachable from here?"
            ) from None
        except OSError as error:
            raise UnreachableError(
                f"no agent answers at {self}: {error.strerror or error}; start it, or see `edgectl boards`"
            ) from error

    def close(self) -> None:
        """Nothing: there is only the connection."""

    @classmethod
    def parse(cls, text: str) -> Address:
        """HOST:PORT; a host with colons stands in brackets. Raises UsageError."""
        host, _, port = text.rpartition(":")
        plain = host[1:-1] if host.startswith("[") and host.endswith("]") else host
        good = plain and plain.isprintable() and not set(plain) & set(" []/@")
        if not good or not (port.isascii() and port.isdecimal()) or not 0 < int(port[-9:]) < 65536 or len(port) > 9:
            raise UsageError(f"{text!r} is not HOST:PORT")
        return cls(plain, int(port))


@dataclass(frozen=True)
class InferenceReply:
    """Outputs by name, and what the agent measured: seconds of it all and of VTA, and the seven counters."""

    outputs: Mapping[str, np.ndarray]
    seconds: float
    vta_seconds: float
    counters: Mapping[str, int]


@dataclass(frozen=True)
class BenchReply:
    """Repeated inference: means as TVM's time_evaluator gives them, and every run's seconds, of it all and of VTA."""

    means: tuple[float, ...]
    seconds: tuple[float, ...]
    vta_seconds: tuple[float, ...]
    counters: Mapping[str, int]


class Connection:
    """A connection to one agent; reconnects once it is used after a failure. Not for several threads at once.

    Every method raises UnreachableError where the agent does not answer or dies, DeadlineError after `deadline`
    seconds, and the error that the agent's own stands for: IncompatibleError, VerificationError, BusyError, UsageError.
    """

    def __init__(self, address: Route | tuple[str, int], key: str, deadline: float = 10.0) -> None:
        """Connect. Raises IncompatibleError where the key or the agent's protocol does not fit."""
        self.address: Route = Address(*address) if isinstance(address, tuple) else address
        self._key = key
        self._lease = ""
        self._deadline = deadline
        self._channel: Channel | None = None
        self._handles: dict[str, int] = {}
        self._open(time.monotonic() + deadline)

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Say goodbye and disconnect. May be called again."""
        channel, self._channel = self._channel, None
        self._handles = {}
        if channel is not None:
            with suppress(ConnectionClosed, AgentError):
                channel.send(Code.SHUTDOWN, [], time.monotonic() + 1)
            channel.close()
        self.address.close()

    def drop(self) -> None:
        """Forget a connection in an unknown state."""
        channel, self._channel = self._channel, None
        self._handles = {}
        if channel is not None:
            channel.close()

    def _open(self, deadline: float) -> Channel:
        if self._channel is not None:
            return self._channel
        self._channel = Channel(self.address.dial(max(0.001, deadline - time.monotonic())))
        try:
            with _translated(self):
                handshake.greet(self._channel, self._key, deadline)
                self._exchange(
                    Code.INIT_SERVER, [codec.encode_text(codec.PROTOCOL_VERSION), codec.encode_values([])], deadline
                )
            versions = json.loads(self._invoke("edge.protocol", (), str, deadline))
            if versions["protocol"] != CONTROL_PROTOCOL:
                raise IncompatibleError(
                    f"the agent at {self.address} is version {versions['agent']} with protocol "
                    f"{versions['protocol']}, this controller has protocol {CONTROL_PROTOCOL}; "
                    "install the same version of edgectl on both"
                )
            if self._lease:
                self._invoke("edge.lease.use", (self._lease,), None, deadline)
        except BaseException:
            self.drop()
            raise
        return self._channel

    def _exchange(self, code: Code, parts: list[bytes], deadline: float) -> list[Value]:
        """Send a frame and return the values of its answer."""
        assert self._channel is not None
        self._channel.send(code, parts, deadline)
        nbytes = self._channel.receive_length(deadline)
        if nbytes > MAXIMUM_REPLY_BYTES:
            raise AgentProtocolError(f"a reply announces {nbytes} bytes, at most {MAXIMUM_REPLY_BYTES} are accepted")
        answer, body = self._channel.receive_frame(nbytes, deadline)
        values = Reader(body).values()
        if answer == Code.EXCEPTION and values and isinstance(values[0], str):
            raise _RemoteError(values[0])
        if answer != Code.RETURN:
            raise IncompatibleError(
                f"the board at {self.address} answers a call with code {answer}; is it an edge-agent?"
            )
        return values

    def _invoke(self, name: str, arguments: tuple[Value, ...], kind: type[Kind] | None, deadline: float) -> Any:
        with _translated(self):
            if name not in self._handles:
                (found,) = self._exchange(Code.GET_GLOBAL_FUNCTION, [codec.encode_values([name])], deadline)
                if not isinstance(found, Pointer) or not found.handle:
                    raise IncompatibleError(
                        f"the board at {self.address} has no function '{name}': it is not an edge-agent, or "
                        "one of another version; install the same version of edgectl on both"
                    )
                self._handles[name] = found.handle
            call = [self._handles[name].to_bytes(8, "little"), codec.encode_values(arguments)]
            values = self._exchange(Code.CALL_FUNCTION, call, deadline)
            result = values[1] if len(values) == 2 else None
            if kind is not None and not isinstance(result, kind):
                raise IncompatibleError(
                    f"'{name}' of the board at {self.address} returned {type(result).__name__}, "
                    f"not {kind.__name__}; install the same version of edgectl on both"
                )
            return result

    def call(self, name: str, *arguments: Value, kind: type[Kind] | None = None, deadline: float | None = None) -> Any:
        """Call a function of docs/rpc.md's table; `kind` is the type that it must return."""
        end = time.monotonic() + (deadline if deadline is not None else self._deadline)
        self._open(end)
        return self._invoke(name, arguments, kind, end)

    def status(self) -> dict[str, Any]:
        """The agent's status: board, versions, ports, what is live, the last inference."""
        return _document(self.call("edge.status", kind=str))

    @property
    def leased(self) -> bool:
        """Whether this connection works under a lease."""
        return bool(self._lease)

    def take_lease(self, owner: str, purpose: str, seconds: float, automatic: bool) -> str:
        """Take the board (docs/rpc.md, Leases), also for when this connection is made again; the lease's token.

        Raises BusyError where somebody else has it.
        """
        self._lease = self.call("edge.lease.take", owner, purpose, float(seconds), automatic, kind=str)
        return self._lease

    def use_lease(self, token: str) -> None:
        """Work under a lease that was taken before. Raises BusyError where it has run out."""
        self.call("edge.lease.use", token)
        self._lease = token

    def renew_lease(self, seconds: float) -> None:
        """Let the lease last so many seconds from now. Raises BusyError where it has run out."""
        self.call("edge.lease.renew", float(seconds))

    def release_lease(self, deadline: float | None = None) -> None:
        """Give the lease back."""
        try:
            self.call("edge.lease.release", deadline=deadline)
        finally:
            self._lease = ""

    def prove(self, key: str) -> bool:
        """Whether the agent knows `key`, which is not sent; from now on it is presented to it."""
        challenge = secrets.token_hex(16)
        if not hmac.compare_digest(self.call("edge.prove", challenge, kind=str), handshake.proof(key, challenge)):
            return False
        self._key = key
        return True

    def manifest(self) -> dict[str, Any]:
        """The manifest of the live model: inputs, preprocessing, labels, what it was compiled for."""
        return _document(self.call("edge.manifest", kind=str))

    def upload(
        self, data: bytes, progress: Progress | None = None, attempts: int = 3, family: str = "edge.upload"
    ) -> str:
        """Send a bundle and return its digest, or with the functions of the `family` edge.flash a bitstream. An
        interrupted upload is resumed; `attempts` in a row may fail."""
        sha256 = hashlib.sha256(data).hexdigest()
        best, failures = 0, 0

        def report(done: int) -> None:
            nonlocal best, failures
            if done > best:
                best, failures = done, 0
            if progress is not None:
                progress(done, len(data))

        while True:
            try:
                return self._send(data, sha256, report, family)
            except (UnreachableError, DeadlineError) as error:
                failures += 1
                if failures >= attempts:
                    raise type(error)(
                        f"the upload to {self.address} was interrupted {failures} times in a row: {error}"
                    ) from error
                time.sleep(0.2 * failures)

    def _send(self, data: bytes, sha256: str, report: Callable[[int], None], family: str) -> str:
        """One attempt of an upload, from where the agent says."""
        done = self.call(f"{family}.begin", len(data), sha256, kind=int)
        report(done)
        while done < len(data):
            reached = self.call(f"{family}.chunk", sha256, done, data[done : done + CHUNK_BYTES], kind=int)
            if reached <= done:
                raise UnreachableError("another client has ended the upload of the same file")
            done = reached
            report(done)
        digest: str = self.call(f"{family}.commit", sha256, kind=str, deadline=max(60.0, self._deadline))
        return digest

    def activate(self, digest: str, deadline: float = 120.0) -> dict[str, Any]:
        """Make an uploaded bundle live after its self-test; the agent's account of it."""
        return _document(self.call("edge.activate", digest, kind=str, deadline=deadline))

    def program(self, sha256: str, name: str, config: str, isa: str, deadline: float = 300.0) -> dict[str, Any]:
        """Program an uploaded bitstream and self-test the accelerator; the agent's account of it. The bitstream
        that was there before comes back where that fails: then it raises VerificationError."""
        return _document(self.call("edge.flash.program", sha256, name, config, isa, kind=str, deadline=deadline))

    def infer(self, inputs: Mapping[str, np.ndarray], deadline: float = 60.0) -> InferenceReply:
        """One inference of the live model."""
        try:
            outputs, header = arrays.unpack(self.call("edge.infer", arrays.pack(inputs), kind=bytes, deadline=deadline))
            return InferenceReply(
                outputs, float(header["seconds"]), float(header["vta_seconds"]), dict(header["counters"])
            )
        except (AgentError, KeyError, TypeError, ValueError) as error:
            raise IncompatibleError(f"the reply of the board at {self.address} does not parse: {error}") from error

    def bench(
        self, number: int, repeat: int, inputs: Mapping[str, np.ndarray] | None = None, deadline: float = 600.0
    ) -> BenchReply:
        """Time `repeat` rounds of `number` inferences each; without inputs, on zeros."""
        request = arrays.pack(inputs) if inputs else b""
        reply = _document(self.call("edge.bench", number, repeat, request, kind=str, deadline=deadline))
        return BenchReply(
            tuple(reply["means"]), tuple(reply["seconds"]), tuple(reply["vta_seconds"]), reply["counters"]
        )

    def shutdown(self) -> None:
        """End the agent of a simulated board."""
        self.call("edge.shutdown")
        self.close()


class _RemoteError(Exception):
    """An exception frame: `code: message` from an edge-agent, any text from another endpoint."""


@contextmanager
def _translated(connection: Connection) -> Iterator[None]:
    """Turn what the codec and the agent raise into the controller's errors, and drop a broken connection."""
    address = connection.address
    try:
        yield
    except _RemoteError as error:
        code, separator, message = str(error).partition(": ")
        if separator and code in _ERRORS:
            raise _ERRORS[code](message) from None
        raise EdgectlError(f"the board at {address} reports: {error}") from None
    except ConnectionClosed as error:
        connection.drop()
        raise UnreachableError(f"the agent at {address} is gone: {error}; see its log, then try again") from error
    except AgentDeadlineError as error:
        connection.drop()
        raise DeadlineError(
            f"the board at {address} did not answer in time; try again, or with a longer deadline"
        ) from error
    except AgentIncompatibleError as error:
        connection.drop()
        raise IncompatibleError(f"{address}: {error}") from error
    except AgentError as error:
        connection.drop()
        raise IncompatibleError(f"the board at {address} breaks the protocol: {error}") from error
    except BaseException:
        # Ctrl-C in the middle of a call: what comes next on the wire would be its answer.
        connection.drop()
        raise


def _document(text: str) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except ValueError as error:
        raise IncompatibleError(f"the agent's reply is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise IncompatibleError(f"the agent's reply is not an object: {text[:80]}")
    return document
