"""Milliseconds of CPU kernels on this machine, beside NumPy's 1024^3 float32 product in the same run.

python benchmarks/cpu_kernels.py [TARGET ...]     # edgectl.codegen.cpu targets this machine runs; default: host
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np

from edge_agent.runtime.kernels import KernelLibrary
from edge_agent.runtime.memory import allocate_buffers
from edge_agent.runtime.plan import Plan
from edgectl.codegen.cpu import CONSTANTS_MEMBER, CpuTarget, compile_segments, cpu_target
from edgectl.graph import Model, Node
from edgectl.operators.base import Operator, TensorType
from edgectl.operators.convolution import Convolution
from edgectl.operators.dense import Dense
from edgectl.operators.integer import IntegerAffine, IntegerConvolution, IntegerDense, IntegerPoolSum
from edgectl.operators.layout import Pack, Unpack
from edgectl.operators.pooling import MaxPool
from edgectl.operators.quantization import Quantize

SECONDS_PER_KERNEL = 0.3
_RANDOM = np.random.default_rng(0)

Case = tuple[str, Operator, TensorType, tuple[TensorType, ...]]


def _convolution(name: str, channels: int, size: int, filters: int, kernel: int, stride: int) -> list[Case]:
    """A convolution in integers and in floating point."""
    geometry = {"strides": (stride, stride), "padding": (kernel // 2,) * 4}
    shape, weight = (1, channels, size, size), (filters, channels, kernel, kernel)
    integer, floating = IntegerConvolution(**geometry, shift=8), Convolution(**geometry)  # type: ignore[arg-type]
    integers = (TensorType(weight, "int8"), TensorType((filters,), "int32"))
    return [
        (f"{name} int8", integer, TensorType(shape, "int8"), integers),
        (f"{name} float", floating, TensorType(shape), (TensorType(weight), TensorType((filters,)))),
    ]


CASES: list[Case] = [
    ("quantize 3x224x224", Quantize((50.0,)), TensorType((1, 3, 224, 224)), ()),
    *_convolution("7x7/2 3-64 224", 3, 224, 64, 7, 2),
    *_convolution("3x3 3-16 32", 3, 32, 16, 3, 1),
    *_convolution("3x3 64-64 56", 64, 56, 64, 3, 1),
    *_convolution("3x3/2 64-128 56", 64, 56, 128, 3, 2),
    *_convolution("3x3 256-256 14", 256, 14, 256, 3, 1),
    *_convolution("3x3 512-512 7", 512, 7, 512, 3, 1),
    *_convolution("1x1 256-64 56", 256, 56, 64, 1, 1),
    *_convolution("1x1 512-2048 7", 512, 7, 2048, 1, 1),
    ("max-pool 3x3/2 64x112", MaxPool((3, 3), (2, 2), (1, 1, 1, 1)), TensorType((1, 64, 112, 112), "int8"), ()),
    ("pack 64x56", Pack(), TensorType((1, 64, 56, 56), "int8"), ()),
    ("unpack 512x7", Unpack(512), TensorType((1, 32, 7, 7, 1, 16), "int8"), ()),
    ("affine 256x56", IntegerAffine(7), TensorType((1, 256, 56, 56), "int8"), (TensorType((256,), "int32"),) * 2),
    ("pool sum 512x7", IntegerPoolSum(), TensorType((1, 512, 7, 7), "int8"), ()),
    (
        "dense 512-1000 int8",
        IntegerDense(),
        TensorType((1, 512), "int8"),
        (TensorType((1000, 512), "int8"), TensorType((1000,), "int32")),
    ),
    (
        "dense 2048-1000 int8",
        IntegerDense(),
        TensorType((1, 2048), "int8"),
        (TensorType((1000, 2048), "int8"), TensorType((1000,), "int32")),
    ),
    ("dense 2048-1000 float", Dense(), TensorType((1, 2048)), (TensorType((1000, 2048)), TensorType((1000,)))),
]


def _random(declared: TensorType) -> np.ndarray:
    if declared.dtype == "float32":
        return _RANDOM.normal(0, 1, declared.shape).astype(np.float32)
    return _RANDOM.integers(-127, 128, declared.shape).astype(declared.dtype)


def milliseconds(call: Callable[[], object]) -> float:
    """The fastest of repeated calls."""
    best, end = float("inf"), time.perf_counter() + SECONDS_PER_KERNEL
    while time.perf_counter() < end:
        begin = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - begin)
    return best * 1e3


def _multiplications(operator: Operator, x: TensorType, parameters: tuple[TensorType, ...]) -> int:
    if not isinstance(operator, Convolution | IntegerConvolution | Dense | IntegerDense):
        return 0
    positions = operator.infer(x, *parameters).shape[2:]
    return int(np.prod(parameters[0].shape)) * int(np.prod(positions, dtype=np.int64))


def measure(target: CpuTarget) -> None:
    """Print a line per kernel of `CASES`."""
    models = []
    for name, operator, x, parameters in CASES:
        arrays = {f"p{i}": _random(declared) for i, declared in enumerate(parameters)}
        models.append(Model(name, {"x": x}, (Node("y", operator, ("x", *arrays)),), arrays, ("y",)))
    begin = time.perf_counter()
    code = compile_segments(models, target)
    print(f"{target.name}: {len(CASES)} kernels compiled and linked in {time.perf_counter() - begin:.2f} s")
    library = KernelLibrary(code.library)
    for (name, operator, x, parameters), fragment in zip(CASES, code.fragments, strict=True):
        plan = Plan(fragment.buffers, fragment.storages, fragment.steps, fragment.inputs, fragment.outputs)
        buffers = allocate_buffers(plan, {CONSTANTS_MEMBER: code.constants})
        buffers[plan.inputs["x"]][...] = _random(x)
        (step,) = plan.steps
        elapsed = milliseconds(library.bind(step.kernel, [buffers[i] for i in step.arguments]))  # type: ignore[union-attr]
        rate = _multiplications(operator, x, parameters) / elapsed / 1e6
        print(f"  {name:24} {elapsed:9.3f} ms" + (f" {rate:7.1f} GMAC/s" if rate else ""))
    library.close()


def main() -> None:
    a, b = (_RANDOM.normal(0, 1, (1024, 1024)).astype(np.float32) for _ in range(2))
    elapsed = milliseconds(lambda: a @ b)
    print(f"NumPy 1024^3 float32: {elapsed:.2f} ms {1.024**3 / elapsed * 1e3:.1f} GMAC/s")
    for name in sys.argv[1:] or ["host"]:
        measure(cpu_target(name))


if __name__ == "__main__":
    main()
