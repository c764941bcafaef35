"""A board as scripts and verbs use it: deploy a bundle, run images, measure."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np

from edge_agent.boards import ANY_CPU, BoardProfile, profile
from edge_agent.bundle import read_bundle
from edge_agent.devices.base import AcceleratorInfo
from edge_agent.errors import AgentError
from edge_agent.errors import IncompatibleError as AgentIncompatibleError
from edge_agent.runtime.compatibility import Processor, check_manifest
from edge_agent.runtime.cpu import processor_flags, this_machine
from edgectl.boards import leasing
from edgectl.boards.choosing import Choice, SimulatedChoice, choose
from edgectl.boards.client import Address, BenchReply, InferenceReply, Progress
from edgectl.boards.metrics_address import http_address, metrics_url
from edgectl.errors import IncompatibleError, UsageError, VerificationError
from edgectl.graph import Preprocessing
from edgectl.images import load_image, load_pixels
from edgectl.preflight import deployment_checks, require
from edgectl.simulated_board import RunningBoard
from edgectl.tensors import is_tensor_file, read_tensor


class Built(Protocol):
    """What `edgectl.build` returns, as far as a board needs it."""

    @property
    def data(self) -> bytes:
        """The bundle's bytes."""

    @property
    def manifest(self) -> Mapping[str, Any]:
        """The manifest inside."""


Bundle = Built | bytes | str | os.PathLike[str]
"""A built bundle, its bytes, or its file."""


LLVM, CUDA = "llvm", "cuda"
"""The targets that are this machine's CPU and its GPU, and the boards that their bundles name."""
PIXELS = "uint8"
"""The dtype of an input that takes a decoded image, which the board normalises."""


@dataclass(frozen=True)
class Score:
    """One class of a prediction; `score` is its probability."""

    index: int
    label: str
    score: float


@dataclass(frozen=True)
class Prediction:
    """The best classes of one image, and the reply that they come from."""

    top: tuple[Score, ...]
    reply: InferenceReply


