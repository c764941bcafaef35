"""Measurements on a board: what is live there, its answer to an image, and repeated inference."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edgectl.boards.board import Board, Prediction
from edgectl.boards.choosing import SimulatedChoice
from edgectl.boards.client import BenchReply
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
            "metrics_url": self.metrics_url,
            "notices": list(self.notices),
        }


def measure(
    board: Board,
    image: str | os.PathLike[str],
    number: int,
    repeat: int,
    top: int = 5,
    stages: Stages | None = None,
    notices: tuple[str, ...] = (),
    banner: str = "",
) -> Measurement:
    """Run what is live on `board` on an image, then `repeat` rounds of `number` inferences."""
    stages = stages or Stages()
    manifest = board.connection.manifest()
    with stages.stage("run"):
        prediction = board.run(image, top)
    with stages.stage("measure"):
        deadline = BENCH_SECONDS + SLOWEST * number * repeat * prediction.reply.seconds
        bench = board.bench(number, repeat, image, deadline)
    live = board.status()["live"]
    return Measurement(
        manifest=manifest,
        digest=live["digest"],
        nbytes=live["bytes"],
        board=board.choice.simulated.profile
        if isinstance(board.choice, SimulatedChoice)
        else str(board.choice.address),
        profile=board.profile,
        simulated=board.simulated,
        metrics_url=board.metrics_url,
        image=os.fspath(image),
        prediction=prediction,
        bench=bench,
        timings=stages.seconds,
        notices=notices,
        banner=banner or random_weights_banner(manifest),
    )


def random_weights_banner(manifest: Mapping[str, Any]) -> str:
    """The warning that belongs to every prediction of a model that was compiled with random weights."""
    weights = manifest["model"].get("weights", {})
    return random_banner("the model was compiled with random weights") if weights.get("kind") == "random" else ""
