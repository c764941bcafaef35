"""Whole networks on this machine's CPU: edgectl, float and int8, beside MXNet and onnxruntime, as ratios of one run.

python benchmarks/cpu_inference.py [MODEL ...] [--mxnet-python PATH] [--onnxruntime-python PATH] [--rounds N]
                                   [--threads N]

Each contender is a process of its own, since MXNet needs NumPy 1; they take turns, `--rounds` times, so that what else
the machine does meets all of them. Times are the least of all turns, for one 224x224 image. A contender that is not
installed is named. onnxruntime runs the edgectl model's own layers, written to an ONNX file (needs `onnx` here).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

MODELS = ("resnet18_v1", "mobilenet1.0", "resnet50_v1")
REPEATS = 5
SHAPE = (1, 3, 224, 224)

_MXNET = """
import sys, json, time
import numpy as np
np.bool = bool
import mxnet as mx
from mxnet.gluon.model_zoo import vision
network = vision.get_model(sys.argv[1])
network.initialize(mx.init.Xavier())
network.hybridize(static_alloc=True, static_shape=True)
image = mx.nd.array(np.random.default_rng(0).normal(0, 1, {shape}).astype("float32"))
infer = lambda: network(image).wait_to_read()
"""
_ONNXRUNTIME = """
import sys, json, time
import numpy as np
import onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = {threads}
session = onnxruntime.InferenceSession(sys.argv[2], options, providers=["CPUExecutionProvider"])
name = session.get_inputs()[0].name
image = np.random.default_rng(0).normal(0, 1, {shape}).astype("float32")
infer = lambda: session.run(None, {{name: image}})
"""
_EDGECTL = """
import sys, json, time
import numpy as np
from edge_agent.runtime.kernels import KernelLibrary
from edge_agent.runtime.memory import allocate_buffers
from edge_agent.runtime.plan import Plan
folder = sys.argv[2]
plan = Plan.from_json(open(folder + "/plan.json").read())
buffers = allocate_buffers(plan, {{"constants.bin": open(folder + "/constants.bin", "rb").read()}})
library = KernelLibrary(open(folder + "/kernels.so", "rb").read(), threads={threads})
for index in plan.inputs.values():
    buffers[index][...] = np.random.default_rng(0).normal(0, 1, buffers[index].shape)
calls = [library.bind(step.kernel, [buffers[i] for i in step.arguments]) for step in plan.steps]
def infer():
    for call in calls:
        call()
"""
_TURNS = """
infer()
print("ready", flush=True)
for line in sys.stdin:
    best = 1e9
    for _ in range({repeats}):
        begin = time.perf_counter()
        infer()
        best = min(best, time.perf_counter() - begin)
    print(best * 1e3, flush=True)
