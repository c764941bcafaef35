"""What `deploy` and `bench` do: from a model's name to measured answers on a board."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edge_agent.boards import profile
from edgectl.boards.board import Board, Prediction, bundle_bytes
from edgectl.boards.choosing import SimulatedChoice, choose
from edgectl.boards.client import BenchReply
from edgectl.building import Build, build
from edgectl.images import DEFAULT_IMAGE
from edgectl.sources import Prepared, Source, prepare
from edgectl.stages import Stages


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
            "counters": dict(self.bench.counters),
            "top": [asdict(score) for score in self.prediction.top],
            "metrics_url": self.metrics_url,
            "notices": list(self.notices),
        }


def deploy(
    source: Source | str,
    board: str = "sim",
    image: str | os.PathLike[str] = DEFAULT_IMAGE,
    number: int = 1,
    repeat: int = 5,
    top: int = 5,
    stages: Stages | None = None,
) -> Measurement:
    """Compile `source` for `board` (a bundle's path is taken as it is), upload, activate, self-test, and measure.

    A simulated board is started if it does not run, and ended again if anything fails. Raises EdgectlErrors.
    """
    stages = stages or Stages()
    choice = choose(board)
    if isinstance(choice, SimulatedChoice):
        # Compile first: a board must not be started for a model that does not exist.
        bundle, prepared = _bundle(source, choice.simulated.profile, stages)
        with stages.stage("start the board"):
            opened = Board(board)
    else:
        with stages.stage("connect"):
            opened = Board(board)
    with opened:
        if not isinstance(choice, SimulatedChoice):
            bundle, prepared = _bundle(source, opened.profile, stages)
        with stages.stage("upload"):
            digest = opened.upload(bundle, stages.progress)
        with stages.stage("activate and self-test"):
            opened.connection.activate(digest)
        notices = prepared.notices if prepared else ()
        banner = prepared.weights.banner if prepared else ""
        return measure(opened, image, number, repeat, top, stages, notices, banner)


def _bundle(source: Source | str, board: str, stages: Stages) -> tuple[bytes, Prepared | None]:
    if isinstance(source, str):
        return bundle_bytes(source), None
    built, prepared = compile_source(source, board, stages)
    return built.data, prepared


def compile_source(source: Source, board: str, stages: Stages) -> tuple[Build, Prepared]:
    """Import and build `source` for the kind of board called `board`."""
    with stages.stage("import"):
        prepared = prepare(source, simulated=profile(board).accelerator == "sim")
        calibration = prepared.calibration(source.calibration)
    return build(prepared.model, board, calibration, prepared.origin, stages), prepared


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
        bench = board.bench(number, repeat, image)
    live = board.status()["live"]
    weights = manifest["model"].get("weights", {})
    if not banner and weights.get("kind") == "random":
        banner = "RANDOM WEIGHTS: predictions are meaningless, everything else is real."
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
        banner=banner,
    )
