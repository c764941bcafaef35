"""What the agent counts and measures, as Prometheus series with the prefix `edge_` (base units, bounded labels)."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, exposition

from edge_agent.version import VERSION
from edge_agent.vta.counters import Counters

LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
REASONS = ("failure", "incompatible", "verification", "busy", "timeout", "program", "protocol", "input", "internal")
"""The error codes of edge_agent.errors, and "internal" for what should not happen."""
STREAMS = {
    "inp": "inp_load_nbytes",
    "wgt": "wgt_load_nbytes",
    "acc": "acc_load_nbytes",
    "uop": "uop_load_nbytes",
    "out": "out_store_nbytes",
}


class Metrics:
    """The agent's series, in a registry of their own. Thread-safe. Every series exists from the start."""

    def __init__(self, board: str, config: str) -> None:
        self._registry = CollectorRegistry()

        def counter(name: str, meaning: str, labels: tuple[str, ...] = ()) -> Counter:
            return Counter(name, meaning, labels, registry=self._registry)

        def gauge(name: str, meaning: str) -> Gauge:
            return Gauge(name, meaning, registry=self._registry)

        def histogram(name: str, meaning: str) -> Histogram:
            return Histogram(name, meaning, buckets=LATENCY_BUCKETS, registry=self._registry)

        self._latency = histogram(
            "edge_sample_latency_seconds", "Time of one sample: of an inference, divided by its batch."
        )
        self._queue = histogram("edge_queue_seconds", "Time that a request waited for the accelerator.")
        compute = counter("edge_compute_seconds", "Time of inferences by the part that computed.", ("part",))
        self._vta_seconds, self._cpu_seconds = compute.labels("vta"), compute.labels("cpu")
        self._requests = counter("edge_inference_requests", "Requests for an inference, failed ones included.")
        failures = counter("edge_inference_failures", "Requests for an inference that failed, by reason.", ("reason",))
        self._failures = {reason: failures.labels(reason) for reason in REASONS}
        self._samples = counter("edge_samples", "Samples inferred.")
        activations = counter("edge_activations", "Attempts to make a bundle live, by outcome.", ("outcome",))
        self._activations = {outcome: activations.labels(outcome) for outcome in ("succeeded", "failed")}
        transferred = counter(
            "edge_vta_bytes", "Bytes that VTA moved between DRAM and its buffers, by stream.", ("stream",)
        )
        self._bytes = {stream: transferred.labels(stream) for stream in STREAMS}
        self._gemm = counter("edge_vta_gemm_operations", "Micro-op executions of VTA's GEMM instructions.")
        self._alu = counter("edge_vta_alu_operations", "Micro-op executions of VTA's ALU instructions.")
        self._queued = gauge("edge_queue_requests", "Requests that wait for the accelerator.")
        self._sessions = gauge("edge_rpc_sessions", "Open RPC sessions.")
        refused = counter("edge_rpc_refused", "RPC connections refused before a session, by reason.", ("reason",))
        self._refused = {reason: refused.labels(reason) for reason in ("key", "protocol", "timeout", "busy")}
        self._ready = gauge("edge_ready", "1 while a self-tested model is live.")
        gauge("edge_start_timestamp_seconds", "When the agent started, since the epoch.").set(time.time())
        self._activated = gauge(
            "edge_model_activated_timestamp_seconds", "When the live model was activated; 0 without one."
        )
        self._predicted_vta = gauge(
            "edge_model_predicted_vta_seconds",
            "VTA's time of one inference, predicted from the live model's programs; 0 without one.",
        )
        self._predicted_cycles = gauge(
            "edge_model_predicted_vta_cycles",
            "The same in cycles of VTA's clock; 0 without one.",
        )
        self._predicted = gauge(
            "edge_model_predicted_seconds",
            "Time of one inference from the decoded image on, predicted for the live model; 0 without one.",
        )
        self._agreement = gauge(
            "edge_model_agreement_ratio",
            "Share of images for which the live model answers as in float, measured before it was deployed; NaN where "
            "it was not measured.",
        )
        self._model = Info(
            "edge_model", "The live model, and its agreement ratio where it was measured.", registry=self._registry
        )
        self.set_model(None)
        Info("edge_build", "The agent.", registry=self._registry).info(
            {"version": VERSION, "board": board, "config": config}
        )

    def infer_requested(self) -> None:
        self._requests.inc()

    def infer_failed(self, reason: str) -> None:
        """`reason` is an error's code."""
        self._failures.get(reason, self._failures["internal"]).inc()

    def inferred(self, samples: int, queued: float, seconds: float, vta_seconds: float, counters: Counters) -> None:
        """One inference of a batch of `samples`: seconds of waiting, of computing, and of those on VTA."""
        for _ in range(samples):
            self._latency.observe(seconds / samples)
        self._queue.observe(queued)
        self._vta_seconds.inc(vta_seconds)
        self._cpu_seconds.inc(max(0.0, seconds - vta_seconds))
        self._samples.inc(samples)
        for stream, name in STREAMS.items():
            self._bytes[stream].inc(getattr(counters, name))
        self._gemm.inc(counters.gemm_counter)
        self._alu.inc(counters.alu_counter)

    def activated(self, succeeded: bool) -> None:
        self._activations["succeeded" if succeeded else "failed"].inc()

    def set_model(
        self,
        info: Mapping[str, str] | None,
        predicted_vta_seconds: float = 0.0,
        predicted_seconds: float = 0.0,
        predicted_vta_cycles: float = 0.0,
        agreement: float = math.nan,
    ) -> None:
        """The live model's `model` and `digest`, what is predicted of it, and its measured agreement with float (NaN:
        not measured); None where there is none."""
        self._agreement.set(agreement)
        self._predicted_vta.set(predicted_vta_seconds)
        self._predicted_cycles.set(predicted_vta_cycles)
        self._predicted.set(predicted_seconds)
        measured = "" if math.isnan(agreement) else f"{agreement:.4f}"
        self._model.info({**(info or {"model": "", "digest": ""}), "agreement": measured})
        self._ready.set(info is not None)
        self._activated.set(time.time() if info is not None else 0)

    def set_queued(self, count: int) -> None:
        self._queued.set(count)

    def session_opened(self) -> None:
        self._sessions.inc()

    def session_closed(self) -> None:
        self._sessions.dec()

    def connection_refused(self, reason: str) -> None:
        self._refused[reason].inc()

    def page(self, accept: str) -> tuple[bytes, str]:
        """The metrics page and its content type; OpenMetrics where the Accept header asks for it."""
        encode, content_type = exposition.choose_encoder(accept)
        return encode(self._registry), content_type
