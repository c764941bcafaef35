"""What the agent does with models: load, self-test, activate, infer, measure. All of it goes through one queue.

RPC sessions and HTTP call this object; it alone touches the runtime and, through it, the accelerator.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from edge_agent.accuracy import Accuracy
from edge_agent.bundle import Bundle
from edge_agent.devices.base import Accelerator
from edge_agent.errors import (
    AgentError,
    BusyError,
    DeadlineError,
    DegradedError,
    HardwareError,
    IncompatibleError,
)
from edge_agent.metrics import Metrics
from edge_agent.runtime.memory import return_freed_memory
from edge_agent.store import Store
from edge_agent.worker import Worker

if TYPE_CHECKING:
    from edge_agent.runtime.executor import Inference, LoadedModel, Runtime

logger = logging.getLogger(__name__)
Result = TypeVar("Result")

QUEUE_DEPTH = 32
MAXIMUM_MODELS = 8
"""Models of RPC sessions that may be loaded at once; the live one has its own place."""
ACTIVATION_PATIENCE = 60.0
"""Seconds that an activation waits for one that is under way: deploys at the same time take turns."""


@dataclass(frozen=True)
class TensorSpec:
    """A model's input or output."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    def as_dict(self) -> dict[str, Any]:
        return {"name": self.name, "shape": list(self.shape), "dtype": self.dtype}


@dataclass(frozen=True, eq=False)
class Model:
    """A loaded model: its bundle without the members, what the runtime made of them, and its interface."""

    bundle: Bundle
    loaded: LoadedModel
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    @property
    def name(self) -> str:
        model = self.bundle.manifest.get("model", "")
        return str(model.get("name", "") if isinstance(model, Mapping) else model)[:100]

    def predicted(self, part: str) -> float:
        """What the host predicted for one inference, such as "vta_seconds"; 0 where the manifest does not say."""
        predicted = self.bundle.manifest.get("predicted")
        seconds = predicted.get(part, 0.0) if isinstance(predicted, Mapping) else 0.0
        return float(seconds) if isinstance(seconds, int | float) else 0.0

    @property
    def accuracy(self) -> Accuracy | None:
        """What the host measured; None where it did not."""
        return Accuracy.of(self.bundle.manifest)

    @property
    def batch(self) -> int:
        """Samples of one inference: the first extent of the first input."""
        shape = self.inputs[0].shape if self.inputs else ()
        return max(1, shape[0]) if shape else 1

    def as_dict(self) -> dict[str, Any]:
        return {
            "model": self.name,
            "digest": self.bundle.digest,
            "bytes": self.bundle.nbytes,
            "batch": self.batch,
            "accuracy": self.accuracy.as_dict() if self.accuracy else None,
            "predicted_cycles": int(self.predicted("vta_cycles")),
            "inputs": [spec.as_dict() for spec in self.inputs],
            "outputs": [spec.as_dict() for spec in self.outputs],
        }


@dataclass(frozen=True)
class Activation:
    """An activation that succeeded; seconds of loading and of the self-test."""

    model: Mapping[str, Any]
    load_seconds: float
    self_test_seconds: float

    def as_dict(self) -> dict[str, Any]:
        return {**self.model, "load_seconds": self.load_seconds, "self_test_seconds": self.self_test_seconds}


@dataclass(frozen=True)
class Benchmark:
    """Repeated inference: per run the seconds it took, and those of it on VTA; `means` as TVM's time_evaluator."""

    means: tuple[float, ...]
    seconds: tuple[float, ...]
    vta_seconds: tuple[float, ...]
    counters: Mapping[str, int]

    def as_dict(self) -> dict[str, Any]:
        return {
            "means": list(self.means),
            "seconds": list(self.seconds),
            "vta_seconds": list(self.vta_seconds),
            "counters": dict(self.counters),
        }


