"""What `evaluate` does: a network's answers in float, in integers and on a board, side by side, layer by layer."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.boards import profile
from edge_agent.bundle import Bundle, read_bundle
from edge_agent.devices import open_accelerator
from edge_agent.errors import AgentError
from edge_agent.runtime.executor import Runtime
from edgectl.accuracy import CONFIDENCE, Answers, Form, answers_of, check_fit, compare, outputs_of
from edgectl.boards.board import PIXELS, Board, preprocessing_of
from edgectl.building import build_integer
from edgectl.datasets import Data, Dataset, read_data
from edgectl.errors import EdgectlError, IncompatibleError
from edgectl.frontends.torch_factory import is_factory
from edgectl.graph import Model
from edgectl.images import pixels_of
from edgectl.interpreter import interpret
from edgectl.layer_errors import LayerError, layer_errors
from edgectl.operators.base import TensorType
from edgectl.pixels import with_pixel_input
from edgectl.quantization.folding import fold_batch_norm
from edgectl.quantization.quantizer import quantize
from edgectl.sources import Source, is_bundle, parameters_digest, prepare
from edgectl.stages import Stages

SIMULATED = "sim"
Infer = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]
"""Inputs of a whole batch by name to outputs by name."""


@dataclass(frozen=True)
class Evaluation:
    """`forms` that were at hand, of "float", "integer" (interpreter) and "board", on `n` images."""

    n: int
    forms: Mapping[str, Form]

    @property
    def int8(self) -> Form:
        """The integer form: as the interpreter computes it, or the board, where only that is there."""
        return self.forms.get("integer") or self.forms["board"]

    @property
    def top1_float(self) -> float | None:
        return _value("top1", self.forms.get("float"))

    @property
    def top1_int8(self) -> float | None:
        return _value("top1", self.int8)

    @property
    def agreement(self) -> float | None:
        return _value("agreement", self.int8)

    @property
    def mean_cosine(self) -> float | None:
        return self.int8.mean_cosine

    def as_dict(self) -> dict[str, Any]:
        return {
            "n": self.n,
            "top1_float": self.top1_float,
            "top1_int8": self.top1_int8,
            "agreement": self.agreement,
            "mean_cosine": self.mean_cosine,
            "worst_cosine": self.int8.worst_cosine,
            "interval": {"method": "Wilson", "confidence": CONFIDENCE},
            "forms": {name: form.as_dict() for name, form in self.forms.items()},
        }


def _value(name: str, form: Form | None) -> float | None:
    proportion = getattr(form, name, None)
    return None if proportion is None else float(proportion.value)


@dataclass(frozen=True)
class Report:
    """An evaluation, and what it was made of. `layers` are sorted, the worst first; none where either model was not at
    hand, or none were asked for."""

    model: str
    data: str
    evaluation: Evaluation
    notices: tuple[str, ...]
    banner: str = ""
    board: str = ""
    layers: tuple[LayerError, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "data": self.data,
            "board": self.board or None,
            **self.evaluation.as_dict(),
            "layers": [error.as_dict() for error in self.layers],
            "notices": list(self.notices),
            "banner": self.banner,
        }


def evaluate(
    source: Source | str,
    data: Data,
    limit: int | None = None,
    stages: Stages | None = None,
    board: str = "",
    layers: bool = True,
) -> Report:
    """Answers of a model, or of a bundle (see `evaluate_bundle`), on `data` (see `read_data`), with labels or without.

    Float and integers are computed by the interpreter; with a `board`, integers there too: "sim" is a simulated
    accelerator in this process, HOST:PORT an agent on which the model is live. Without `layers`, their errors are not
    measured. Raises UsageError where the data does not fit the model, IncompatibleError where another model is live.
    """
    stages = stages or Stages()
    if isinstance(source, str):
        if is_bundle(source):
            return evaluate_bundle(source, data, limit, stages, board, layers)
        source = Source(source)
    with stages.stage("import"):
        prepared = prepare(source)
        calibration = prepared.calibration(source.calibration)
        model = prepared.model.with_batch(1)
        dataset = read_data(data, model, limit)
        check_fit(dataset, model, model.types()[model.outputs[0]].shape)
    with stages.stage("quantize"):
        integer = quantize(model, calibration, stages.progress)
    forms = {"float": answers_of(fold_batch_norm(model)), "integer": answers_of(integer)}
    with ExitStack() as stack:
        if board == SIMULATED:
            bundle = read_bundle(build_integer(integer, SIMULATED, prepared.origin, stages).data)
            forms["board"] = _answers(stack.enter_context(_simulated(bundle)), bundle.manifest)
        elif board:
            opened = stack.enter_context(Board(board, start=False))
            manifest = opened.connection.manifest()
            live = manifest["model"]
            if live.get("parameters_sha256") != prepared.origin["parameters_sha256"]:
                raise _not_live(board, live["name"], f"{source.name} with these weights", source.name)
            forms["board"] = _answers(lambda inputs: opened.infer(inputs).outputs, manifest)
        evaluation = _evaluation(forms, dataset, model, stages)
    with stages.stage("compare layers"):
        errors = layer_errors(model, integer, dataset.images, stages.progress) if layers else ()
    notices = (*prepared.notices, *_differing(evaluation))
    return Report(model.name, _name(data), evaluation, notices, prepared.weights.banner, board, errors)


def evaluate_bundle(
    path: str | os.PathLike[str],
    data: Data,
    limit: int | None = None,
    stages: Stages | None = None,
    board: str = "",
    layers: bool = True,
) -> Report:
    """Answers of a bundle: run by the agent's runtime on a simulated accelerator in this process, or on `board`, an
    agent on which it is live.

    The float model is loaded again from where the bundle says it came from, and the integer one made of it where it was
    calibrated on synthetic images; where they are no longer the same, there is nothing to compare with. Raises
    IncompatibleError where the bundle is for another processor, or not live on the board.
    """
    stages = stages or Stages()
    notices = []
    with ExitStack() as stack:
        with stages.stage("load"):
            bundle = read_bundle(Path(path))
            manifest = bundle.manifest
            stand_in = _input_model(bundle)
            dataset = read_data(data, stand_in, limit)
            check_fit(dataset, stand_in, tuple(manifest["outputs"][0]["shape"]))
            if board and board != SIMULATED:
                opened = stack.enter_context(Board(board, start=False))
                live = opened.status()["live"]
                if live is None or live["digest"] != bundle.digest:
                    raise _not_live(board, live["model"] if live else "nothing", f"bundle {bundle.digest[:12]}", path)
                on_board = _answers(lambda inputs: opened.infer(inputs).outputs, manifest)
            else:
                try:
                    on_board = _answers(stack.enter_context(_simulated(bundle)), manifest)
                except AgentError as error:
                    raise IncompatibleError(f"{os.fspath(path)} does not run on this machine: {error}") from error
        with stages.stage("import"):
            float_model = _original(bundle)
            if float_model is None:
                notices.append("the model that the bundle was compiled from is not at hand: no comparison with it")
            integer = None if float_model is None else _integer_again(float_model, bundle)
            if float_model is not None and integer is None:
                notices.append("the bundle's integer model cannot be made again from here: its layers are not compared")
        forms = {"board": on_board}
        if integer is not None:
            forms = {"integer": answers_of(integer), **forms}
        if float_model is not None:
            forms = {"float": answers_of(fold_batch_norm(float_model)), **forms}
        evaluation = _evaluation(forms, dataset, stand_in, stages)
    errors: tuple[LayerError, ...] = ()
    if layers and float_model is not None and integer is not None:
        with stages.stage("compare layers"):
            errors = layer_errors(float_model, integer, dataset.images, stages.progress)
    notices += _differing(evaluation)
    name = manifest["model"]["name"]
    return Report(name, _name(data), evaluation, tuple(notices), "", board or SIMULATED, errors)


def _evaluation(forms: Mapping[str, Answers], dataset: Dataset, model: Model, stages: Stages) -> Evaluation:
    with stages.stage("evaluate"):
        outputs = outputs_of(forms, dataset, model, stages.progress)
    return Evaluation(len(dataset.images), compare(outputs, dataset.labels))


def _name(data: Data) -> str:
    return os.fspath(data) if isinstance(data, str | os.PathLike) else f"a {type(data).__name__}"


def _not_live(board: str, live: str, wanted: str, deploy: str | os.PathLike[str]) -> IncompatibleError:
    return IncompatibleError(
        f"{live} is live on {board}, not {wanted}; deploy that first: "
        f"edgectl deploy {os.fspath(deploy)} --board {board}"
    )


def _differing(evaluation: Evaluation) -> tuple[str, ...]:
    """A notice where the board does not compute what the interpreter does."""
    equal = evaluation.forms["board"].equal if "board" in evaluation.forms else None
    if equal is None or equal.count == equal.of:
        return ()
    return (
        f"the board's outputs differ from the interpreter's on {equal.of - equal.count:,} of {equal.of:,} images: it "
        "was compiled with other calibration data or by another edgectl, or computes wrongly; deploy again to test it",
    )


@contextmanager
def _simulated(bundle: Bundle) -> Iterator[Infer]:
    """A bundle in the agent's runtime on a simulated accelerator in this process. Raises AgentErrors."""
    board = profile(SIMULATED)
    loaded = Runtime(open_accelerator(board.accelerator, board)).load(bundle)
    try:
        yield lambda inputs: loaded.infer(inputs).outputs
    finally:
        loaded.close()


