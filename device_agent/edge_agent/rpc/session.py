"""One client's session: its handles, tensors and files, and the answers to its frames."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.errors import AgentError, DeadlineError, InputError, ProtocolError
from edge_agent.rpc import codec, edge, stock
from edge_agent.rpc.channel import Channel, ConnectionClosed, FrameTooLong
from edge_agent.rpc.codec import Code, DataType, Device, FunctionHandle, ModuleHandle, Pointer, Reader, Tensor, Value
from edge_agent.rpc.files import Files
from edge_agent.rpc.functions import collect
from edge_agent.rpc.memory import Budget, Memory
from edge_agent.rpc.module import MODULE_FUNCTIONS, BundleModule
from edge_agent.service import Service
from edge_agent.uploads import Uploads

logger = logging.getLogger(__name__)

FUNCTIONS = {**collect(vars(stock)), **collect(vars(edge))}
MAXIMUM_HANDLES = 65536
_DEVICE_KINDS = (1, 12)
"""The CPU and the accelerator: their memory is the same here."""
_EXISTS, _DEVICE_NAME = 0, 5
Callee = Callable[[list[Value]], Any]


@dataclass(frozen=True)
class Limits:
    """Seconds and bytes that a client may take."""

    handshake_seconds: float = 5.0
    idle_seconds: float = 900.0
    """Between two frames."""
    frame_seconds: float = 20.0
    """For a small frame or a reply; longer ones have more (see Channel)."""
    frame_bytes: int = 256 << 20
    tensor_bytes: int = 256 << 20
    """Of all sessions together."""
    file_bytes: int = 512 << 20
    """Of one session's folder."""
    sessions: int = 16
    pending: int = 64
    """Connections that have not finished their handshake; the oldest makes way for another."""


@dataclass(frozen=True)
class Endpoint:
    """What sessions work on. `status` gives edge.status, `shut_down` ends the agent or refuses to."""

    board: str
    service: Service
    uploads: Uploads
    folder: Path
    status: Callable[[], dict[str, Any]]
    shut_down: Callable[[], None]
    limits: Limits = field(default_factory=Limits)
    busy: Callable[[], None] = lambda: None
    """Called with every frame: the agent is in use."""


class SessionExpired(AgentError):
    """The session has lasted as long as its client asked for. TVM's client knows the message's first word."""

    code = "RPCSessionTimeoutError"


