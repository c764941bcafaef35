"""Where a zoo model's weights come from: a file, Gluon's store, torchvision's, or a seed."""

from __future__ import annotations

import functools
import hashlib
import os
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from edgectl.download import Downloader
from edgectl.errors import EdgectlError, ModelError, UnreachableError, UsageError, VerificationError
from edgectl.files import atomic_file, cache_folder
from edgectl.frontends import zoo
from edgectl.frontends.torchvision_weights import gluon_parameters
from edgectl.graph import Model
from edgectl.interchange.mxnet import read_parameters
from edgectl.interchange.torch_file import read_torch_tensors
from edgectl.random_weights import random_parameters

GLUON_STORE = "https://apache-mxnet.s3-accelerate.dualstack.amazonaws.com/"
TORCHVISION_STORE = "https://download.pytorch.org/"
CHOICES = ("auto", "pretrained", "random")
MAXIMUM_UNPACKED = 2 << 30


@dataclass(frozen=True)
class WeightsReport:
    """What a model's weights are. `kind` is pretrained, random, file, checkpoint, block or module; `banner` warns."""

    kind: str
    source: str
    banner: str = ""


@dataclass(frozen=True)
class WeightsStore:
    """Pretrained weights: a cache folder in front of the stores, or of one mirror with the stores' paths."""

    cache: Path
    mirror: str = ""
    downloader: Downloader = field(default_factory=Downloader)

    @staticmethod
    def from_environment() -> WeightsStore:
        """EDGECTL_CACHE is the cache folder (default: the user's cache directory), EDGECTL_MIRROR a base URL."""
        return _store(cache_folder() / "weights", os.environ.get("EDGECTL_MIRROR", ""))

    def fetch(self, entry: zoo.ZooEntry) -> tuple[dict[str, np.ndarray], str]:
        """Parameters of `entry` and the URL that they came from, Gluon's store first.

        Raises VerificationError where a store has other content than it must, UnreachableError where none has any.
        """
        sources: list[Callable[[zoo.ZooEntry], tuple[dict[str, np.ndarray], str]]] = []
        if entry.gluon_sha1:
            sources.append(self._from_gluon)
        if entry.torchvision:
            sources.append(self._from_torchvision)
        failures: list[EdgectlError] = []
        for source in sources:
            try:
                return source(entry)
            except (UnreachableError, VerificationError) as error:
                failures.append(error)
        reasons = "; ".join(str(failure) for failure in failures) or "no store has any"
        advice = "give --weights FILE (.params, .npz or .pth), or set EDGECTL_MIRROR to a copy of the stores"
        corrupt = any(isinstance(failure, VerificationError) for failure in failures)
        kind = VerificationError if corrupt else UnreachableError
        raise kind(f"no pretrained weights for {entry.name} could be downloaded: {reasons}; {advice}")

    def _url(self, store: str, path: str) -> str:
        return (self.mirror.rstrip("/") + "/" if self.mirror else store) + path

    def _require_writable(self) -> None:
        try:
            self.cache.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.cache):
                pass
        except OSError as error:
            raise EdgectlError(
                f"cannot keep weights in {self.cache}: {error.strerror or error}; "
                "make room there or set EDGECTL_CACHE to a folder of your own"
            ) from error

    def _from_gluon(self, entry: zoo.ZooEntry) -> tuple[dict[str, np.ndarray], str]:
        assert entry.gluon_sha1
        stem = f"{entry.name}-{entry.gluon_sha1[:8]}"
        url, target = self._url(GLUON_STORE, f"gluon/models/{stem}.zip"), self.cache / f"{stem}.params"
        if not _has_digest(target, "sha1", entry.gluon_sha1):
            self._require_writable()
            with tempfile.TemporaryDirectory(prefix=".download-", dir=self.cache) as folder:
                archive = Path(folder) / "weights.zip"
                self.downloader.fetch(url, archive)
                _unpack(archive, f"{stem}.params", target, entry.gluon_sha1, url)
        return read_parameters(target), url

    def _from_torchvision(self, entry: zoo.ZooEntry) -> tuple[dict[str, np.ndarray], str]:
        assert entry.torchvision
        # torchvision's file names end in the head of the file's SHA-256.
        digest = Path(entry.torchvision).stem.rpartition("-")[2]
        url, target = self._url(TORCHVISION_STORE, f"models/{entry.torchvision}"), self.cache / entry.torchvision
        if not _has_digest(target, "sha256", digest):
            self._require_writable()
            self.downloader.fetch(url, target, "sha256", digest)
        return gluon_parameters(read_torch_tensors(target), entry.symbol_text()), url


