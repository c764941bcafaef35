"""Compile ResNets for the simulated board, check them to the bit, and compare their counters with the reference's.

    python benchmarks/resnets.py [NAME ...] [--seed N] [--runs N] [--json]

Weights are seeded random ones. The self-test of each bundle compares every integer tensor that leaves a VTA program
with the integer interpreter's, by SHA-256. A matrix product in NumPy is timed in the same run, so that times from
different machines can be compared.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from dataclasses import asdict, dataclass

import numpy as np
from threadpoolctl import threadpool_limits

import edgectl
from edge_agent.boards import profile
from edge_agent.bundle import read_bundle
from edge_agent.devices import open_accelerator
from edge_agent.runtime.executor import Runtime
from edgectl.boards.board import model_inputs
from edgectl.images import DEFAULT_IMAGE
from edgectl.stages import Stages

BOARD = "sim"
MATRIX = 1024
COUNTERS = (
    "inp_load_nbytes",
    "wgt_load_nbytes",
    "acc_load_nbytes",
    "uop_load_nbytes",
    "out_store_nbytes",
    "gemm_counter",
    "alu_counter",
)
# TVM 0.11.1 with VTA's functional simulator and its published tuned schedules, batch 1, 224x224, first convolution and
# classifier on the CPU.
REFERENCE = {
    "resnet18_v1": (5_549_568, 12_763_136, 6_051_840, 22_864, 2_433_536, 6_623_232, 699_328),
    "resnet34_v1": (9_950_720, 23_896_064, 11_089_408, 44_800, 4_315_136, 13_848_576, 1_248_128),
    "resnet18_v2": (5_549_568, 12_763_136, 3_224_064, 22_796, 2_082_304, 6_623_232, 586_432),
    "resnet34_v2": (9_950_720, 23_896_064, 8_251_648, 44_700, 3_963_904, 13_848_576, 1_096_032),
    "resnet50_v2": (41_081_856, 32_555_008, 32_979_968, 43_124, 14_425_600, 15_504_384, 3_747_520),
    "resnet101_v2": (71_789_568, 51_494_912, 60_310_528, 89_296, 22_955_520, 30_005_248, 5_880_000),
}


@dataclass(frozen=True)
class Row:
    """One network. Seconds are wall time on this machine, medians where there are several runs; cycles are the
    board's, predicted; `integers` counts the tensors that were compared to the bit."""

    model: str
    compile_seconds: float
    self_test_seconds: float
    inference_seconds: float
    vta_seconds: float
    predicted_cycles: int
    integers: int
    fallbacks: int
    counters: dict[str, int]
    ratios: dict[str, float]


def measure(name: str, seed: int, runs: int) -> Row:
    """Build `name`, test it against the interpreter, and time its inference. Raises VerificationError on any bit."""
    model, _ = edgectl.load(name, weights="random", seed=seed)
    stages = Stages()
    build = edgectl.build(model, BOARD, stages=stages)
    board = profile(BOARD)
    loaded = Runtime(open_accelerator(board.accelerator, board)).load(read_bundle(build.data))
    try:
        begin = time.perf_counter()
        loaded.self_test()
        self_test = time.perf_counter() - begin
        inputs = model_inputs(build.manifest, DEFAULT_IMAGE)
        # One BLAS thread, as in the simulated board's process: its matrices are small.
        with threadpool_limits(1, "blas"):
            inferences = [loaded.infer(inputs) for _ in range(runs)]
    finally:
        loaded.close()
    counters = inferences[0].counters.as_dict()
    return Row(
        model=name,
        compile_seconds=sum(stages.seconds.values()),
        self_test_seconds=self_test,
        inference_seconds=statistics.median(inference.seconds for inference in inferences),
        vta_seconds=statistics.median(inference.vta_seconds for inference in inferences),
        predicted_cycles=build.manifest["predicted"]["vta_cycles"],
        integers=len(build.manifest["golden"]["integers"]),
        fallbacks=len(build.fallbacks),
        counters=counters,
        ratios={
            key: counters[key] / reference for key, reference in zip(COUNTERS, REFERENCE.get(name, ()), strict=False)
        },
    )


def matrix_seconds(runs: int = 5) -> float:
    """Median time of a float32 product of two square matrices of `MATRIX` rows."""
    generator = np.random.default_rng(0)
    a, b = (generator.standard_normal((MATRIX, MATRIX)).astype(np.float32) for _ in range(2))
    seconds = []
    for _ in range(runs):
        begin = time.perf_counter()
        a @ b
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds)


def show(rows: list[Row], matrix: float) -> None:
    """Markdown tables."""
    print(f"\n{machine()}; {MATRIX}x{MATRIX} float32 product in NumPy: {matrix * 1e3:.1f} ms\n")
    print(
        "| model | compile | simulated inference | of it VTA | VTA / product | predicted cycles | bit-equal tensors |"
    )
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row.model} | {row.compile_seconds:.1f} s | {row.inference_seconds:.2f} s | {row.vta_seconds:.2f} s "
            f"| {row.vta_seconds / matrix:.1f} | {row.predicted_cycles:,} | {row.integers} of {row.integers} |"
        )
    print("\n| counter | " + " | ".join(row.model for row in rows) + " |")
    print("|---|" + "---|" * len(rows))
    for key in COUNTERS:
        cells = [f"{row.counters[key]:,}" + (f" ({row.ratios[key]:.2f})" if key in row.ratios else "") for row in rows]
        print(f"| {key} | " + " | ".join(cells) + " |")
    print("\nIn parentheses: ratio to the reference. Below 1 is better.")


def machine() -> str:
    """This machine, in words."""
    return f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, NumPy {np.__version__}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("models", nargs="*", metavar="NAME", help=f"zoo names (default: {' '.join(REFERENCE)})")
    parser.add_argument("--seed", type=int, default=0, help="seed of the weights (default: 0)")
    parser.add_argument("--runs", type=int, default=5, help="inferences to time (default: 5)")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    matrix = matrix_seconds()
    rows = []
    for name in options.models or REFERENCE:
        print(f"{name} ...", file=sys.stderr)
        rows.append(measure(name, options.seed, options.runs))
    if options.json:
        print(json.dumps({"machine": machine(), "matrix_seconds": matrix, "rows": [asdict(row) for row in rows]}))
        return
    show(rows, matrix)


if __name__ == "__main__":
    main()
