"""Runs what was written: MXNet's files by MXNet or by the interpreter, PyTorch's code by PyTorch."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from edgectl.errors import ModelError, VerificationError
from edgectl.frontends.mxnet import from_checkpoint, import_mxnet
from edgectl.frontends.torch import import_torch
from edgectl.graph import Model
from edgectl.interchange.torch_writer import TorchCode
from edgectl.interchange.translation import Translation
from edgectl.interpreter import interpret

SUBGRAPHS = "MXNET_SUBGRAPH_BACKEND"
Arrays = Mapping[str, np.ndarray]
Run = Callable[[Arrays], dict[str, np.ndarray]]
"""Inputs by the model's names -> the value of each of its nodes, by the node's name."""


@dataclass(frozen=True)
class Executor:
    """What ran the written files, in words, and how."""

    name: str
    run: Run


def evaluated(model: Model, inputs: Arrays) -> dict[str, np.ndarray]:
    """Every value of `model` by the interpreter, which defines them."""
    values: dict[str, np.ndarray] = {}
    interpret(model, inputs, values.__setitem__)
    return values


def mxnet_executor(prefix: Path, model: Model, translation: Translation) -> Executor:
    """Runs PREFIX-symbol.json with PREFIX-0000.params: by MXNet where it can be imported, else read again and
    interpreted."""
    try:
        mxnet = import_mxnet()
    except ModelError:
        return _reimported(prefix, model, translation)
    symbol, arguments, states = mxnet.model.load_checkpoint(str(prefix), 0)
    internals = symbol.get_internals()
    known = set(internals.list_outputs())
    names = [node.name for node in model.nodes]
    outputs = [_output(internals, known, translation.layers[name]) for name in names]
    group = mxnet.sym.Group(outputs)

    def run(inputs: Arrays) -> dict[str, np.ndarray]:
        held = {translation.layers[name]: mxnet.nd.array(array) for name, array in inputs.items()}
        with _unfused():
            executor = group.bind(mxnet.cpu(), {**arguments, **held}, aux_states=states, grad_req="null")
        return dict(zip(names, (result.asnumpy() for result in executor.forward(is_train=False)), strict=True))

    return Executor(f"MXNet {mxnet.__version__}", run)


@contextmanager
def _unfused() -> Iterator[None]:
    """MXNet 1.9 fuses layers where it binds a network, and fails where the values between them are wanted too."""
    before = os.environ.get(SUBGRAPHS)
    os.environ[SUBGRAPHS] = "NONE"
    try:
        yield
    finally:
        if before is None:
            del os.environ[SUBGRAPHS]
        else:
            os.environ[SUBGRAPHS] = before


def _output(internals: Any, known: set[str], name: str) -> Any:
    return internals[f"{name}_output" if f"{name}_output" in known else f"{name}_output0"]


def _reimported(prefix: Path, model: Model, translation: Translation) -> Executor:
    shapes = {translation.layers[name]: kind.shape for name, kind in model.inputs.items()}
    again = from_checkpoint(prefix, input_shapes=shapes)
    names = {translation.layers[node.name]: node.name for node in model.nodes}

    def run(inputs: Arrays) -> dict[str, np.ndarray]:
        values = evaluated(again, {translation.layers[name]: array for name, array in inputs.items()})
        return {names[name]: array for name, array in values.items() if name in names}

    return Executor("edgectl's interpreter, which read the files again (MXNet is not installed here)", run)


def torch_executor(code_path: Path, weights_path: Path, written: TorchCode, model: Model) -> Executor:
    """Runs the module that was written, with the state dict that was written. Raises ModelError without PyTorch."""
    torch = import_torch()
    fx = import_module("torch.fx")
    module = _imported(code_path)
    net = module.load(str(weights_path))
    traced = fx.symbolic_trace(net)
    calls = [node for node in traced.graph.nodes if node.op.startswith("call_")]
    if len(calls) != len(written.steps):
        raise VerificationError(
            f"the code for {model.name} makes {len(calls)} calls where {len(written.steps)} were written; this is a "
            "defect of edgectl, please report it"
        )
    names = dict(zip(calls, written.steps, strict=True))

    class Recorder(fx.Interpreter):  # type: ignore[name-defined]
        def __init__(self) -> None:
            super().__init__(traced)
            self.values: dict[str, np.ndarray] = {}

        def run_node(self, n: Any) -> Any:
            result = super().run_node(n)
            if name := names.get(n):
                self.values[name] = result.numpy()
            return result

    def run(inputs: Arrays) -> dict[str, np.ndarray]:
        given = [torch.from_numpy(np.array(inputs[name])) for name in model.inputs]
        recorder = Recorder()
        with torch.no_grad():
            recorder.run(*given)
            results = net(*given)
        # What the module itself gives counts for the outputs; tracing only serves to look inside.
        results = results if isinstance(results, tuple) else (results,)
        return {**recorder.values, **dict(zip(model.outputs, (r.numpy() for r in results), strict=True))}

    return Executor(f"PyTorch {torch.__version__}", run)


def _imported(path: Path) -> Any:
    """The Python module in a file, without a trace of it in sys.modules or beside the file."""
    spec = importlib.util.spec_from_file_location(f"edgectl_converted_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        spec.loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = before
    return module


def framework_outputs(source: Any, inputs: Arrays) -> Iterator[tuple[str, list[np.ndarray]]]:
    """What a framework's own object, a torch module or a Gluon block, gives on `inputs`: (framework, outputs)."""
    root = {cls.__module__.partition(".")[0] for cls in type(source).__mro__}
    if "torch" in root:
        torch = import_torch()
        given = [torch.from_numpy(np.array(array)) for array in inputs.values()]
        with torch.no_grad():
            results = _in_evaluation(source, given) if isinstance(source, torch.nn.Module) else source.module()(*given)
        yield f"PyTorch {torch.__version__}", [result.numpy() for result in _several(results)]
    elif "mxnet" in root:
        mxnet = import_mxnet()
        results = source(*(mxnet.nd.array(array) for array in inputs.values()))
        yield f"MXNet {mxnet.__version__}", [result.asnumpy() for result in _several(results)]


def _in_evaluation(module: Any, inputs: list[Any]) -> Any:
    """What a module gives in evaluation mode, whatever mode its parts are in and stay in."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        return module(*inputs)
    finally:
        for part, training in modes:
            part.training = training


def _several(results: Any) -> list[Any]:
    if isinstance(results, Mapping):
        return list(results.values())
    return list(results) if isinstance(results, (list, tuple)) else [results]