class Service:
    """The single owner of the accelerator. Thread-safe."""

    def __init__(
        self,
        runtime: Runtime,
        accelerator: Accelerator,
        store: Store,
        metrics: Metrics,
        queue_depth: int = QUEUE_DEPTH,
        fpga_problem: Callable[[], str] = lambda: "",
    ) -> None:
        """`runtime` executes on `accelerator`, which nothing else may use from now on, but in `exclusively`.
        `fpga_problem` says why the FPGA has to be programmed before anything runs; "" where it need not be."""
        self._fpga_problem = fpga_problem
        self._runtime = runtime
        self._accelerator = accelerator
        self._store = store
        self._metrics = metrics
        self._worker = Worker(queue_depth, metrics.set_queued)
        self._live: Model | None = None
        self._reason = "no bundle has been activated yet"
        self._last: dict[str, Any] = {}
        self._places = threading.BoundedSemaphore(MAXIMUM_MODELS)
        self._samples = 0
        self._activating = threading.Lock()
        self._candidate = ""

    @property
    def alive(self) -> bool:
        """Whether the thread that uses the accelerator is there."""
        return self._worker.alive

    def restore(self) -> None:
        """Bring back what was live before the agent stopped; the previous version where that fails its self-test."""
        while (digest := self._store.active.current) is not None:
            try:
                self.activate(digest)
                return
            except Exception as error:  # whatever it is, the agent has to come up
                if isinstance(error, HardwareError) or self._condition():
                    # The bundle is not to blame: it goes live once the board is in order.
                    self._reason = f"bundle {digest[:12]} waits: {error}"
                    logger.error("%s", self._reason)
                    return
                logger.exception("bundle %s cannot go live again", digest[:12])
                previous = self._store.active.previous
                if previous is None:
                    self._reason = f"bundle {digest[:12]} failed: {error}; deploy again"
                    return
                logger.warning("rolling back to bundle %s", previous[:12])
                self._store.roll_back()

    def exclusively(self, call: Callable[[], Result]) -> Result:
        """Run `call`, which programs and tests the FPGA, while nothing else uses the accelerator: requests wait.
        Raises BusyError, and what `call` raises."""
        return self._worker.call(lambda waited: self._observed(call))

    def reprogrammed(self) -> None:
        """The FPGA has just been programmed: what waited for that goes live. Raises BusyError."""
        self._worker.call(lambda waited: self._observed(self._accelerator.reprogrammed))
        if self._live is None:
            self.restore()

    def load(self, bundle: Bundle) -> Model:
        """Load a bundle beside the live one. Raises BusyError, IncompatibleError, VerificationError, ProgramError."""
        if not self._places.acquire(blocking=False):
            raise BusyError(f"{MAXIMUM_MODELS} models are already loaded; release modules or close other sessions")
        try:
            return self._load(bundle)
        except BaseException:
            self._places.release()
            raise

    def unload(self, model: Model) -> None:
        """Release a model that `load` gave."""
        try:
            self._unload(model)
        finally:
            self._places.release()

    def _load(self, bundle: Bundle) -> Model:
        plan = bundle.plan

        def specs(indices: Mapping[str, int]) -> tuple[TensorSpec, ...]:
            return tuple(TensorSpec(name, plan.buffers[i].shape, plan.buffers[i].dtype) for name, i in indices.items())

        def load(waited: float) -> LoadedModel:
            self._require_programmed()
            return self._observed(lambda: self._runtime.load(bundle))

        loaded = self._worker.call(load)
        return Model(replace(bundle, members={}), loaded, specs(plan.inputs), specs(plan.outputs))

    def _unload(self, model: Model) -> None:
        self._worker.call(lambda waited: model.loaded.close(), always=True)

    def self_test(self, model: Model) -> None:
        """Compute the bundle's golden sample. Raises VerificationError where the result differs."""
        self._worker.call(lambda waited: self._guarded(model.loaded.self_test))

    def activate(self, digest: str, patience: float = ACTIVATION_PATIENCE) -> Activation:
        """Load a stored bundle, self-test it, and only then make it live; else the previous one stays live.

        Raises BusyError where another activation is under way for `patience` seconds, VerificationError where the
        self-test fails, InputError where there is no such bundle.
        """
        if not self._activating.acquire(timeout=patience):
            raise BusyError(f"bundle {self._candidate[:12]} is being activated; try again when that has finished")
        try:
            self._candidate = digest
            activation = self._activate(digest)
            logger.info("%s is live: bundle %s", activation.model["model"], digest[:12])
        except BaseException:
            self._metrics.activated(False)
            raise
        finally:
            self._activating.release()
        self._metrics.activated(True)
        return activation

    def _activate(self, digest: str) -> Activation:
        start = time.monotonic()
        model = self._load(self._store.read(digest))
        loaded = time.monotonic()
        try:
            self.self_test(model)
            tested = time.monotonic()
            self._store.activate(digest)
        except BaseException:
            self._unload(model)
            raise

        def go_live(waited: float) -> Model | None:
            # On the worker's thread: no request can see a mix of two models.
            retired, self._live = self._live, model
            return retired

        retired = self._worker.call(go_live, always=True)
        self._metrics.set_model(
            {"model": model.name, "digest": digest},
            model.predicted("vta_seconds"),
            model.predicted("total_seconds"),
            model.predicted("vta_cycles"),
            model.accuracy.agreement if model.accuracy else math.nan,
        )
        if retired is not None:
            self._unload(retired)
            del retired
        return_freed_memory()
        return Activation(model.as_dict(), loaded - start, tested - loaded)

    def infer(self, inputs: Mapping[str, np.ndarray], seconds: float | None = None) -> Inference:
        """One inference of the live model.

        Raises InputError, BusyError, DeadlineError after `seconds`, IncompatibleError where nothing is live.
        """

        def live() -> Model:
            if self._live is None:
                raise IncompatibleError(f"no model is live: {self._reason}")
            return self._live

        return self._infer(live, inputs, seconds)

    def infer_with(self, model: Model, inputs: Mapping[str, np.ndarray], seconds: float | None = None) -> Inference:
        """One inference of a model that `load` gave."""
        return self._infer(lambda: model, inputs, seconds)

    def _infer(
        self, model_of: Callable[[], Model], inputs: Mapping[str, np.ndarray], seconds: float | None
    ) -> Inference:
        def run(waited: float) -> Inference:
            model = model_of()
            inference = self._guarded(lambda: model.loaded.infer(inputs))
            self._metrics.inferred(model.batch, waited, inference.seconds, inference.vta_seconds, inference.counters)
            self._samples += model.batch
            self._last = {
                "seconds": inference.seconds,
                "vta_seconds": inference.vta_seconds,
                "counters": inference.counters.as_dict(),
            }
            return inference

        self._metrics.infer_requested()
        try:
            return self._worker.call(run, seconds)
        except AgentError as error:
            self._metrics.infer_failed(error.code)
            raise
        except Exception:
            self._metrics.infer_failed("internal")
            raise

    def _guarded(self, call: Callable[[], Any]) -> Any:
        def guarded() -> Any:
            self._require_programmed()
            try:
                return call()
            except DeadlineError:
                logger.error("the accelerator did not finish in time; resetting it")
                self._accelerator.reset()
                raise

        return self._observed(guarded)

    def _observed(self, call: Callable[[], Result]) -> Result:
        """Call what uses the accelerator; the metrics then say whether it still can be used."""
        try:
            return call()
        finally:
            self._metrics.set_degraded(bool(self._condition()))

    def _condition(self) -> str:
        """Why the accelerator cannot be used until its FPGA is programmed; "" while it can."""
        return self._fpga_problem() or self._accelerator.condition()

    def _require_programmed(self) -> None:
        if problem := self._fpga_problem():
            raise DegradedError(
                f"the accelerator cannot be used: {problem}; program the FPGA again: `edgectl flash BOARD`"
            )

    def bench(
        self,
        inputs: Mapping[str, np.ndarray] | None,
        number: int,
        repeat: int,
        check: Callable[[], None] = lambda: None,
    ) -> Benchmark:
        """`repeat` means over `number` inferences of the live model each, after one to warm up.

        Without inputs: zeros. `check` runs before every inference and raises where the measurement shall stop.
        Raises what `infer` raises.
        """
        live = self._live
        if inputs is None and live is not None:
            inputs = {spec.name: np.zeros(spec.shape, spec.dtype) for spec in live.inputs}
        inference = self.infer(inputs or {})
        means: list[float] = []
        seconds: list[float] = []
        vta_seconds: list[float] = []
        for _ in range(repeat):
            begin = len(seconds)
            for _ in range(number):
                check()
                inference = self.infer(inputs or {})
                seconds.append(inference.seconds)
                vta_seconds.append(inference.vta_seconds)
            means.append(sum(seconds[begin:]) / number)
        return Benchmark(tuple(means), tuple(seconds), tuple(vta_seconds), inference.counters.as_dict())

    @property
    def ready(self) -> bool:
        """Whether a self-tested model is live, on an accelerator that can be used."""
        return self._live is not None and not self._condition()

    def manifest(self) -> dict[str, Any]:
        """The live bundle's manifest. Raises IncompatibleError where nothing is live."""
        live = self._live
        if live is None:
            raise IncompatibleError(f"no model is live: {self._reason}")
        return dict(live.bundle.manifest)

    def status(self) -> dict[str, Any]:
        """What is live, and the last inference; `reason` says why it is not ready, `degraded` why the FPGA has to be
        programmed."""
        live, degraded = self._live, self._condition()
        return {
            "ready": live is not None and not degraded,
            "reason": degraded or ("" if live else self._reason),
            "degraded": degraded,
            "live": live.as_dict() if live else None,
            "last": self._last or None,
            "samples": self._samples,
        }

    def close(self) -> None:
        """Let waiting requests finish, release the live model and end the worker."""
        live, self._live = self._live, None
        if live is not None:
            try:
                self._unload(live)
            except AgentError as error:
                logger.warning("the live model was not released: %s", error)
        self._worker.close()
