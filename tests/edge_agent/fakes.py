"""A runtime without an accelerator, for tests of what stands around it: `output = input * 2 + bias`."""

from __future__ import annotations

import hashlib
import io
import json
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.bundle import SCHEMA_VERSION, Bundle
from edge_agent.devices.base import Accelerator, AcceleratorInfo, LoadedProgram, RunStats
from edge_agent.errors import InputError, VerificationError
from edge_agent.lease import Leases
from edge_agent.metrics import Metrics
from edge_agent.rpc.server import Server
from edge_agent.rpc.session import Endpoint, Limits
from edge_agent.runtime.plan import Buffer, Plan
from edge_agent.service import Service
from edge_agent.store import Store
from edge_agent.uploads import Uploads
from edge_agent.vta.counters import Counters
from edge_agent.vta.program import Program

COUNTERS = Counters(10, 20, 30, 40, 50, 60, 70)
KEY = "sim:secret"
ID = "0123456789abcdef" * 2
STATUS = {
    "id": ID,
    "board": "sim",
    "description": "a board for tests",
    "config": "1x16_i8w8a32_15_15_18_17",
    "features": [],
    "cpu": {"machine": "none", "flags": []},
    "http_port": 9092,
}


def bundle_bytes(model: str = "double", bias: float = 0.0, batch: int = 1, good: bool = True, **entries: Any) -> bytes:
    """A bundle for FakeRuntime: input `data` and output `result`, float32 (batch, 4). A bad one fails its self-test.

    `entries` are added to the manifest.
    """
    shape = (batch, 4)
    plan = Plan(
        (Buffer("data", shape, "float32", 0), Buffer("result", shape, "float32", 0)),
        (batch * 16,),
        (),
        {"data": 0},
        {"result": 1},
    )
    members = {"plan.json": plan.to_json().encode(), "constants.bin": json.dumps({"bias": bias, "good": good}).encode()}
    manifest = {
        "schema": SCHEMA_VERSION,
        "model": model,
        "members": {n: {"bytes": len(d), "sha256": hashlib.sha256(d).hexdigest()} for n, d in members.items()},
        **entries,
    }
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name, data in {"manifest.json": json.dumps(manifest).encode(), **members}.items():
            archive.writestr(name, data)
    return target.getvalue()


@dataclass(frozen=True)
class FakeInference:
    outputs: Mapping[str, np.ndarray]
    seconds: float = 0.004
    vta_seconds: float = 0.003
    counters: Counters = COUNTERS
    observed: Mapping[str, np.ndarray] = field(default_factory=dict)


class FakeModel:
    def __init__(self, runtime: FakeRuntime, bundle: Bundle) -> None:
        self._runtime = runtime
        self._parameters = json.loads(bundle.members["constants.bin"])
        self._shape = bundle.plan.buffers[0].shape
        self.closed = False

    def infer(self, inputs: Mapping[str, np.ndarray], observe: bool = False) -> FakeInference:
        assert not self.closed
        self._runtime.threads.add(threading.current_thread().name)
        self._runtime.gate.wait(10)
        if self._runtime.error is not None:
            raise self._runtime.error
        if {name: array.shape for name, array in inputs.items()} != {"data": self._shape}:
            raise InputError(f"the model takes 'data' of shape {self._shape}")
        return FakeInference({"result": inputs["data"] * np.float32(2) + np.float32(self._parameters["bias"])})

    def self_test(self) -> None:
        if not self._parameters["good"]:
            raise VerificationError("the golden sample differs: 1 expected, 2 found")

    def close(self) -> None:
        assert not self.closed
        self.closed = True
        self._runtime.loaded -= 1


class FakeRuntime:
    """`gate` holds inferences back while it is cleared; `error` makes them fail."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.error: Exception | None = None
        self.loaded = 0
        self.threads: set[str] = set()

    def load(self, bundle: Bundle) -> FakeModel:
        self.loaded += 1
        return FakeModel(self, bundle)


class FakeAccelerator(Accelerator):
    def __init__(self) -> None:
        self.resets = 0
        self.problem = ""

    def condition(self) -> str:
        return self.problem

    def reprogrammed(self) -> None:
        self.problem = ""

    def describe(self) -> AcceleratorInfo:
        return AcceleratorInfo("fake", "1x16_i8w8a32_15_15_18_17", frozenset(), 1)

    def load(self, program: Program) -> LoadedProgram:
        raise NotImplementedError

    def run(
        self, loaded: LoadedProgram, inputs: Mapping[str, np.ndarray], outputs: Mapping[str, np.ndarray]
    ) -> RunStats:
        raise NotImplementedError

    def unload(self, loaded: LoadedProgram) -> None:
        raise NotImplementedError

    def reset(self) -> None:
        self.resets += 1


@dataclass
class Board:
    """An agent's insides around a FakeRuntime, with its RPC port open."""

    runtime: FakeRuntime
    accelerator: FakeAccelerator
    store: Store
    metrics: Metrics
    service: Service
    server: Server
    endpoint: Endpoint
    shut_down: threading.Event

    @property
    def address(self) -> tuple[str, int]:
        return ("127.0.0.1", self.server.port)

    def deploy(self, data: bytes) -> str:
        """Store a bundle and make it live, without the network."""
        file = self.store.incoming / "test.part"
        file.write_bytes(data)
        digest = self.store.add(file)
        self.service.activate(digest)
        return digest


@contextmanager
def board(directory: Path, limits: Limits | None = None, queue_depth: int = 8) -> Iterator[Board]:
    """A board that serves RPC on a free port of this machine."""
    runtime, accelerator, store, metrics = FakeRuntime(), FakeAccelerator(), Store(directory), Metrics("sim", "fake")
    service = Service(runtime, accelerator, store, metrics, queue_depth)  # type: ignore[arg-type]
    shut_down = threading.Event()
    leases = Leases()
    endpoint = Endpoint(
        "sim",
        service,
        Uploads(store),
        directory / "sessions",
        lambda: {**STATUS, "lease": leases.status(), **service.status()},
        shut_down.set,
        limits or Limits(),
        leases=leases,
        key=KEY,
    )
    server = Server(("127.0.0.1", 0), [KEY], endpoint, metrics)
    server.start()
    try:
        yield Board(runtime, accelerator, store, metrics, service, server, endpoint, shut_down)
    finally:
        runtime.gate.set()
        server.close()
        service.close()
