"""Compile ResNets, check them to the bit on the simulated board, and set them beside the reference and lower bounds.

    python benchmarks/resnets.py [NAME ...] [--seed N] [--runs N] [--json]

Weights are seeded random ones. The self-test of each bundle compares every integer tensor that leaves a VTA program
with the integer interpreter's, by SHA-256. Cycles are predicted for a Pynq at 100 MHz; lower bounds are explained in
docs/vta-compiler.md. A matrix product in NumPy is timed in the same run, so that times from different machines can be
compared.
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
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from threadpoolctl import threadpool_limits

import edgectl
from edge_agent.boards import profile
from edge_agent.bundle import read_bundle
from edge_agent.devices import open_accelerator
from edge_agent.runtime.executor import Runtime
from edgectl.boards.board import model_inputs
from edgectl.bounds import Bound
from edgectl.build_cache import BuildCache
from edgectl.building import Build
from edgectl.graph import Model
from edgectl.images import DEFAULT_IMAGE

BOARD = "sim"
PREDICTED = "pynq"
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


BYTES = [key for key in COUNTERS if key.endswith("nbytes")]
BARS = {
    "bytes, --offload reference": ("26.8 MB", "16.5 MB", "15.6 MB"),
    "ALU operations, --offload reference": ("699,328", "400,000", "330,000"),
    "predicted cycles, --offload reference": ("-", "8.0 M", "7.6 M"),
    "predicted on a Pynq, photograph to top 5": ("621.79 ms", "110 ms", "95 ms"),
    "predicted on a Pynq, --pixels": ("621.79 ms", "110 ms", "95 ms"),
    "simulated inference, VTA part": ("0.39 s", "0.15 s", "0.10 s"),
    "compile": ("19.5 s", "10 s", "6 s"),
    "compile again, unchanged": ("-", "1 s", ""),
}
"""Of resnet18_v1: the reference (the predicted time: what TVM published for a Pynq), what must be reached, the goal."""


@dataclass(frozen=True)
class Row:
    """One network under one partition. Seconds are wall time on this machine, medians where there are several runs;
    cycles are a Pynq's, predicted, as are `predicted_seconds` and, of a bundle that takes pixels, `pixels_seconds`;
    `integers` counts the tensors that were compared to the bit; `ratios` are counters to the reference's, `bounds` what
    was reached to the network's lower bound."""

    model: str
    offload: str
    compile_seconds: float
    compile_again_seconds: float
    self_test_seconds: float
    inference_seconds: float
    vta_seconds: float
    predicted_cycles: int
    predicted_seconds: float
    pixels_seconds: float
    integers: int
    fallbacks: int
    counters: dict[str, int]
    ratios: dict[str, float]
    bounds: dict[str, float]

    @property
    def nbytes(self) -> int:
        return sum(self.counters[key] for key in BYTES)


def timed(model: Model, board: str, offload: str, cache: BuildCache | None) -> tuple[Build, float]:
    """A build and its seconds."""
    begin = time.perf_counter()
    build = edgectl.build(model, board, offload=offload, cache=cache)
    return build, time.perf_counter() - begin


def measure(name: str, offload: str, seed: int, runs: int) -> Row:
    """Build `name`, test it against the interpreter, and time its inference. Raises VerificationError on any bit."""
    model, _ = edgectl.load(name, weights="random", seed=seed)
    with TemporaryDirectory() as folder:
        cache = BuildCache(Path(folder))
        build, compile_seconds = timed(model, BOARD, offload, cache)
        again_seconds = timed(model, BOARD, offload, cache)[1]
    predicted = timed(model, PREDICTED, offload, None)[0].manifest
    of_pixels = edgectl.build(model, PREDICTED, offload=offload, pixels=True).manifest
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
    bound = Bound.from_dict(predicted["bounds"]["network"])
    cycles = predicted["predicted"]["vta_cycles"]
    return Row(
        model=name,
        offload=offload,
        compile_seconds=compile_seconds,
        compile_again_seconds=again_seconds,
        self_test_seconds=self_test,
        inference_seconds=statistics.median(inference.seconds for inference in inferences),
        vta_seconds=statistics.median(inference.vta_seconds for inference in inferences),
        predicted_cycles=cycles,
        predicted_seconds=predicted["predicted"]["total_seconds"],
        pixels_seconds=of_pixels["predicted"]["total_seconds"],
        integers=len(build.manifest["golden"]["integers"]),
        fallbacks=len(build.fallbacks),
        counters=counters,
        ratios={
            key: counters[key] / reference for key, reference in zip(COUNTERS, REFERENCE.get(name, ()), strict=False)
        },
        bounds={
            "bytes": sum(counters[key] for key in BYTES) / bound.nbytes,
            "ALU operations": counters["alu_counter"] / bound.alu,
            "cycles": cycles / bound.cycles(profile(PREDICTED).bus_bytes),
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
    pairs = {row.model: [other for other in rows if other.model == row.model] for row in rows}
    if "resnet18_v1" in pairs:
        show_bars(*pairs["resnet18_v1"])
    print("\n| --offload all | bytes / bound | ALU / bound | cycles / bound | cycles | predicted on a Pynq |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        if row.offload == "all":
            bounds = " | ".join(f"{value:.2f}" for value in row.bounds.values())
            print(f"| {row.model} | {bounds} | {row.predicted_cycles:,} | {row.predicted_seconds * 1e3:.0f} ms |")
    print("\n| | compile | again | simulated inference | of it VTA | VTA / product | bit-equal tensors |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        if row.offload == "all":
            print(
                f"| {row.model} | {row.compile_seconds:.1f} s | {row.compile_again_seconds:.2f} s "
                f"| {row.inference_seconds:.3f} s | {row.vta_seconds:.3f} s | {row.vta_seconds / matrix:.1f} "
                f"| {row.integers} of {row.integers} |"
            )
    reference = [row for row in rows if row.offload == "reference"]
    print("\n| --offload reference | " + " | ".join(row.model for row in reference) + " |")
    print("|---|" + "---|" * len(reference))
    for key in COUNTERS:
        cells = [
            f"{row.counters[key]:,}" + (f" ({row.ratios[key]:.2f})" if key in row.ratios else "") for row in reference
        ]
        print(f"| {key} | " + " | ".join(cells) + " |")
    print("\nIn parentheses: ratio to the reference. Below 1 is better.")


def show_bars(whole: Row, reference: Row) -> None:
    """What was reached for resnet18_v1, beside the bars."""
    reached = (
        f"{reference.nbytes / 1e6:.2f} MB",
        f"{reference.counters['alu_counter']:,}",
        f"{reference.predicted_cycles / 1e6:.2f} M",
        f"{whole.predicted_seconds * 1e3:.1f} ms",
        f"{whole.pixels_seconds * 1e3:.1f} ms",
        f"{whole.vta_seconds:.3f} s",
        f"{whole.compile_seconds:.1f} s",
        f"{whole.compile_again_seconds:.2f} s",
    )
    print("| resnet18_v1 | reference | bar | goal | edgectl |")
    print("|---|---|---|---|---|")
    for (name, bars), value in zip(BARS.items(), reached, strict=True):
        print(f"| {name} | {' | '.join(bars)} | {value} |")


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
        rows += [measure(name, offload, options.seed, options.runs) for offload in ("all", "reference")]
    if options.json:
        print(json.dumps({"machine": machine(), "matrix_seconds": matrix, "rows": [asdict(row) for row in rows]}))
        return
    show(rows, matrix)


if __name__ == "__main__":
    main()