def _has_digest(path: Path, algorithm: str, digest: str) -> bool:
    """Whether a cached file is there and sound. Raises EdgectlError where the cache cannot be read."""
    try:
        if not path.is_file():
            return False
        checksum = hashlib.new(algorithm)
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                checksum.update(chunk)
        return checksum.hexdigest().startswith(digest)
    except OSError as error:
        advice = "set EDGECTL_CACHE to a folder of your own"
        raise EdgectlError(f"cannot read {path}: {error.strerror}; {advice}") from error


def _unpack(archive: Path, member: str, target: Path, sha1: str, url: str) -> None:
    """Extract `member`, which must have the digest `sha1`. Raises VerificationError."""
    try:
        with zipfile.ZipFile(archive) as packed:
            if packed.getinfo(member).file_size > MAXIMUM_UNPACKED:
                raise VerificationError(f"{url}: {member} claims to be larger than {MAXIMUM_UNPACKED} bytes")
            content = packed.read(member)
    except (zipfile.BadZipFile, KeyError, EOFError, NotImplementedError, RuntimeError, zlib.error) as error:
        raise VerificationError(f"{url} is not a ZIP archive with {member} ({error}); try again later") from error
    found = hashlib.sha1(content, usedforsecurity=False).hexdigest()
    if found != sha1:
        raise VerificationError(f"{url}: {member} has SHA-1 {found}, expected {sha1}; try again later")
    with atomic_file(target) as file:
        file.write(content)


@functools.cache
def _store(cache: Path, mirror: str) -> WeightsStore:
    """One store per place and process, so that a host that did not answer is asked once."""
    return WeightsStore(cache, mirror)


def resolve_weights(
    model: Model, choice: str, simulated: bool, seed: int = 0, store: WeightsStore | None = None
) -> tuple[Model, WeightsReport]:
    """`model`, a zoo model, with the weights of `choice`: auto, pretrained, random or a file's path.

    `auto` is pretrained; where no store can be reached and the target is `simulated`, random with a banner.
    Raises UnreachableError, VerificationError (a store's content is wrong), ModelError (a file does not fit).
    """
    entry = zoo.find(model.name)
    if choice == "random":
        return random_model(model, seed, "--weights random was asked for")
    if choice not in CHOICES:
        return with_parameters(model, read_weights(choice, entry)), WeightsReport("file", choice)
    if entry.parameters is not None:
        return model, WeightsReport("pretrained", "ships with edgectl")
    try:
        parameters, source = (store or WeightsStore.from_environment()).fetch(entry)
    except UnreachableError as error:
        if choice == "auto" and simulated:
            return random_model(model, seed, str(error))
        raise
    return with_parameters(model, parameters), WeightsReport("pretrained", source)


def read_weights(path: str, entry: zoo.ZooEntry) -> dict[str, np.ndarray]:
    """Parameters of a zoo network from a .params, .npz or .pth file. Raises UsageError where there is no such file."""
    if not Path(path).is_file():
        raise UsageError(f"--weights {path}: no such file, and not one of {', '.join(CHOICES)}")
    if Path(path).suffix in (".pth", ".pt"):
        if entry.torchvision is None:
            raise ModelError(f"{path}: torchvision has no network with the layers of {entry.name}; give a .params file")
        return gluon_parameters(read_torch_tensors(path), entry.symbol_text())
    return read_parameters(path)


def with_parameters(model: Model, parameters: Mapping[str, np.ndarray]) -> Model:
    """A zoo model of the same input shapes with other weights. Raises ModelError where they do not fit."""
    shapes = {name: kind.shape for name, kind in model.inputs.items()}
    return zoo.find(model.name).model(parameters, shapes)


def random_model(model: Model, seed: int, reason: str) -> tuple[Model, WeightsReport]:
    """`model` with seeded random weights and the banner that says so."""
    report = WeightsReport("random", f"seed {seed}", random_banner(reason))
    return replace(model, parameters=random_parameters(model, seed)), report


def random_banner(reason: str) -> str:
    """The warning about random weights: a headline, and why."""
    return f"RANDOM WEIGHTS: predictions are meaningless.\nLatency, counters and all else are real. Why: {reason}"
