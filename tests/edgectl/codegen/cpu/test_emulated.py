"""ARM kernels computed under qemu's user emulation equal `evaluate`: run with `pytest -m slow` where qemu is installed.

A generated C program with the kernels linked in statically stands in for the agent.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from edge_agent.runtime.plan import Buffer
from edgectl.codegen.cpu import TARGETS, CpuCode, CpuTarget, compile_segments, compiler, link
from edgectl.graph import Model, Node
from edgectl.interpreter import interpret
from edgectl.operators.base import TensorType
from edgectl.operators.integer import IntegerConvolution, IntegerMultiply
from edgectl.operators.layout import Pack, Unpack
from edgectl.operators.lookup import Lookup
from edgectl.operators.patches import PackPatches
from edgectl.operators.planes import JoinPlanes
from edgectl.operators.pooling import MaxPool
from edgectl.operators.quantization import Dequantize, Quantize
from tests.edgectl.codegen.cpu.test_compiler import back, front, residual_network
from tests.edgectl.codegen.cpu.test_layout_operators import chain
from tests.edgectl.codegen.cpu.test_pixels import looked_up

EMULATORS = {"armv7": "qemu-arm", "aarch64": "qemu-aarch64"}
MUSL = {"armv7": "arm-linux-musleabihf", "aarch64": "aarch64-linux-musl"}
PROCESSOR = {"armv7": ["-cpu", "cortex-a9"], "aarch64": []}


def wide_network() -> Model:
    """Convolutions large enough for several threads: by rows, and by blocks of channels; one depthwise; a pool."""
    random = np.random.default_rng(3)
    nodes, parameters, value = [], {}, "x"
    for index, (filters, channels, kernel, groups) in enumerate([(16, 3, 3, 1), (64, 16, 3, 1), (64, 1, 3, 64)]):
        parameters[f"w{index}"] = random.integers(-127, 128, (filters, channels, kernel, kernel)).astype(np.int8)
        parameters[f"b{index}"] = random.integers(-999, 999, filters).astype(np.int32)
        operator = IntegerConvolution((1, 1), (1, 1, 1, 1), groups=groups, shift=9)
        nodes.append(Node(f"c{index}", operator, (value, f"w{index}", f"b{index}")))
        value = f"c{index}"
    nodes.append(Node("pooled", MaxPool((3, 3), (2, 2), (1, 1, 1, 1)), (value,)))
    return Model("wide", {"x": TensorType((1, 3, 48, 47), "int8")}, tuple(nodes), parameters, ("pooled",))


def gated_network() -> Model:
    """What networks with gates leave to the CPU: a table behind one program, a product before the next."""
    nodes = (
        Node("unpacked", Unpack(60), ("x",)),
        Node("function", Lookup(), ("unpacked", "table")),
        Node("scaled", IntegerMultiply(7), ("function", "gate")),
        Node("packed", Pack(), ("scaled",)),
    )
    inputs = {"x": TensorType((1, 4, 48, 47, 1, 16), "int8"), "gate": TensorType((1, 60, 1, 1), "int8")}
    table = np.random.default_rng(4).integers(-127, 128, 256).astype(np.int8)
    return Model("gated", inputs, nodes, {"table": table}, ("function", "packed"))


MODELS = (
    wide_network(),
    gated_network(),
    front(64),
    back(),
    residual_network(),
    chain(
        np.zeros((1, 3, 64, 60), np.float32),
        Quantize((40.0, 41.0, 42.0), (0.1, 0.2, 0.3)),
        PackPatches(1, 16, patch=(2, 2), steps=(2, 2), padding=(4, 3), grid=(35, 33)),
    ),
    looked_up(TensorType((1, 3, 64, 60), "uint8"), PackPatches(1, 16, (2, 2), (2, 2), (4, 3), (35, 33))),
    chain(np.zeros((4, 1, 2, 1, 1, 1, 16), np.int8), JoinPlanes(20, flat=True), Dequantize(0.37)),
)

THREADS = 3
PRELUDE = """
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
typedef struct { void *data; int32_t device_type, device_id, ndim; uint8_t code, bits; uint16_t lanes;
                 int64_t *shape, *strides; uint64_t byte_offset; } Tensor;
typedef struct { int32_t type_index; uint32_t padding; union { void *pointer; int64_t integer; } value; } Any;
const char *edge_kernels_last_error(void);
int edge_kernels_use_threads(int);
/* Weak references alone would leave threads out of a static program. */
void *threads[] = {pthread_create, pthread_join, pthread_mutex_lock, pthread_mutex_unlock, pthread_cond_wait,
                   pthread_cond_signal, pthread_cond_broadcast, pthread_sigmask};
