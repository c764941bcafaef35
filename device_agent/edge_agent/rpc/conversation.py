"""Answers the frames of one connection, until its client leaves, breaks the protocol or is idle too long."""

from __future__ import annotations

import contextlib
import inspect
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from edge_agent.errors import AgentError, InputError, ProtocolError
from edge_agent.rpc import codec
from edge_agent.rpc.channel import Channel, ConnectionClosed, PeerTooSlow
from edge_agent.rpc.codec import Code, Device, Pointer, Reader, Tensor, Value
from edge_agent.rpc.memory import Budget
from edge_agent.rpc.session import Session

logger = logging.getLogger(__name__)

_DEVICE_KINDS = (1, 12)
"""The CPU and the accelerator: their memory is the same here."""
_EXISTS, _DEVICE_NAME = 0, 5
_SMALL_FRAME = 1 << 20
_SKIPPED_FRAMES = 8
"""A frame that is too long is read and dropped up to so many times the limit; one beyond that is a lie."""


class Conversation:
    """The frames of one session. A longer frame counts against the memory budget of all sessions."""

    def __init__(self, channel: Channel, session: Session, budget: Budget) -> None:
        self._channel = channel
        self._session = session
        self._budget = budget
        self._limits = session.endpoint.limits
        self.waiting_since: float | None = None
        """Since when (time.monotonic) no frame has come; None while one is served."""
        self._initialized = False
        self._system_calls: dict[int, Callable[..., Value]] = {
            Code.GET_GLOBAL_FUNCTION: self._get_global_function,
            Code.FREE_HANDLE: self._free_handle,
            Code.SET_DEVICE: self._check_device,
            Code.GET_ATTRIBUTE: self._get_attribute,
            Code.ALLOCATE: self._allocate,
            Code.FREE: self._free,
            Code.SYNCHRONIZE: self._check_device,
            Code.COPY_AMONG_REMOTE: self._copy_among_remote,
            Code.ALLOCATE_WITH_SCOPE: self._allocate_with_scope,
            Code.SET_STREAM: self._check_device,
        }

    def run(self) -> None:
        """Answer frames. Does not raise for anything that a peer can do."""
        try:
            while True:
                self._await_frame()
                with self._session.endpoint.working():
                    if not self._serve_one():
                        return
        except (ConnectionClosed, PeerTooSlow) as error:
            logger.info("session ended: %s", error)
        except ProtocolError as error:
            logger.warning("session ended: %s", error)
            with contextlib.suppress(ConnectionClosed, PeerTooSlow):
                self._reply_exception(error)

    def _await_frame(self) -> None:
        self.waiting_since = time.monotonic()
        idle_end = self.waiting_since + self._limits.idle_seconds
        try:
            self._channel.await_data(min(idle_end, self._session.end))
        except PeerTooSlow:
            if self._session.end < idle_end:
                with contextlib.suppress(ConnectionClosed, PeerTooSlow):
                    self._reply_exception(self._session.expired())
            raise
        self.waiting_since = None

    def _serve_one(self) -> bool:
        """Read a frame and answer it; whether the client stays."""
        nbytes = self._channel.receive_length(time.monotonic() + self._limits.frame_seconds)
        try:
            with self._reserved(nbytes):
                code, body = self._channel.receive_frame(nbytes, self._deadline(nbytes))
                if code == Code.SHUTDOWN:
                    return False
                reply_code, parts = self._answer(code, Reader(body))
        except (ProtocolError, ConnectionClosed, PeerTooSlow):
            raise
        except AgentError as error:
            self._reply_exception(error)
        except Exception as error:
            logger.exception("a call failed in an unforeseen way")
            self._reply_exception(AgentError(f"internal error in the agent: {error!r}"))
        else:
            self._channel.send(reply_code, parts, self._deadline(sum(map(len, parts))))
        return True

    @contextlib.contextmanager
    def _reserved(self, nbytes: int) -> Iterator[None]:
        """Memory for a frame. Where there is none, the frame is let pass, so that its sender can read why."""
        counted = nbytes if nbytes > _SMALL_FRAME else 0
        try:
            if nbytes > self._limits.frame_bytes:
                raise InputError(
                    f"a frame has {nbytes} bytes, at most {self._limits.frame_bytes} are accepted; "
                    "send bundles with edge.upload.*, in chunks"
                )
            self._budget.take(counted)
        except AgentError as error:
            if nbytes > _SKIPPED_FRAMES * self._limits.frame_bytes:
                raise ProtocolError(str(error)) from error
            self._channel.discard(nbytes, self._deadline(nbytes))
            raise
        try:
            yield
        finally:
            self._budget.give(counted)

    def _deadline(self, nbytes: int) -> float:
        return time.monotonic() + self._limits.frame_seconds + nbytes / self._limits.minimum_rate

    def _reply_exception(self, error: AgentError) -> None:
        parts = [codec.encode_exception(f"{error.code}: {error}")]
        self._channel.send(Code.EXCEPTION, parts, self._deadline(len(parts[0])))

    def _answer(self, code: int, body: Reader) -> tuple[Code, list[bytes]]:
        if code == Code.INIT_SERVER:
            return self._initialize(body)
        if not self._initialized:
            raise ProtocolError(f"the first frame has code {code}, it must be {Code.INIT_SERVER.value}")
        if code == Code.CALL_FUNCTION:
            return self._call(body)
        if code == Code.COPY_FROM_REMOTE:
            tensor, count = body.tensor(), body.u64()
            body.end()
            return Code.COPY_ACKNOWLEDGE, [self._session.memory.bytes_of(tensor, count).tobytes()]
        if code == Code.COPY_TO_REMOTE:
            tensor, count = body.tensor(), body.u64()
            data = body.take(count)
            body.end()
            self._session.memory.bytes_of(tensor, count)[:] = np.frombuffer(data, np.uint8)
            return Code.RETURN, [codec.encode_values([None])]
        return self._system_call(code, body)

    def _system_call(self, code: int, body: Reader) -> tuple[Code, list[bytes]]:
        if code not in self._system_calls:
            raise ProtocolError(f"frames of code {code} are not served here")
        call = self._system_calls[code]
        arguments = body.values()
        body.end()
        try:
            inspect.signature(call).bind(*arguments)
        except TypeError as error:
            raise ProtocolError(f"a frame of code {code} has arguments that do not fit: {error}") from error
        return Code.RETURN, [codec.encode_values([call(*arguments)])]

    def _initialize(self, body: Reader) -> tuple[Code, list[bytes]]:
        version = body.text()
        arguments = body.values()
        body.end()
        if version != codec.PROTOCOL_VERSION:
            raise ProtocolError(
                f"the client speaks TVM RPC {version[:32]!r}, this agent speaks {codec.PROTOCOL_VERSION!r}; "
                "use the client of TVM 0.27"
            )
        if arguments:
            raise InputError("session constructors are not served here: connect without session_constructor_args")
        self._initialized = True
        return Code.RETURN, [codec.encode_values([None])]

    def _call(self, body: Reader) -> tuple[Code, list[bytes]]:
        handle = body.u64()
        arguments = body.values()
        body.end()
        with self._session.lease_in_use():
            result = self._session.function(handle)(arguments)
        self._session.check_expired()
        # A tensor's handle frees its memory: the two are one here.
        return Code.RETURN, [codec.encode_result(result, result.data if isinstance(result, Tensor) else None)]

    def _get_global_function(self, name: object) -> Value:
        callee = self._session.find_function(_as(str, name))
        return Pointer(0 if callee is None else self._session.keep_function(callee).handle)

    def _free_handle(self, handle: object) -> Value:
        number = _handle(handle)
        if number and not self._session.free_handle(number) and not self._session.memory.free(number):
            raise InputError(f"there is nothing with handle {number} in this session")
        return None

    def _check_device(self, device: object, stream: object = None) -> Value:
        kind = _as(Device, device).kind
        if kind not in _DEVICE_KINDS:
            raise InputError(f"this board has no device of DLPack kind {kind}; use cpu(0) or ext_dev(0)")
        return None

    def _get_attribute(self, device: object, attribute: object) -> Value:
        known = _as(Device, device).kind in _DEVICE_KINDS
        if attribute == _EXISTS:
            return int(known)
        return self._session.endpoint.board if known and attribute == _DEVICE_NAME else None

    def _allocate(self, device: object, nbytes: object, alignment: object, type_hint: object) -> Value:
        self._check_device(device)
        return Pointer(self._session.memory.allocate(_as(int, nbytes)))

    def _allocate_with_scope(self, template: object, scope: object) -> Value:
        tensor = _as(Tensor, template)
        self._check_device(tensor.device)
        if scope not in (None, "", "global"):
            raise InputError(f"there is no memory scope {scope!r} here")
        return Pointer(self._session.memory.allocate(tensor.nbytes))

    def _free(self, device: object, handle: object) -> Value:
        number = _handle(handle)
        if number and not self._session.memory.free(number):
            raise InputError(f"there is no tensor memory with handle {number} in this session")
        return None

    def _copy_among_remote(self, source: object, target: object, stream: object = None) -> Value:
        origin, destination = _as(Tensor, source), _as(Tensor, target)
        if origin.nbytes != destination.nbytes:
            raise InputError(f"a tensor of {origin.nbytes} bytes cannot be copied to one of {destination.nbytes} bytes")
        memory = self._session.memory
        memory.bytes_of(destination)[:] = memory.bytes_of(origin)
        return None


def _as(kind: type, value: object) -> Any:
    if not isinstance(value, kind):
        raise ProtocolError(f"an argument is a {type(value).__name__}, it must be a {kind.__name__}")
    return value


def _handle(value: object) -> int:
    """A pointer's handle; null may come as none."""
    return 0 if value is None else int(_as(Pointer, value).handle)
