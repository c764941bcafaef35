"""Predict networks end to end on a Pynq at 100 MHz, beside what a Pynq was published to take (docs/timing.md).

    python benchmarks/pynq_prediction.py [NAME ...] [--offload all|reference] [--pixels] [--seed N] [--steps] [--json]

From a decoded image to the best classes: the image normalised, quantized and packed by the board's CPU (with --pixels
in one kernel), VTA's programs, the scores. Nothing here is measured on a board. Weights are seeded random ones: times
do not depend on them, but for how many bias blocks a convolution needs.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

import edgectl

BOARD = "pynq"
NETWORKS = ("resnet18_v1", "resnet34_v1", "resnet18_v2", "resnet34_v2", "resnet50_v2", "resnet101_v2")
PUBLISHED_MS = {"resnet18_v1": 621.79}
"""TVM 0.9's tutorial on tuning for VTA, its sample output on a Pynq."""


def predict(name: str, offload: str, seed: int, pixels: bool) -> dict[str, Any]:
    """The `predicted` of the network's manifest, and what stays on the CPU."""
    model, _ = edgectl.load(name, weights="random", seed=seed)
    build = edgectl.build(model, BOARD, offload=offload, pixels=pixels)
    return {
        "model": name,
        "offload": offload,
        "pixels": pixels,
        **build.manifest["predicted"],
        "programs": len(build.programs),
        "published_seconds": PUBLISHED_MS[name] / 1e3 if name in PUBLISHED_MS else None,
        "on_the_cpu": [f"{fallback.layer}: {fallback.reason}" for fallback in build.fallbacks],
    }


def show(rows: list[dict[str, Any]], steps: bool) -> None:
    """A Markdown table, and the steps of each network where they are wanted."""
    print("| model | VTA | CPU | calls | predicted | published | VTA cycles | programs |")
    print("|---|---|---|---|---|---|---|---|")
    for row in rows:
        parts = (row[f"{part}_seconds"] * 1e3 for part in ("vta", "cpu", "overhead", "total"))
        published = row["published_seconds"]
        print(
            f"| {row['model']} | {' | '.join(f'{part:.1f} ms' for part in parts)} "
            f"| {f'{published * 1e3:.1f} ms' if published else '-'} | {row['vta_cycles']:,} | {row['programs']} |"
        )
    for row in rows if steps else ():
        print(f"\n{row['model']}, {row['offload']}:")
        for step in row["steps"]:
            print(f"{step['seconds'] * 1e3:9.3f} ms  {step['part']:5}  {step['step']}: {step['why']}")
        for reason in row["on_the_cpu"]:
            print(f"on the CPU: {reason}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=list(NETWORKS))
    parser.add_argument("--offload", choices=("all", "reference"), default="all")
    parser.add_argument("--pixels", action="store_true", help="bundles whose input is the decoded image")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", action="store_true", help="list each network's steps")
    parser.add_argument("--json", action="store_true", help="print one document instead of tables")
    options = parser.parse_args()
    rows = [predict(name, options.offload, options.seed, options.pixels) for name in options.names]
    if options.json:
        print(json.dumps(rows, indent=1))
    else:
        show(rows, options.steps)
    return 0


if __name__ == "__main__":
    sys.exit(main())
