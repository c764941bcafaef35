"""Models compiled for the CPU of this machine, and run in this process: no board, no agent.

What is compiled is a bundle without VTA programs, in the format of all bundles, so a file of it can be kept and run
again.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from edge_agent.boards import profile, profile_names
from edge_agent.bundle import Bundle, read_bundle
from edge_agent.devices import open_accelerator
from edge_agent.runtime.compatibility import AGENT_PROTOCOL
from edge_agent.runtime.executor import Inference, LoadedModel, Runtime
from edge_agent.version import VERSION
from edge_agent.vta.counters import Counters
from edgectl.boards.board import LLVM, Score, best_classes, model_inputs
from edgectl.build_cache import BuildCache, build_key
from edgectl.bundle import write_bundle
from edgectl.datasets import Data, read_calibration
from edgectl.errors import IncompatibleError, UsageError
from edgectl.graph import Model
from edgectl.model_edits import up_to, with_softmax
from edgectl.quantization.folding import fold_batch_norm
from edgectl.quantization.quantizer import quantize
from edgectl.sources import Prepared, Source, prepare
from edgectl.stages import Stages

SIMULATED = "sim"


@dataclass(frozen=True)
class LocalModel:
    """A bundle loaded in this process. To be closed, or used as a context."""

    manifest: Mapping[str, Any]
    digest: str
    loaded: LoadedModel

    @staticmethod
    def open(bundle: bytes | str | os.PathLike[str]) -> LocalModel:
        """A bundle for this machine's CPU, from `compile_local` or a file. One with VTA programs runs them on a
        simulated accelerator.

        Raises UsageError where there is no such file, AgentErrors where it is damaged or for another processor.
        """
        if not isinstance(bundle, bytes):
            try:
                bundle = Path(bundle).read_bytes()
            except OSError as error:
                raise UsageError(f"cannot read bundle {os.fspath(bundle)!r}: {error.strerror}") from error
        opened: Bundle = read_bundle(bundle)
        board = opened.manifest.get("board", "")
        kind = profile(SIMULATED if board == LLVM else board)
        runtime = Runtime(open_accelerator(SIMULATED, kind))
        return LocalModel(opened.manifest, opened.digest, runtime.load(opened))

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs by name, of inputs by name with the manifest's shapes and dtypes. Raises InputError."""
        return dict(self.infer(inputs).outputs)

    def infer(self, inputs: Mapping[str, np.ndarray]) -> Inference:
        """The same, and what it took."""
        return self.loaded.infer(inputs)

    def classify(self, image: str | os.PathLike[str] | np.ndarray, top: int = 5) -> tuple[Score, ...]:
        """The best classes of a photograph, or of a tensor (N, C, H, W), its first sample, of a model with one input:
        as probabilities, whether or not a softmax was appended. Raises UsageError, InputError."""
        inputs = model_inputs(self.manifest, image)
        return best_classes(self.run(inputs)[self.manifest["outputs"][0]["name"]], self.manifest["labels"], top)

    def close(self) -> None:
        self.loaded.close()

    def __enter__(self) -> LocalModel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def compile_local(
    model: Model,
    int8: bool = False,
    calibration: Data | None = None,
    origin: Mapping[str, Any] | None = None,
    stages: Stages | None = None,
    cache: BuildCache | None = None,
) -> LocalModel:
    """Compile `model` for this machine's CPU and load it: in floating point, or quantized on `calibration` (see
    `quantize`). With a `cache`, as `build`. Raises CompileError, UsageError.
    """
    return LocalModel.open(build_local(model, int8, calibration, origin, stages, cache))


def build_local(
    model: Model,
    int8: bool = False,
    calibration: Data | None = None,
    origin: Mapping[str, Any] | None = None,
    stages: Stages | None = None,
    cache: BuildCache | None = None,
) -> bytes:
    """The bundle that `compile_local` loads."""
    stages = stages or Stages()
    images = None if calibration is None else read_calibration(calibration, model)
    key = ""
    if cache is not None:
        with stages.stage("look in the cache"):
            key = build_key(model, images, profile(SIMULATED), origin or {}, {"target": LLVM, "int8": int8})
            entry, _ = cache.find(key)
            if entry is not None:
                return entry.data
    if int8:
        with stages.stage("quantize"):
            compiled = quantize(model, images, stages.progress)
    else:
        compiled = fold_batch_norm(model)
    data = _compiled(compiled, "int8" if int8 else "float32", origin or {}, stages)
    if cache is not None:
        with stages.stage("keep in the cache"):
            cache.keep(key, data)
    return data


def build_source(
    source: Source,
    softmax: bool = False,
    layer: str = "",
    int8: bool = False,
    stages: Stages | None = None,
    cache: BuildCache | None = None,
) -> tuple[bytes, Prepared]:
    """`build_local` of the model that `source` names, with a softmax appended or up to an inner `layer`, and what to
    know of it. Raises UsageError, ModelError, UnreachableError, VerificationError, CompileError.
    """
    stages = stages or Stages()
    if softmax and layer:
        raise UsageError("--softmax is for the model's outputs, --output-layer for an inner one; give one of them")
    with stages.stage("import"):
        prepared = prepare(source, quantized=int8)
        model = up_to(prepared.model, layer) if layer else prepared.model
        if softmax:
            model = with_softmax(model)
    calibration = source.calibration or None
    return build_local(model, int8, calibration, prepared.origin, stages, cache), prepared


def check_target(name: str) -> None:
    """Raise UsageError where `name` is no target of this machine, IncompatibleError where it cannot be one here."""
    if name in ("", LLVM):
        return
    if name in profile_names():
        raise UsageError(
            f"--target {name} is a kind of board: edgectl deploy MODEL --board {name}; --local is for {LLVM}"
        )
    if name == "cuda":
        raise IncompatibleError(
            "--target cuda: edgectl makes no code for GPUs, with or without one in this machine; it compiles for this "
            f"machine's CPU (--target {LLVM}) and for boards (--board)"
        )
    near = difflib.get_close_matches(name, (LLVM,), 1)
    raise UsageError(f"there is no target '{name}'; {f'did you mean {near[0]}?' if near else f'give {LLVM}'}")


def _compiled(model: Model, dtype: str, origin: Mapping[str, Any], stages: Stages) -> bytes:
    with stages.stage("compile for this machine"):
        # Here, as importing TVM takes seconds, which are this stage's.
        from edgectl.codegen.cpu import CONSTANTS_MEMBER, compile_segments, cpu_target
        from edgectl.codegen.scheduling import make_plan

        cpu = cpu_target("host")
        code = compile_segments([model], cpu)
        plan = make_plan(code.fragments, model, ())
    types = model.types()
    manifest = {
        "edgectl": VERSION,
        "agent_protocol": AGENT_PROTOCOL,
        "model": {"name": model.name, **origin, "computed_in": dtype},
        "board": LLVM,
        "config": profile(SIMULATED).config,
        "features": [],
        "cpu": {"name": cpu.name, "machine": cpu.machine, "flags": list(cpu.flags)},
        "inputs": [{"name": n, "shape": list(t.shape), "dtype": t.dtype} for n, t in model.inputs.items()],
        "outputs": [{"name": n, "shape": list(types[n].shape), "dtype": types[n].dtype} for n in model.outputs],
        "preprocessing": asdict(model.preprocessing) if model.preprocessing else None,
        "labels": list(model.labels),
        "layers": {"vta": [], "cpu": []},
        "counters": Counters().as_dict(),
    }
    members = {"plan.json": plan.to_json().encode(), "kernels.so": code.library, CONSTANTS_MEMBER: code.constants}
    return write_bundle(manifest, members)
