"""Measurements on a board: what is live there, its answer to an image, and repeated inference."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edgectl.boards.board import Board, Prediction, best_of, model_inputs
from edgectl.boards.choosing import SimulatedChoice
from edgectl.boards.client import BenchReply
from edgectl.images import DEFAULT_IMAGE
from edgectl.stages import Stages
from edgectl.weights import random_banner

BENCH_SECONDS = 60.0
SLOWEST = 20.0
"""A measurement's deadline: this long, and so many times what the first inference took for each."""


@dataclass(frozen=True)
class Latency:
    """Milliseconds per sample over several inferences."""

    mean: float
    std: float
    p50: float
    p99: float

    @classmethod
    def of(cls, seconds: tuple[float, ...], batch: int) -> Latency:
        milliseconds = np.array(seconds) * 1e3 / batch
        p50, p99 = np.percentile(milliseconds, (50, 99))
        return cls(float(milliseconds.mean()), float(milliseconds.std()), float(p50), float(p99))


@dataclass(frozen=True)
class Measurement:
    """What ran on a board: the live model's manifest, its answer to an image, and repeated inference."""

    manifest: Mapping[str, Any]
    digest: str
    nbytes: int
    board: str
    profile: str
    simulated: bool
    metrics_url: str
    image: str
    prediction: Prediction
    bench: BenchReply
    timings: Mapping[str, float]
    notices: tuple[str, ...] = ()
    banner: str = ""
    cached: bool = False
    """Whether the bundle was compiled before, and taken from the cache of builds now."""

    @property
    def batch(self) -> int:
        return int(self.manifest["inputs"][0]["shape"][0])

    @property
    def per_sample(self) -> Latency:
        return Latency.of(self.bench.seconds, self.batch)

    @property
    def vta(self) -> Latency:
        return Latency.of(self.bench.vta_seconds, self.batch)

    def as_dict(self) -> dict[str, Any]:
        """The JSON form; counters are of one inference (of a whole batch)."""
        return {
            "model": self.manifest["model"]["name"],
            "weights": {**self.manifest["model"].get("weights", {}), "banner": self.banner},
            "board": {"name": self.board, "profile": self.profile, "simulated": self.simulated},
            "bundle": {"digest": self.digest, "bytes": self.nbytes},
            "cached": self.cached,
            "batch": self.batch,
            "image": self.image,
            "timings": dict(self.timings),
            "latency": {
                "per_sample_ms": asdict(self.per_sample),
                "vta_ms": asdict(self.vta),
                "means_s": self.bench.means,
            },
            "predicted": self.manifest["predicted"],
            "predicted_cycles": self.manifest["predicted"]["vta_cycles"],
            "counters": dict(self.bench.counters),
            "top": [asdict(score) for score in self.prediction.top],
            "accuracy": self.manifest.get("accuracy"),
            "metrics_url": self.metrics_url,
            "notices": list(self.notices),
        }


def measure(
    board: Board,
    image: str | os.PathLike[str] | None,
    number: int,
    repeat: int,
    top: int = 5,
    stages: Stages | None = None,
    notices: tuple[str, ...] = (),
    banner: str = "",
) -> Measurement:
    """Run what is live on `board` on an image, then `repeat` rounds of `number` inferences.

    Without an image: on the photograph that ships, or on zeros, with a notice, where the model takes no photograph.
    """
    stages = stages or Stages()
    manifest = board.connection.manifest()
    if image is None and takes_photographs(manifest):
        image = DEFAULT_IMAGE
    inputs = zeros(manifest) if image is None else model_inputs(manifest, image)
    with stages.stage("run"):
        reply = board.infer(inputs)
    if image is None:
        notices += (
            "the model takes no photograph as it is: measured on zeros, so there is no prediction; --input gives one",
        )
    with stages.stage("measure"):
        deadline = BENCH_SECONDS + SLOWEST * number * repeat * reply.seconds
        bench = board.connection.bench(number, repeat, inputs, deadline)
    live = board.status()["live"]
    return Measurement(
        manifest=manifest,
        digest=live["digest"],
        nbytes=live["bytes"],
        board=board.choice.simulated.profile
        if isinstance(board.choice, SimulatedChoice)
        else str(board.connection.address),
        profile=board.profile,
        simulated=board.simulated,
        metrics_url=board.metrics_url,
        image="" if image is None else os.fspath(image),
        prediction=Prediction(() if image is None else best_of(reply, manifest, top), reply),
        bench=bench,
        timings=stages.seconds,
        notices=notices,
        banner=banner or random_weights_banner(manifest),
    )


def takes_photographs(manifest: Mapping[str, Any]) -> bool:
    """Whether a photograph's file can be the input of a model with this manifest."""
    shape = manifest["inputs"][0]["shape"]
    return manifest["preprocessing"] is not None and len(manifest["inputs"]) == 1 and shape[1] in (1, 3)


def zeros(manifest: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Inputs of zeros."""
    return {spec["name"]: np.zeros(spec["shape"], spec["dtype"]) for spec in manifest["inputs"]}


def random_weights_banner(manifest: Mapping[str, Any]) -> str:
    """The warning that belongs to every prediction of a model that was compiled with random weights."""
    weights = manifest["model"].get("weights", {})
    return random_banner("the model was compiled with random weights") if weights.get("kind") == "random" else ""