static void transfer(const char *name, const char *mode, void *data, size_t bytes) {
    FILE *file = fopen(name, mode);
    size_t done = *mode == 'r' ? fread(data, 1, bytes, file) : fwrite(data, 1, bytes, file);
    if (done != bytes || fclose(file)) exit(3);
}
static char *memory(size_t bytes) {
    void *result;
    if (posix_memalign(&result, 64, bytes + 64)) exit(4);
    return result;
}
"""


def emulator(target: str) -> str | None:
    return shutil.which(f"{EMULATORS[target]}-static") or shutil.which(EMULATORS[target])


def describe(index: int, buffer: Buffer) -> str:
    """C declarations of a buffer's tensor `t<index>`."""
    strides = [int(np.prod(buffer.shape[axis + 1 :])) for axis in range(len(buffer.shape))]
    dtype = np.dtype(buffer.dtype)
    code = {"i": 0, "u": 1, "f": 2}[dtype.kind]
    base = "constants" if buffer.constant else f"s{buffer.storage}"
    fields = f"1, 0, {len(buffer.shape)}, {code}, {dtype.itemsize * 8}, 1, shape{index}, strides{index}, 0"
    return (
        f"int64_t shape{index}[] = {{{', '.join(map(str, buffer.shape))}}};\n"
        f"int64_t strides{index}[] = {{{', '.join(map(str, strides))}}};\n"
        f"Tensor t{index} = {{{base} + {buffer.offset}, {fields}}};\n"
    )


def program(code: CpuCode) -> str:
    """A C program that reads `constants` and each input from files, runs the fragment and writes each output."""
    fragment = code.fragments[0]
    kernels = {step.kernel for step in fragment.steps}
    lines = [
        PRELUDE,
        *(f"int __tvm_ffi_{name}(void *, const Any *, int32_t, Any *);\n" for name in sorted(kernels)),
        "int main(void) {\n",
        f"if (edge_kernels_use_threads({THREADS}) != {THREADS}) return 5;\n",
        f"char *constants = memory({len(code.constants)});\n",
        f'transfer("constants", "rb", constants, {len(code.constants)});\n',
    ]
    lines += [f"char *s{index} = memory({nbytes});\n" for index, nbytes in enumerate(fragment.storages)]
    lines += [describe(index, buffer) for index, buffer in enumerate(fragment.buffers)]
    for name, index in fragment.inputs.items():
        lines.append(f'transfer("{name}", "rb", t{index}.data, {fragment.buffers[index].nbytes});\n')
    for step in fragment.steps:
        values = ", ".join(f"{{7, 0, {{&t{argument}}}}}" for argument in step.arguments)
        lines.append(
            f"{{ Any arguments[] = {{{values}}}, result; "
            f"if (__tvm_ffi_{step.kernel}(0, arguments, {len(step.arguments)}, &result)) "
            "{ puts(edge_kernels_last_error()); return 2; } }\n"
        )
    for name, index in fragment.outputs.items():
        lines.append(f'transfer("{name}", "wb", t{index}.data, {fragment.buffers[index].nbytes});\n')
    return "".join([*lines, "return 0; }\n"])


def emulate(
    model: Model, inputs: Mapping[str, np.ndarray], target: CpuTarget, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, np.ndarray]:
    objects: list[bytes] = []

    def keep_objects(given: list[bytes], target: CpuTarget) -> bytes:
        objects.extend(given)
        return link.link_library(given, target)

    monkeypatch.setattr(compiler, "link_library", keep_objects)
    code = compile_segments([model], target)
    files = {
        "kernels.o": objects[0],
        "constants": code.constants,
        "main.c": program(code).encode(),
        **{name: array.tobytes() for name, array in inputs.items()},
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    sources = [os.fspath(folder / name) for name in ("main.c", "kernels.o")]
    link._zig(
        "cc",
        "-O1",
        "-static",
        "-target",
        MUSL[target.name],
        "-o",
        os.fspath(folder / "main"),
        *sources,
        os.fspath(link.SHIM),
    )
    command = [emulator(target.name) or "", *PROCESSOR[target.name], os.fspath(folder / "main")]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=250, check=False)
    assert result.returncode == 0, f"{result.returncode}: {result.stdout}{result.stderr}"
    results = {}
    for name, index in code.fragments[0].outputs.items():
        buffer = code.fragments[0].buffers[index]
        results[name] = np.frombuffer((folder / name).read_bytes(), buffer.dtype).reshape(buffer.shape)
    return results


@pytest.mark.slow
@pytest.mark.parametrize("target", EMULATORS)
@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_kernels_compute_the_same_on_arm(
    model: Model, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if emulator(target) is None:
        pytest.skip(f"{EMULATORS[target]} is not installed (Debian: qemu-user-static)")
    random = np.random.default_rng(11)
    inputs = {
        name: random.normal(0, 2, t.shape).astype(np.float32)
        if t.dtype == "float32"
        else random.integers(-128, 128, t.shape).astype(t.dtype)
        for name, t in model.inputs.items()
    }
    expected, actual = interpret(model, inputs), emulate(model, inputs, TARGETS[target], tmp_path, monkeypatch)
    for name, array in expected.items():
        if array.dtype == np.int8 or model.name == "back":
            np.testing.assert_array_equal(actual[name], array)
        else:
            np.testing.assert_allclose(actual[name], array, rtol=1e-4, atol=1e-4)
