"""Compile every network of the zoo, check it to the bit on the simulated board, and print the table of docs/zoo.md.

    python benchmarks/zoo.py [NAME ...] [--images N] [--resume FILE.json] > docs/zoo.md

Weights are seeded random ones, but for networks that ship trained. Agreement (same best class in float and int8) and
cosine are over synthetic images that calibration has not seen; of random weights they say how well numbers survive,
not what a trained network keeps. Rows are appended to the --resume file as they come, and taken from it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

import edgectl
from edge_agent.boards import profile
from edge_agent.bundle import read_bundle
from edge_agent.devices import open_accelerator
from edge_agent.runtime.executor import Runtime
from edgectl.frontends import zoo
from edgectl.interpreter import interpret
from edgectl.quantization.calibration import synthetic_images

BOARD = "pynq"
UNSEEN = 1000
"""Seed of the images that agreement is measured on; calibration has another."""
COLUMNS = (
    "model",
    "layers on VTA",
    "on the CPU",
    "VTA cycles",
    "bytes",
    "Pynq, predicted",
    "agreement",
    "cosine",
    "run on",
)

HEAD = """# The zoo

Every vision network of Gluon's zoo, and the network that ships, by `python benchmarks/zoo.py > docs/zoo.md`:
quantized without data, compiled, and run on the simulated board, where every tensor that leaves a VTA program
equalled the integer interpreter's to the bit. Cycles, bytes moved and the time of an inference are predicted for a
Pynq at 100 MHz; layers on the CPU are those that VTA does not compute there, the rest of the CPU's time being the
image's quantization. Weights are seeded random ones but where a network ships trained, so agreement (same best class
in float and int8, on synthetic images that calibration has not seen) and cosine say how well numbers survive, not
what a trained network keeps. Float results equal MXNet's within 1e-4 for each: `pytest -m "slow and mxnet"
tests/edgectl/frontends`.
"""


def measure(name: str, images: int) -> dict[str, Any]:
    """Build `name`, run its self-test, which compares what leaves programs to the bit, and count answers kept."""
    weights = "pretrained" if zoo.find(name).parameters else "random"
    model, _ = edgectl.load(name, weights=weights, seed=0)
    begin = time.perf_counter()
    build = edgectl.build(model, "sim")
    seconds = time.perf_counter() - begin
    board = profile("sim")
    loaded = Runtime(open_accelerator(board.accelerator, board)).load(read_bundle(build.data))
    loaded.self_test()
    loaded.close()
    (input_name,), (output,) = model.inputs, model.outputs
    same, cosines = 0, []
    for seed in range(images):
        x = synthetic_images(model.preprocessing, model.inputs[input_name].shape, 1, UNSEEN + seed)
        expected, found = (interpret(form, {input_name: x})[output].ravel() for form in (model, build.integer_model))
        same += int(expected.argmax() == found.argmax())
        cosines.append(float(expected @ found / (np.linalg.norm(expected) * np.linalg.norm(found))))
    predicted = edgectl.build_integer(build.integer_model, BOARD).manifest
    return {
        "model": name,
        "weights": weights,
        "vta": len(predicted["layers"]["vta"]),
        "cpu": len(predicted["layers"]["cpu"]),
        "cycles": predicted["predicted"]["vta_cycles"],
        "bytes": sum(value for key, value in predicted["counters"].items() if key.endswith("nbytes")),
        "total_seconds": predicted["predicted"]["total_seconds"],
        "agreement": same / images,
        "images": images,
        "cosine": float(np.mean(cosines)),
        "build_seconds": seconds,
        "date": date.today().isoformat(),
    }


def line(row: dict[str, Any]) -> str:
    """A row of the table."""
    trained = "" if row["weights"] == "random" else " (trained)"
    cells = (
        row["model"] + trained,
        row["vta"],
        row["cpu"],
        f"{row['cycles']:,}",
        f"{row['bytes'] / 1e6:.1f} MB",
        f"{row['total_seconds'] * 1e3:.0f} ms",
        f"{row['agreement']:.0%} of {row['images']}",
        f"{row['cosine']:.4f}",
        row["date"],
    )
    return f"| {' | '.join(map(str, cells))} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("models", nargs="*", metavar="NAME", help="zoo names (default: all)")
    parser.add_argument("--images", type=int, default=8, help="synthetic images to compare answers on (default: 8)")
    parser.add_argument("--resume", type=Path, help="a file of rows: kept, and not measured again")
    options = parser.parse_args()
    rows: dict[str, dict[str, Any]] = {}
    if options.resume and options.resume.exists():
        rows = {row["model"]: row for row in map(json.loads, options.resume.read_text().splitlines())}
    for name in options.models or zoo.names():
        if name in rows:
            continue
        print(f"{name} ...", file=sys.stderr)
        rows[name] = measure(name, options.images)
        if options.resume:
            with options.resume.open("a") as file:
                file.write(json.dumps(rows[name]) + "\n")
    print(HEAD)
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    for name in sorted(rows):
        print(line(rows[name]))
    if missing := [name for name in zoo.names() if name not in rows]:
        print(f"\nNot run since the compiler last changed: {', '.join(missing)}.")


if __name__ == "__main__":
    main()