class Session:
    """Serves one connection until its client leaves, breaks the protocol or is idle too long."""

    def __init__(
        self, channel: Channel, endpoint: Endpoint, budget: Budget, name: str, session_seconds: float = math.inf
    ) -> None:
        self.endpoint = endpoint
        self.memory = Memory(budget)
        self.files = Files(endpoint.folder / name, endpoint.limits.file_bytes)
        self._channel = channel
        self._end = time.monotonic() + session_seconds
        self._session_seconds = session_seconds
        self._handles: dict[int, Callee | BundleModule] = {}
        self._next_handle = 1
        self._initialized = False

    def run(self) -> None:
        """Answer frames. Does not raise for anything that a peer can do."""
        try:
            while self._serve_one():
                pass
        except (ConnectionClosed, DeadlineError) as error:
            logger.info("session ended: %s", error)
        except ProtocolError as error:
            logger.warning("session ended: %s", error)
            self._try_reply_exception(error)
        finally:
            self._release()

    def _release(self) -> None:
        for handle in list(self._handles):
            self._free_handle(handle)
        self.memory.clear()
        self.files.clear()

    def _serve_one(self) -> bool:
        limits = self.endpoint.limits
        idle_end = time.monotonic() + limits.idle_seconds
        try:
            self._channel.await_data(min(idle_end, self._end))
        except DeadlineError:
            if self._end < idle_end:
                self._try_reply_exception(self._expired())
            raise
        self.endpoint.busy()
        try:
            code, body = self._channel.receive(limits.frame_bytes, limits.frame_seconds)
        except FrameTooLong as error:
            self._skip(error)
            return True
        if code == Code.SHUTDOWN:
            return False
        try:
            reply_code, parts = self._answer(code, Reader(body))
        except (ProtocolError, ConnectionClosed):
            raise
        except AgentError as error:
            self._reply_exception(error)
        except Exception as error:
            logger.exception("a call failed in an unforeseen way")
            self._reply_exception(AgentError(f"internal error in the agent: {error!r}"))
        else:
            self._channel.send(reply_code, parts, self._reply_deadline(parts))
        self.endpoint.busy()
        return True

    def _skip(self, error: FrameTooLong) -> None:
        """Let a frame that is too long pass by, so that its sender can read why; a lying length ends the session."""
        limits = self.endpoint.limits
        if error.nbytes > 8 * limits.frame_bytes:
            raise error
        self._channel.discard(error.nbytes, time.monotonic() + limits.frame_seconds + error.nbytes / (1 << 20))
        self._reply_exception(InputError(f"{error}; send bundles with edge.upload.*, in chunks"))

    def _reply_deadline(self, parts: list[bytes]) -> float:
        return time.monotonic() + self.endpoint.limits.frame_seconds + sum(map(len, parts)) / (1 << 15)

    def _reply_exception(self, error: AgentError) -> None:
        parts = [codec.encode_exception(f"{error.code}: {error}")]
        self._channel.send(Code.EXCEPTION, parts, self._reply_deadline(parts))

    def _try_reply_exception(self, error: AgentError) -> None:
        with contextlib.suppress(ConnectionClosed, DeadlineError):
            self._reply_exception(error)

    def _expired(self) -> SessionExpired:
        return SessionExpired(
            f"the session of {self._session_seconds:g} s has expired; connect again with a longer session_timeout"
        )

    def seconds_left(self) -> float | None:
        """Until the session expires; None where it does not."""
        return None if math.isinf(self._end) else max(0.0, self._end - time.monotonic())

    def check_alive(self) -> None:
        """Raise ConnectionClosed where the client is gone, SessionExpired where its time is over."""
        self.endpoint.busy()
        if self._channel.peer_closed():
            raise ConnectionClosed("the client left during a call")
        if time.monotonic() > self._end:
            raise self._expired()

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
            return Code.COPY_ACKNOWLEDGE, [self.memory.bytes_of(tensor, count).tobytes()]
        if code == Code.COPY_TO_REMOTE:
            tensor, count = body.tensor(), body.u64()
            data = body.take(count)
            body.end()
            self.memory.bytes_of(tensor, count)[:] = np.frombuffer(data, np.uint8)
            return Code.RETURN, [codec.encode_values([None])]
        system_calls: dict[int, Callable[..., Value]] = {
            Code.GET_GLOBAL_FUNCTION: self._get_global_function,
            Code.FREE_HANDLE: self._free,
            Code.SET_DEVICE: self._check_device,
            Code.GET_ATTRIBUTE: self._get_attribute,
            Code.ALLOCATE: self._allocate,
            Code.FREE: self._free_data,
            Code.SYNCHRONIZE: self._check_device,
            Code.COPY_AMONG_REMOTE: self._copy_among_remote,
            Code.ALLOCATE_WITH_SCOPE: self._allocate_with_scope,
            Code.SET_STREAM: self._check_device,
        }
        if code not in system_calls:
            raise ProtocolError(f"frames of code {code} are not served here")
        arguments = body.values()
        body.end()
        try:
            result = system_calls[code](*arguments)
        except TypeError as error:
            raise ProtocolError(f"a frame of code {code} has arguments that do not fit: {error}") from error
        return Code.RETURN, [codec.encode_values([result])]

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
        callee = self._handles.get(handle)
        if callee is None or isinstance(callee, BundleModule):
            raise InputError(f"there is no function with handle {handle} in this session")
        result = callee(arguments)
        self._check_expired()
        # A tensor's handle frees its memory: the two are one here.
        return Code.RETURN, [codec.encode_result(result, result.data if isinstance(result, Tensor) else None)]

    def _check_expired(self) -> None:
        if time.monotonic() > self._end:
            raise self._expired()

    def _keep(self, kept: Callee | BundleModule) -> int:
        if len(self._handles) >= MAXIMUM_HANDLES:
            raise InputError(f"a session keeps at most {MAXIMUM_HANDLES} handles; free some")
        handle = self._next_handle
        # Odd numbers: a tensor's handle is a multiple of its alignment, so the two never meet.
        self._next_handle += 2
        self._handles[handle] = kept
        return handle

    def keep_function(self, callee: Callee) -> FunctionHandle:
        return FunctionHandle(self._keep(callee))

    def keep_module(self, module: BundleModule) -> ModuleHandle:
        return ModuleHandle(self._keep(module))

    def keep_array(self, array: np.ndarray) -> Tensor:
        """A new tensor of the session with the array's contents."""
        tensor = Tensor(self.memory.allocate(array.nbytes), Device(1), DataType.of(array.dtype), array.shape)
        self.memory.array(tensor)[...] = array
        return tensor

    def discard_result(self, result: object) -> None:
        """Free what a call returned to nobody."""
        if isinstance(result, Tensor):
            self.memory.free(result.data)
        elif isinstance(result, FunctionHandle | ModuleHandle):
            self._free_handle(result.handle)

    def find_function(self, name: str) -> Callee | None:
        """A function of the table, bound to this session."""
        function = FUNCTIONS.get(name)
        return None if function is None else lambda arguments: function(self, arguments)

    def find_module_function(self, module: ModuleHandle, name: str) -> Callee | None:
        """A function of a module of this session. Raises InputError where there is no such module."""
        owner = self._handles.get(module.handle)
        if not isinstance(owner, BundleModule):
            raise InputError(f"there is no module with handle {module.handle} in this session")
        function = MODULE_FUNCTIONS.get(name)
        return None if function is None else lambda arguments: function(owner, arguments)

    def module_function(self, module: ModuleHandle, name: str) -> FunctionHandle | None:
        callee = self.find_module_function(module, name)
        return None if callee is None else self.keep_function(callee)

    def _get_global_function(self, name: object) -> Value:
        callee = self.find_function(_as(str, name))
        return Pointer(0 if callee is None else self._keep(callee))

    def _free(self, handle: object) -> Value:
        number = 0 if handle is None else _as(Pointer, handle).handle
        if not self._free_handle(number) and not self.memory.free(number) and number:
            raise InputError(f"there is nothing with handle {number} in this session")
        return None

    def _free_handle(self, handle: int) -> bool:
        kept = self._handles.pop(handle, None)
        if isinstance(kept, BundleModule):
            try:
                kept.release()
            except AgentError as error:
                logger.warning("a module was not released: %s", error)
        return kept is not None

    def _check_device(self, device: object, stream: object = None) -> Value:
        kind = _as(Device, device).kind
        if kind not in _DEVICE_KINDS:
            raise InputError(f"this board has no device of DLPack kind {kind}; use cpu(0) or ext_dev(0)")
        return None

    def _get_attribute(self, device: object, attribute: object) -> Value:
        known = _as(Device, device).kind in _DEVICE_KINDS
        if attribute == _EXISTS:
            return int(known)
        return self.endpoint.board if known and attribute == _DEVICE_NAME else None

    def _allocate(self, device: object, nbytes: object, alignment: object, type_hint: object) -> Value:
        self._check_device(device)
        return Pointer(self.memory.allocate(_as(int, nbytes)))

    def _allocate_with_scope(self, template: object, scope: object) -> Value:
        tensor = _as(Tensor, template)
        self._check_device(tensor.device)
        if scope not in (None, "", "global"):
            raise InputError(f"there is no memory scope {scope!r} here")
        return Pointer(self.memory.allocate(tensor.nbytes))

    def _free_data(self, device: object, handle: object) -> Value:
        if not self.memory.free(_as(Pointer, handle).handle):
            raise InputError("there is no tensor memory with this handle in this session")
        return None

    def _copy_among_remote(self, source: object, target: object, stream: object = None) -> Value:
        origin, destination = _as(Tensor, source), _as(Tensor, target)
        if origin.nbytes != destination.nbytes:
            raise InputError(f"a tensor of {origin.nbytes} bytes cannot be copied to one of {destination.nbytes} bytes")
        self.memory.bytes_of(destination)[:] = self.memory.bytes_of(origin)
        return None


def _as(kind: type, value: object) -> Any:
    if not isinstance(value, kind):
        raise ProtocolError(f"an argument is a {type(value).__name__}, it must be a {kind.__name__}")
    return value
