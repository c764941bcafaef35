# SPDX-License-Identifier: Apache-2.0
"""Count what the armv7 kernels execute, for `kernel_cycles` in bitstreams/edge_bitstreams/processors: docs/timing.md.

    python -m scripts.cortex_a9_cycles [KIND ...]

Each kernel is compiled as for a board and runs under qemu's user emulation, whose log has each block's instructions
and every execution of it. cortex_a9_pipeline.py says how long a block takes. Needs qemu-user-static.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
from scripts.cortex_a9_pipeline import KINDS, parse, steady_cycles
from tests.edgectl.codegen.cpu import test_emulated as emulation

from edgectl.codegen.cpu import TARGETS, compile_segments, compiler, link
from edgectl.cpu_estimate import work_of
from edgectl.graph import Model, Node
from edgectl.operators.activation import Clip, LeakyRelu, Relu, Sigmoid, Softmax, Tanh
from edgectl.operators.base import Operator, TensorType
from edgectl.operators.batch_norm import BatchNorm
from edgectl.operators.convolution import Convolution
from edgectl.operators.dense import Dense
from edgectl.operators.elementwise import Binary, Scalar
from edgectl.operators.integer import (
    IntegerAdd,
    IntegerAffine,
    IntegerConvolution,
    IntegerDense,
    IntegerMultiply,
    IntegerPoolSum,
    IntegerWindowSum,
)
from edgectl.operators.layout import Pack, Unpack
from edgectl.operators.lookup import Lookup
from edgectl.operators.patches import PackPatches
from edgectl.operators.pixels import LEVELS, QuantizePixels
from edgectl.operators.planes import JoinPlanes
from edgectl.operators.pooling import AveragePool, GlobalPool, MaxPool
from edgectl.operators.quantization import Dequantize, Quantize, Requantize
from edgectl.operators.shape import Concatenate, Flatten, Pad, Transpose
from edgectl.processor import processor

TARGET = TARGETS["armv7"]
PROCESSOR = "pynq"


@dataclass(frozen=True)
class Count:
    """A run of a model's kernels: instructions by kind of data path, and the cycles that they take."""

    instructions: Counter[str]
    cycles: int


def main() -> None:
    wanted, known = set(sys.argv[1:]), processor(PROCESSOR)
    print(f"{'kernel':52} {'units':>11}  core 64-bit 128-bit  cycles/unit  in {PROCESSOR}.json")
    for model in models():
        kind, dtype, units = unit_of(model)
        if not wanted or kind in wanted:
            counted = count(model)
            shares = " ".join(f"{counted.instructions[path] / units:6.2f}" for path in KINDS)
            cycles = known.cycles(kind, dtype)
            print(f"{kind + ' ' + dtype:52} {units:11,} {shares}  {counted.cycles / units:11.2f}  {cycles}", flush=True)


def unit_of(model: Model) -> tuple[str, str, int]:
    """A model's key in `kernel_cycles`, its two names, and the units of work of one run."""
    types = model.types()
    if len(model.nodes) == 1:
        return work_of(model.nodes[0], types)
    kind = "+".join(node.operator.kind for node in model.nodes)
    return kind, types[model.nodes[0].inputs[0]].dtype, int(np.prod(types[model.outputs[0]].shape))


def count(model: Model) -> Count:
    """Compile and emulate a model of one kernel. Raises SystemExit where that fails."""
    emulator = emulation.emulator(TARGET.name)
    if emulator is None:
        raise SystemExit("qemu-arm is not installed (Debian: qemu-user-static)")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _link(model, folder)
        command = [emulator, *emulation.PROCESSOR[TARGET.name], "-d", "in_asm,exec,nochain", "./main"]
        with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            result = summed(process.stderr)
        if process.returncode != 0:
            raise SystemExit(f"{model.name}: the emulated kernels failed with {process.returncode}")
    return result