class Board:
    """A connection to a board by name: "sim" for the simulated one (started on demand), or what `choose` understands.

    A context manager; a simulated board that it started is ended if the body fails, and otherwise stays for later use.
    Raises UsageError for a name that is no board, UnreachableError and BusyError as the connection does.
    """

    def __init__(self, name: str = "sim", key: str | None = None, start: bool = True, deadline: float = 10.0) -> None:
        """`key` is the board's RPC key (default: of the inventory or $EDGECTL_KEY). Without `start`, a simulated board
        must run already. A lease that was taken with `edgectl lease` is used."""
        self.name = name
        self.choice: Choice = choose(name, key)
        self.running: RunningBoard | None = None
        self._leased = False
        with ExitStack() as stack:
            if isinstance(self.choice, SimulatedChoice):
                if start:
                    self.running = stack.enter_context(self.choice.simulated.started_here())
                else:
                    self.running = self.choice.running()
                self.connection = self.running.connect(deadline)
            else:
                self.connection = self.choice.connect(deadline)
            self.status_at_connect = self.connection.status()
            leasing.resume(self.connection, self.status_at_connect)
            self._stack = stack.pop_all()

    def __enter__(self) -> Board:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.running is None or kind is None:
            self.connection.close()
        else:
            self.connection.drop()
            self.connection.address.close()
        self._stack.__exit__(kind, error, trace)

    def close(self) -> None:
        """Disconnect; a simulated board stays."""
        self.__exit__(None, None, None)

    @property
    def profile(self) -> str:
        """The name of the board's profile, which models are compiled for."""
        return str(self.status_at_connect["board"])

    @property
    def target(self) -> BoardProfile:
        """What models are compiled for: the profile, and where that leaves the CPU open, with the one that the
        agent's machine has. Raises CompileError where no kernels can be made for that."""
        kind, cpu = profile(self.profile), self.status_at_connect["cpu"]
        machine, flags = str(cpu["machine"]), frozenset(cpu["flags"])
        if kind.cpu != ANY_CPU or (machine, flags) == (this_machine(), processor_flags()):
            return kind
        # Imports TVM, which a bundle from the cache does without.
        from edgectl.codegen.cpu.target import target_for

        return replace(kind, cpu=target_for(machine, flags).name)

    @property
    def simulated(self) -> bool:
        return self.running is not None

    @property
    def metrics_url(self) -> str:
        """Where Prometheus scrapes this board; empty where other machines cannot."""
        if self.running is not None:
            return self.running.metrics_url
        assert not isinstance(self.choice, SimulatedChoice)
        route = self.connection.address
        host = route.host if isinstance(route, Address) else self.choice.host
        return metrics_url(http_address(self.status_at_connect, host))

    @contextmanager
    def leased(
        self, purpose: str, wait: float | None = None, say: Callable[[str], None] | None = None
    ) -> Iterator[None]:
        """Have the board for oneself inside the block; others are told who has it. Inside another such block it does
        nothing.

        Waits for it `wait` seconds; None: for a verb that is under way a minute, for somebody's lease not at all.
        Raises BusyError that says who has it until when.
        """
        if self._leased:
            yield
            return
        with leasing.leased(self.connection, self.status_at_connect, purpose, wait, say):
            self._leased = True
            try:
                yield
            finally:
                self._leased = False

    def upload(self, bundle: Bundle, progress: Progress | None = None) -> str:
        """Send a bundle (a Build, its bytes or its file) and return its digest.

        Raises IncompatibleError, before anything is sent, where the bundle is for another kind of board.
        """
        opened = open_bundle(bundle)
        self.check_fits(opened.manifest)
        return self.connection.upload(opened.data, progress)

    def check_fits(self, manifest: Mapping[str, Any]) -> None:
        """Raise IncompatibleError, naming both values and the repair, where a bundle is not for this board."""
        board = self.status_at_connect
        if manifest.get("board") in (LLVM, CUDA):
            processor = "CPU" if manifest["board"] == LLVM else "GPU"
            raise IncompatibleError(
                f"the bundle was compiled for the {processor} of a host, this board is a {self.profile}; run it with "
                f"`edgectl run FILE --local`, or compile the model with --board {self.profile}"
            )
        info = AcceleratorInfo(self.profile, board["config"], frozenset(board["features"]), 0)
        cpu = Processor(board["cpu"]["machine"], frozenset(board["cpu"]["flags"]))
        try:
            check_manifest(manifest, info, cpu, self.profile)
        except AgentIncompatibleError as error:
            raise IncompatibleError(str(error)) from error
        require(deployment_checks(manifest, board, self.name))

    def deploy(self, bundle: Bundle, progress: Progress | None = None) -> dict[str, Any]:
        """Upload a bundle and make it live after its self-test; the agent's account of it. Under a lease."""
        with self.leased("deploy"):
            return self.connection.activate(self.upload(bundle, progress))

    def infer(self, inputs: Mapping[str, np.ndarray]) -> InferenceReply:
        """One inference of the live model on preprocessed tensors."""
        return self.connection.infer(inputs)

    def run(self, image: str | os.PathLike[str] | np.ndarray, top: int = 5) -> Prediction:
        """The live model's best classes for a photograph's file, or for an array (1, C, H, W): preprocessed float32,
        or uint8 pixels for a bundle compiled with `pixels`."""
        manifest = self.connection.manifest()
        reply = self.infer(model_inputs(manifest, image))
        return Prediction(best_of(reply, manifest, top), reply)

    def bench(
        self,
        number: int = 10,
        repeat: int = 3,
        image: str | os.PathLike[str] | np.ndarray | None = None,
        deadline: float = 600.0,
    ) -> BenchReply:
        """Time `repeat` rounds of `number` inferences, on an image or on zeros, within `deadline` seconds."""
        inputs = None if image is None else model_inputs(self.connection.manifest(), image)
        with self.leased("bench"):
            return self.connection.bench(number, repeat, inputs, deadline)

    def status(self) -> dict[str, Any]:
        """The agent's status."""
        return self.connection.status()


@dataclass(frozen=True)
class OpenedBundle:
    """A bundle from a file or from its bytes, verified."""

    data: bytes
    manifest: Mapping[str, Any]


