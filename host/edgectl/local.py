"""Models compiled for the CPU or the GPU of this machine, and run in this process: no board, no agent.

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
from edge_agent.runtime.plan import Plan
from edge_agent.version import VERSION
from edge_agent.vta.counters import Counters
from edgectl.boards.board import CUDA, LLVM, Score, best_classes, model_inputs
from edgectl.build_cache import BuildCache, build_key
from edgectl.bundle import write_bundle
from edgectl.codegen.gpu.driver import Gpu
from edgectl.codegen.gpu.runtime import CODE_MEMBER, GpuModel
from edgectl.datasets import Data, read_calibration
from edgectl.errors import UsageError
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
    loaded: LoadedModel | GpuModel

    @staticmethod
    def open(bundle: bytes | str | os.PathLike[str]) -> LocalModel:
        """A bundle for this machine's CPU or GPU, from `compile_local` or a file. One with VTA programs runs them on a
        simulated accelerator.

        Raises UsageError where there is no such file, AgentErrors where it is damaged or for another processor,
        IncompatibleError where it is for a GPU and there is none, or another.
        """
        if not isinstance(bundle, bytes):
            try:
                bundle = Path(bundle).read_bytes()
            except OSError as error:
                raise UsageError(f"cannot read bundle {os.fspath(bundle)!r}: {error.strerror}") from error
        opened: Bundle = read_bundle(bundle)
        board = opened.manifest.get("board", "")
        if board == CUDA:
            return LocalModel(opened.manifest, opened.digest, GpuModel(opened, Gpu.first()))
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
    target: str = LLVM,
) -> LocalModel:
    """Compile `model` for this machine's CPU, or its GPU (`target` "cuda"), and load it: in floating point, or
    quantized on `calibration` (see `quantize`). With a `cache`, as `build`.

    Raises CompileError, UsageError; IncompatibleError where there is no GPU.
    """
    return LocalModel.open(build_local(model, int8, calibration, origin, stages, cache, target))


def build_local(
    model: Model,
    int8: bool = False,
    calibration: Data | None = None,
    origin: Mapping[str, Any] | None = None,
    stages: Stages | None = None,
    cache: BuildCache | None = None,
    target: str = LLVM,
) -> bytes:
    """The bundle that `compile_local` loads."""
    stages = stages or Stages()
    if target not in (LLVM, CUDA):
        check_target(target)
    capability = gpu_capability() if target == CUDA else (0, 0)
    images = None if calibration is None else read_calibration(calibration, model)
    key = ""
    if cache is not None:
        with stages.stage("look in the cache"):
            options = {"target": target, "int8": int8, **({"capability": capability} if target == CUDA else {})}
            key = build_key(model, images, profile(SIMULATED), origin or {}, options)
            entry, _ = cache.find(key)
            if entry is not None:
                return entry.data
    if int8:
        with stages.stage("quantize"):
            compiled = quantize(model, images, stages.progress)
    else:
        compiled = fold_batch_norm(model)
    with stages.stage("compile for this machine"):
        code = _for_gpu(compiled, capability) if target == CUDA else _for_cpu(compiled)
    data = _bundle(compiled, target, code, "int8" if int8 else "float32", origin or {})
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
    target: str = LLVM,
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
    return build_local(model, int8, calibration, prepared.origin, stages, cache, target), prepared


def check_target(name: str) -> None:
    """Raise UsageError where `name` is no target of this machine, IncompatibleError where it cannot be one here."""
    if name == LLVM:
        return
    if name in profile_names():
        raise UsageError(
            f"--target {name} is a kind of board: edgectl deploy MODEL --board {name}; --local is for {LLVM} and {CUDA}"
        )
    if name == CUDA:
        gpu_capability()
        return
    near = difflib.get_close_matches(name, (LLVM, CUDA), 1)
    raise UsageError(f"there is no target '{name}'; {f'did you mean {near[0]}?' if near else f'give {LLVM} or {CUDA}'}")


def gpu_capability() -> tuple[int, int]:
    """The first GPU's compute capability. Raises IncompatibleError where there is no GPU that can be used."""
    gpu = Gpu.first()
    gpu.close()
    return gpu.capability


@dataclass(frozen=True)
class _Code:
    """A compiled model: its plan, the bundle's members with code and constants, and what the manifest says of them."""

    plan: Plan
    members: Mapping[str, bytes]
    described: Mapping[str, Any]


def _for_cpu(model: Model) -> _Code:
    # Here, as importing TVM takes seconds, which are this stage's.
    from edgectl.codegen.cpu import CONSTANTS_MEMBER, compile_segments, cpu_target
    from edgectl.codegen.scheduling import make_plan

    cpu = cpu_target("host")
    code = compile_segments([model], cpu)
    members = {"kernels.so": code.library, CONSTANTS_MEMBER: code.constants}
    described = {"cpu": {"name": cpu.name, "machine": cpu.machine, "flags": list(cpu.flags)}}
    return _Code(make_plan(code.fragments, model, ()), members, described)


def _for_gpu(model: Model, capability: tuple[int, int]) -> _Code:
    from edgectl.codegen.cpu import CONSTANTS_MEMBER
    from edgectl.codegen.gpu.compiler import device_code, generate
    from edgectl.codegen.scheduling import make_plan

    source = generate(model, capability)
    members = {CONSTANTS_MEMBER: source.constants}
    if source.launches:
        members[CODE_MEMBER] = device_code(source.text, capability)
    name = f"sm_{capability[0]}{capability[1]}"
    kernels = {kernel: asdict(launch) for kernel, launch in source.launches.items()}
    described = {"cpu": {"name": name, "machine": CUDA, "flags": []}, "gpu": {"name": name, "kernels": kernels}}
    return _Code(make_plan([source.fragment], model, ()), members, described)


def _bundle(model: Model, target: str, code: _Code, dtype: str, origin: Mapping[str, Any]) -> bytes:
    types = model.types()
    manifest = {
        "edgectl": VERSION,
        "agent_protocol": AGENT_PROTOCOL,
        "model": {"name": model.name, **origin, "computed_in": dtype},
        "board": target,
        "config": profile(SIMULATED).config,
        "features": [],
        **code.described,
        "inputs": [{"name": n, "shape": list(t.shape), "dtype": t.dtype} for n, t in model.inputs.items()],
        "outputs": [{"name": n, "shape": list(types[n].shape), "dtype": types[n].dtype} for n in model.outputs],
        "preprocessing": asdict(model.preprocessing) if model.preprocessing else None,
        "labels": list(model.labels),
        "layers": {"vta": [], "cpu": []},
        "counters": Counters().as_dict(),
    }
    return write_bundle(manifest, {"plan.json": code.plan.to_json().encode(), **code.members})