def _link(model: Model, folder: Path) -> None:
    """Write `main`, which runs the model's kernels once, and its inputs to `folder`."""
    objects: list[bytes] = []
    genuine = compiler.link_library

    def keep_objects(given: list[bytes], target: compiler.CpuTarget) -> bytes:
        objects.extend(given)
        return genuine(given, target)

    with mock.patch.object(compiler, "link_library", keep_objects), _one_thread():
        code = compile_segments([model], TARGET)
    (folder / "kernels.o").write_bytes(objects[0])
    (folder / "constants").write_bytes(code.constants)
    (folder / "main.c").write_text(emulation.program(code))
    random = np.random.default_rng(1)
    for value, declared in model.inputs.items():
        (folder / value).write_bytes(random.normal(0, 40, declared.shape).astype(declared.dtype).tobytes())
    sources = [str(path) for path in (folder / "main.c", folder / "kernels.o", link.SHIM)]
    machine = ("-target", emulation.MUSL[TARGET.name])
    link._zig("cc", "-O1", "-static", *machine, "-o", str(folder / "main"), *sources)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compile no kernel in tasks: their functions have no names in qemu's log."""
    modules = [module for name, module in sys.modules.items() if name.startswith("edgectl.codegen.cpu.")]
    with ExitStack() as stack:
        for name in ("PARALLEL_WORK", "PARALLEL_ELEMENTS"):
            for module in (module for module in modules if hasattr(module, name)):
                stack.enter_context(mock.patch.object(module, name, 1 << 62))
        yield


def summed(log: Iterable[str]) -> Count:
    """Sum qemu's log over the kernels' functions: `IN:` has a block's instructions, each `Trace` is a run of it."""
    blocks: dict[int, list[str]] = {}
    runs: Counter[int] = Counter()
    block: list[str] = []
    for line in log:
        if line.startswith("0x"):
            block.append(line)
        elif line.startswith("IN:"):
            block = []
        elif line.startswith("Trace"):
            address = int(line.split("/")[1], 16)
            if block and int(block[0].split(":")[0], 16) == address:
                blocks[address] = block
            if re.search(r"] \S*k\d{3}_", line):
                runs[address] += 1
    instructions: Counter[str] = Counter()
    cycles = 0
    for address, times in runs.items():
        parsed = [parse(line.split(":", 1)[1].split(None, 1)[1].strip()) for line in blocks[address]]
        cycles += times * steady_cycles(parsed)
        for instruction in parsed:
            instructions[instruction.kind] += times
    return Count(instructions, cycles)