def open_bundle(bundle: Bundle) -> Built:
    """A bundle with its manifest; what is not built here is verified. Raises UsageError (no such file),
    VerificationError (damaged), IncompatibleError (another version's)."""
    if isinstance(bundle, str | os.PathLike):
        try:
            bundle = Path(bundle).read_bytes()
        except OSError as error:
            raise UsageError(f"cannot read bundle {os.fspath(bundle)!r}: {error.strerror}") from error
    if not isinstance(bundle, bytes):
        return bundle
    try:
        return OpenedBundle(bundle, read_bundle(bundle).manifest)
    except AgentIncompatibleError as error:
        raise IncompatibleError(str(error)) from error
    except AgentError as error:
        raise VerificationError(str(error)) from error


def model_inputs(manifest: Mapping[str, Any], image: str | os.PathLike[str] | np.ndarray) -> dict[str, np.ndarray]:
    """The inputs that a model with this manifest takes, from a photograph, a tensor's file (.npy, .npz) or an array; a
    batch repeats the image. A photograph is normalised unless the input is uint8: then the board does that.

    Raises UsageError where the image is unreadable or of another shape.
    """
    if len(manifest["inputs"]) != 1:
        raise UsageError(
            f"the model has inputs {[spec['name'] for spec in manifest['inputs']]}; give each its own: "
            "--input NAME=FILE"
        )
    (spec,) = manifest["inputs"]
    return {spec["name"]: input_array(spec, manifest, image)}


def input_array(
    spec: Mapping[str, Any], manifest: Mapping[str, Any], image: str | os.PathLike[str] | np.ndarray
) -> np.ndarray:
    """`model_inputs` of one input, whose entry in the manifest is `spec`."""
    shape = tuple(spec["shape"])
    if isinstance(image, np.ndarray):
        array = image
    else:
        photograph = load_pixels if spec["dtype"] == PIXELS else load_image
        array = read_tensor(image) if is_tensor_file(image) else photograph(image, preprocessing_of(manifest))
    if array.shape[1:] != shape[1:] or array.dtype.name != spec["dtype"]:
        raise UsageError(
            f"the image is {array.dtype.name}{list(array.shape)}, the model's input '{spec['name']}' "
            f"{spec['dtype']}{list(shape)}{_repair(array.dtype.name, spec['dtype'])}"
        )
    if len(array) != shape[0]:
        array = np.repeat(array[:1], shape[0], axis=0)
    return array


def _repair(given: str, wanted: str) -> str:
    """What to do about a tensor of another dtype."""
    if given == wanted:
        return ""
    if wanted == PIXELS:
        return "; it was compiled with --pixels: give the decoded image as uint8, not normalised"
    if given == PIXELS:
        return "; give the image normalised, or compile the model with --pixels"
    return f"; convert it: array.astype(numpy.{wanted})"


def preprocessing_of(manifest: Mapping[str, Any]) -> Preprocessing:
    """The preprocessing that a bundle carries. Raises UsageError where it carries none."""
    entry = manifest["preprocessing"]
    if entry is None:
        raise UsageError(
            "the deployed model says nothing of preprocessing, so a photograph cannot be its input; compile it "
            "with --mean and --std, or give a tensor: --input FILE.npy"
        )
    return Preprocessing(
        entry["resize"], tuple(entry["crop"]), tuple(entry["mean"]), tuple(entry["std"]), entry["channel_order"]
    )


def best_of(reply: InferenceReply, manifest: Mapping[str, Any], top: int) -> tuple[Score, ...]:
    """The best classes of a reply: of the model's first output."""
    return best_classes(reply.outputs[manifest["outputs"][0]["name"]], manifest["labels"], top)


def best_classes(output: np.ndarray, labels: list[str], top: int = 5) -> tuple[Score, ...]:
    """The best classes of the first sample of `output` (N, classes), as probabilities (softmax if it is none)."""
    scores = output.reshape(len(output), -1)[0].astype(np.float64)
    if not (scores.min() >= 0 and abs(scores.sum() - 1) < 1e-3):
        scores = np.exp(scores - scores.max())
        scores /= scores.sum()
    order = np.argsort(-scores, kind="stable")[:top]
    return tuple(Score(int(i), labels[i] if i < len(labels) else f"class {i}", float(scores[i])) for i in order)
