"""What one client has here: its handles, tensors and files. All of it ends with the session."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.errors import AgentError, InputError
from edge_agent.fpga_service import FpgaService
from edge_agent.lease import MAXIMUM_CHARACTERS, Leases
from edge_agent.rpc import edge, stock
from edge_agent.rpc.channel import Channel, ConnectionClosed
from edge_agent.rpc.codec import DataType, Device, FunctionHandle, ModuleHandle, Tensor, Value
from edge_agent.rpc.files import Files
from edge_agent.rpc.functions import collect
from edge_agent.rpc.memory import Budget, Memory
from edge_agent.rpc.module import MODULE_FUNCTIONS, BundleModule
from edge_agent.service import Service
from edge_agent.uploads import Uploads

logger = logging.getLogger(__name__)

FUNCTIONS = {**collect(vars(stock)), **collect(vars(edge))}
MAXIMUM_HANDLES = 65536
Callee = Callable[[list[Value]], Any]


@dataclass(frozen=True)
class Limits:
    """Seconds and bytes that a client may take."""

    handshake_seconds: float = 5.0
    idle_seconds: float = 900.0
    """Between two frames."""
    frame_seconds: float = 20.0
    """For a small frame or a reply; longer ones have what `minimum_rate` takes, in addition."""
    minimum_rate: int = 32 << 10
    """Bytes per second that a peer must keep up over a long frame."""
    frame_bytes: int = 128 << 20
    memory_bytes: int = 128 << 20
    """Of all sessions together, for tensors and long frames."""
    bundle_bytes: int = 256 << 20
    """Of an unpacked bundle."""
    file_bytes: int = 512 << 20
    """Of one session's folder."""
    sessions: int = 16
    yield_seconds: float = 60.0
    """A session that has been idle for so long makes way when there are too many."""
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
    working: Callable[[], AbstractContextManager[None]] = nullcontext
    """The context of every frame that is served: the agent is in use."""
    leases: Leases = field(default_factory=Leases)
    key: str = ""
    """What edge.prove proves to know."""
    fpga: FpgaService | None = None


class SessionExpired(AgentError):
    """The session has lasted as long as its client asked for. TVM's client knows the message's first word."""

    code = "RPCSessionTimeoutError"


class Session:
    """One client's things. Used by the thread that serves its connection, and by no other."""

    def __init__(
        self, channel: Channel, endpoint: Endpoint, budget: Budget, name: str, session_seconds: float = math.inf
    ) -> None:
        self.endpoint = endpoint
        self.memory = Memory(budget)
        self.files = Files(endpoint.folder / name, endpoint.limits.file_bytes)
        self.end = time.monotonic() + session_seconds
        self.lease: str | None = None
        """The token of the lease that the session works under."""
        self._session_lease: str | None = None
        self._session_seconds = session_seconds
        self._channel = channel
        self._handles: dict[int, Callee | BundleModule] = {}
        self._next_handle = 1

    def release(self) -> None:
        """Give everything back."""
        for handle in list(self._handles):
            self.free_handle(handle)
        self.endpoint.leases.release(self._session_lease)
        self.memory.clear()
        self.files.clear()

    def check_lease(self) -> None:
        """Raise BusyError where somebody else has the board, or this session's lease has run out."""
        if self.lease is not None:
            self.endpoint.leases.check(self.lease)
        else:
            self.endpoint.leases.refuse_others(self._session_lease)

    def need_board(self) -> None:
        """Have the board for this session alone. Without a lease it gets one of its own, until it ends or rests.

        Raises BusyError where somebody else has it, or the session's lease has run out.
        """
        leases = self.endpoint.leases
        if self.lease is not None:
            leases.check(self.lease)
        else:
            owner = f"a client at {self._channel.peer or 'an unknown address'}"[:MAXIMUM_CHARACTERS]
            self._session_lease = leases.take_for_session(self._session_lease, owner)

    @contextmanager
    def board_for_call(self) -> Iterator[None]:
        """`need_board`, but a lease that the session gets by it ends with the block."""
        before = self._session_lease
        self.need_board()
        try:
            with self.lease_in_use():
                yield
        finally:
            if self._session_lease != before:
                self.endpoint.leases.release(self._session_lease)
                self._session_lease = None

    def lease_in_use(self) -> AbstractContextManager[None]:
        """Inside, a lease that the session has does not run out."""
        return self.endpoint.leases.in_use(self.lease or self._session_lease)

    def expired(self) -> SessionExpired:
        """What to raise when the time is over."""
        return SessionExpired(
            f"the session of {self._session_seconds:g} s has expired; connect again with a longer session_timeout"
        )

    def seconds_left(self) -> float | None:
        """Until the session expires; None where it does not."""
        return None if math.isinf(self.end) else max(0.0, self.end - time.monotonic())

    def check_alive(self) -> None:
        """Raise ConnectionClosed where the client is gone, SessionExpired where its time is over."""
        if self._channel.peer_closed():
            raise ConnectionClosed("the client left during a call")
        self.check_expired()

    def check_expired(self) -> None:
        """Raise SessionExpired where the time is over."""
        if time.monotonic() > self.end:
            raise self.expired()

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

    def free_handle(self, handle: int) -> bool:
        """Release a function or module; whether there was one."""
        kept = self._handles.pop(handle, None)
        if isinstance(kept, BundleModule):
            try:
                kept.release()
            except AgentError as error:
                logger.warning("a module was not released: %s", error)
        return kept is not None

    def discard_result(self, result: object) -> None:
        """Free what a call returned to nobody."""
        if isinstance(result, Tensor):
            self.memory.free(result.data)
        elif isinstance(result, FunctionHandle | ModuleHandle):
            self.free_handle(result.handle)

    def function(self, handle: int) -> Callee:
        """The function behind a handle. Raises InputError."""
        callee = self._handles.get(handle)
        if callee is None or isinstance(callee, BundleModule):
            raise InputError(f"there is no function with handle {handle} in this session")
        return callee

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