def _answers(infer: Infer, manifest: Mapping[str, Any]) -> Answers:
    """Any number of images through what takes one batch after another, from any thread."""
    (spec,) = manifest["inputs"]
    batch, output = spec["shape"][0], manifest["outputs"][0]["name"]
    pixels = preprocessing_of(manifest) if spec["dtype"] == PIXELS else None
    lock = threading.Lock()

    def answers(x: np.ndarray) -> np.ndarray:
        x = x if pixels is None else pixels_of(x, pixels)
        padded = np.concatenate([x, np.repeat(x[-1:], -len(x) % batch, axis=0)])
        with lock:
            parts = [infer({spec["name"]: padded[i : i + batch]})[output] for i in range(0, len(padded), batch)]
        return np.concatenate([part.reshape(batch, -1) for part in parts])[: len(x)]

    return answers


def _input_model(bundle: Bundle) -> Model:
    """A model with the bundle's preprocessing and its input in floating point, and no layers."""
    manifest = bundle.manifest
    inputs = {spec["name"]: TensorType(tuple(spec["shape"])) for spec in manifest["inputs"]}
    how = preprocessing_of(manifest) if manifest["preprocessing"] else None
    return Model(manifest["model"]["name"], inputs, (), {}, (), how)


def _original(bundle: Bundle) -> Model | None:
    """The float model that the bundle was compiled from, if it is still there and has the same parameters."""
    made_from = bundle.manifest["model"]
    # A bundle is data: what it names must not be imported.
    if "source" not in made_from or is_factory(made_from["source"]):
        return None
    kind = made_from["weights"]["kind"]
    weights = {"random": "random", "file": made_from["weights"]["source"]}.get(kind, "auto")
    shape = tuple(bundle.manifest["inputs"][0]["shape"])
    try:
        model = prepare(Source(made_from["source"], weights, shape=shape, seed=made_from["seed"])).model.with_batch(1)
    except EdgectlError:
        return None
    same = parameters_digest(model) == made_from["parameters_sha256"]
    return replace(model, preprocessing=_input_model(bundle).preprocessing) if same else None


def _integer_again(model: Model, bundle: Bundle) -> Model | None:
    """The integer model that the bundle was compiled from, if it can be made again: the golden sample tells."""
    if bundle.manifest["model"].get("calibrated_on") != "synthetic images":
        return None
    integer, golden = quantize(model), bundle.manifest["golden"]
    sealed = with_pixel_input(integer) if bundle.manifest["inputs"][0]["dtype"] == PIXELS else integer
    outputs = interpret(sealed, {name: bundle.array(member) for name, member in golden["inputs"].items()})
    same = all(
        np.allclose(outputs[name], bundle.array(entry["member"]), entry["rtol"], entry["atol"])
        for name, entry in golden["outputs"].items()
    )
    return integer if same else None