def models() -> Iterator[Model]:
    """Models of one kernel each, at sizes that occur in ImageNet's networks."""
    image, floats, scores = TensorType((1, 3, 224, 224)), TensorType((1, 64, 56, 56)), TensorType((1, 1000))
    integers, packed = TensorType(floats.shape, "int8"), TensorType((1, 4, 56, 56, 1, 16), "int8")
    planes, sums = TensorType((4, 1, 63, 1, 1, 1, 16), "int8"), TensorType(scores.shape, "int32")
    small, small_floats = TensorType((1, 64, 28, 28), "int8"), TensorType((1, 64, 28, 28))
    quantize, dequantize, join = Quantize((0.02,)), Dequantize(0.01), JoinPlanes(1000, True)
    patches = PackPatches(1, 16, (2, 2), (2, 2), (4, 4), (115, 115))
    affine = {"factor": np.full(64, 3, np.int32), "offset": np.zeros(64, np.int32)}
    statistics = {name: np.ones(64, np.float32) for name in ("gamma", "beta", "mean", "variance")}
    yield _chain(image, quantize)
    yield _chain(image, quantize, patches)
    yield _chain(floats, quantize, Pack())
    pixels, levels = TensorType(image.shape, "uint8"), np.arange(3 * LEVELS, dtype=np.int8).reshape(3, LEVELS)
    yield _chain(pixels, QuantizePixels(), table=levels)
    yield _chain(pixels, QuantizePixels(), patches, table=levels)
    yield _chain(pixels, QuantizePixels(), Pack(), table=levels)
    yield _chain(TensorType(image.shape, "int8"), patches)
    yield _chain(planes, join)
    yield _chain(planes, join, dequantize)
    yield _chain(sums, dequantize)
    yield _chain(scores, Softmax())
    for pointwise in (Relu(), Clip(0, 6), LeakyRelu(), Sigmoid(), Tanh(), Scalar("multiply", 2.0)):
        yield _chain(floats, pointwise)
    yield _chain(integers, Clip(0, 6))
    yield _chain(floats, BatchNorm(), **statistics)
    yield _pair(floats, Binary("add"))
    yield _pair(integers, IntegerAdd(0, 1, 1))
    yield _pair(integers, IntegerMultiply(7))
    table = np.arange(-128, 128).astype(np.int8)
    yield _chain(integers, Lookup(), table=table)
    yield _between_programs(packed, Lookup(), table=table)
    yield _pair(floats, Concatenate(1))
    yield _pair(integers, Concatenate(1))
    yield _chain(integers, Requantize(3))
    yield _chain(integers, IntegerAffine(3), **affine)
    yield _chain(integers, Pack())
    yield _chain(packed, Unpack(64))
    yield _between_programs(packed, IntegerAffine(3), **affine)
    for x in (floats, integers):
        yield _chain(x, Transpose((0, 2, 3, 1)))
        yield _chain(x, Pad((1, 1, 1, 1)))
        yield _chain(x, Flatten())
        yield _chain(x, MaxPool((3, 3), (2, 2), (1, 1, 1, 1)))
    yield _chain(floats, AveragePool((2, 2), (2, 2)))
    yield _chain(integers, IntegerWindowSum((2, 2), (2, 2)))
    yield _chain(TensorType((1, 512, 7, 7), "int8"), IntegerPoolSum())
    yield _chain(TensorType((1, 512, 7, 7)), GlobalPool())
    bias, pads = np.zeros(64, np.int32), (1, 1, 1, 1)
    stem = IntegerConvolution((2, 2), (3, 3, 3, 3), shift=8)
    yield _chain(TensorType(image.shape, "int8"), stem, weight=_weights(64, 3, 7, 7), bias=bias)
    yield _chain(small, IntegerConvolution((1, 1), pads, shift=8), weight=_weights(64, 64, 3, 3), bias=bias)
    yield _chain(small, IntegerConvolution(shift=8), weight=_weights(64, 64, 1, 1), bias=bias)
    depthwise = IntegerConvolution((1, 1), pads, groups=64, shift=8)
    yield _chain(small, depthwise, weight=_weights(64, 1, 3, 3), bias=bias)
    yield _chain(small_floats, Convolution((1, 1), pads), weight=_weights(64, 64, 3, 3).astype(np.float32))
    depthwise_floats = Convolution((1, 1), pads, groups=64)
    yield _chain(small_floats, depthwise_floats, weight=_weights(64, 1, 3, 3).astype(np.float32))
    dense = {"weight": _weights(1000, 512), "bias": np.zeros(1000, np.int32)}
    yield _chain(TensorType((1, 512), "int8"), IntegerDense(), **dense)
    yield _chain(TensorType((1, 512)), Dense(), weight=_weights(1000, 512).astype(np.float32))


def _chain(x: TensorType, *operators: Operator, **parameters: np.ndarray) -> Model:
    """Operators one after the other; the first one has the parameters."""
    nodes: list[Node] = []
    for operator in operators:
        inputs = (nodes[-1].name,) if nodes else ("x", *parameters)
        nodes.append(Node(f"n{len(nodes)}", operator, inputs))
    return Model("chain", {"x": x}, tuple(nodes), parameters, (nodes[-1].name,))


def _pair(x: TensorType, operator: Operator) -> Model:
    return Model("pair", {"x": x, "y": x}, (Node("n", operator, ("x", "y")),), {}, ("n",))


def _between_programs(packed: TensorType, operator: Operator, **parameters: np.ndarray) -> Model:
    """What the CPU does between two programs where VTA does not compute `operator`."""
    nodes = (
        Node("n0", Unpack(64), ("x",)),
        Node("n1", operator, ("n0", *parameters)),
        Node("n2", Pack(), ("n1",)),
    )
    return Model("between", {"x": packed}, nodes, parameters, ("n2",))


def _weights(*shape: int) -> np.ndarray:
    return np.random.default_rng(2).integers(-99, 99, shape).astype(np.int8)


if __name__ == "__main__":
    main()