"""


class Contender:
    """A process that is ready to infer, and the least milliseconds of its turns so far."""

    def __init__(self, name: str, python: str, script: str, arguments: list[str], threads: int) -> None:
        self.name, self.milliseconds = name, float("inf")
        code = (script + _TURNS).format(shape=SHAPE, threads=threads, repeats=REPEATS)
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        self._process = subprocess.Popen(
            [python, "-c", code, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline().strip() != "ready":
            _, errors = self._process.communicate()
            reason = next((line for line in reversed(errors.splitlines()) if line.strip()), "it ended")
            raise RuntimeError(reason)

    def turn(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        self.milliseconds = min(self.milliseconds, float(self._process.stdout.readline()))

    def end(self) -> None:
        self._process.communicate()


def compiled(model: Any, folder: Path) -> list[str]:
    """The model compiled for this machine, as files in the folder."""
    from edge_agent.runtime.plan import Plan
    from edgectl.codegen.cpu import compile_segments, cpu_target

    code = compile_segments([model], cpu_target("host"))
    (fragment,) = code.fragments
    plan = Plan(fragment.buffers, fragment.storages, fragment.steps, fragment.inputs, fragment.outputs)
    folder.mkdir()
    (folder / "plan.json").write_text(plan.to_json())
    (folder / "constants.bin").write_bytes(code.constants)
    (folder / "kernels.so").write_bytes(code.library)
    return ["", str(folder)]


def to_onnx(model: Any, path: Path) -> None:
    """The float network of convolutions, batch norms, ReLU, pools, sums and a classifier as an ONNX file.

    Raises NotImplementedError, with the operator, for a network of other layers; ImportError without `onnx`.
    """
    from onnx import TensorProto, helper, numpy_helper, save

    nodes = []
    for node in model.nodes:
        kind, operator, attributes = node.operator.kind, node.operator, {}
        if kind in ("convolution", "max_pool"):
            attributes = {"strides": operator.strides, "pads": operator.padding}
        if kind == "convolution":
            attributes |= {"group": operator.groups, "dilations": operator.dilation}
        if kind == "max_pool":
            attributes |= {"kernel_shape": operator.kernel}
        if kind == "batch_norm":
            attributes = {"epsilon": operator.epsilon}
        if kind == "dense":
            attributes = {"transB": 1}
        names = {
            "convolution": "Conv",
            "batch_norm": "BatchNormalization",
            "relu": "Relu",
            "max_pool": "MaxPool",
            "global_pool": "GlobalAveragePool",
            "binary": "Add",
            "flatten": "Flatten",
            "dense": "Gemm",
        }
        if (
            kind not in names
            or getattr(operator, "function", "add") != "add"
            or getattr(operator, "mode", "average") == "max"
        ):
            raise NotImplementedError(f"this benchmark writes no ONNX for '{kind}'")
        nodes.append(helper.make_node(names[kind], list(node.inputs), [node.name], **attributes))
    types = model.types()

    def values(names: Any) -> list[Any]:
        return [helper.make_tensor_value_info(name, TensorProto.FLOAT, types[name].shape) for name in names]

    parameters = [numpy_helper.from_array(array, name) for name, array in model.parameters.items()]
    graph = helper.make_graph(nodes, "network", values(model.inputs), values(model.outputs), parameters)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))


def contenders(name: str, folder: Path, options: argparse.Namespace) -> list[Contender]:
    """Those that are installed; prints of the others why not."""
    import edgectl
    from edgectl.quantization.quantizer import quantize

    model = edgectl.load(name, weights="random")[0]
    started = []

    def start(label: str, python: str, script: str, arguments: list[str]) -> None:
        try:
            started.append(Contender(label, python, script, arguments, options.threads))
        except (RuntimeError, OSError) as error:
            print(f"  {label}: not measured: {error}")

    start("edgectl float", sys.executable, _EDGECTL, compiled(model, folder / "float"))
    start("edgectl int8", sys.executable, _EDGECTL, compiled(quantize(model), folder / "int8"))
    start("MXNet", options.mxnet_python, _MXNET, [name])
    try:
        to_onnx(model, folder / "model.onnx")
    except (ImportError, NotImplementedError) as error:
        print(f"  onnxruntime: not measured: {error}")
    else:
        start("onnxruntime", options.onnxruntime_python, _ONNXRUNTIME, ["", str(folder / "model.onnx")])
    return started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=list(MODELS))
    parser.add_argument("--mxnet-python", default=sys.executable, help="the Python that has MXNet")
    parser.add_argument("--onnxruntime-python", default=sys.executable, help="the Python that has onnxruntime")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    results = {}
    for name in options.models:
        print(f"{name}, {options.threads} threads, load {os.getloadavg()[0]:.1f}", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            taking_turns = contenders(name, Path(folder), options)
            for _ in range(options.rounds):
                for contender in taking_turns:
                    contender.turn()
            for contender in taking_turns:
                contender.end()
        results[name] = {contender.name: contender.milliseconds for contender in taking_turns}
        for label, milliseconds in results[name].items():
            ratios = [
                f"{milliseconds / results[name][other]:.2f} x {other}"
                for other in ("MXNet", "onnxruntime")
                if other in results[name]
            ]
            print(f"  {label:14} {milliseconds:8.2f} ms   {', '.join(ratios)}", flush=True)
    if options.json:
        print(json.dumps(results))


if __name__ == "__main__":
    main()
