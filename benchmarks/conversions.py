"""Converts networks of Gluon's zoo to PyTorch, and what came of it back to MXNet, each with its proof: the table of
docs/conversion.md.

Run where the `mxnet` and `torch` extras are installed: python benchmarks/conversions.py [NAME...] [--json FILE]
Weights are random, the statistics of normalisations those of a forward pass. Without MXNet the second step is read
again and interpreted instead of run by MXNet; the table says what ran it.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import tempfile
from pathlib import Path

import edgectl
from edgectl.converting import Conversion
from edgectl.frontends import zoo
from edgectl.frontends.torch import import_torch

COLUMNS = (
    "model",
    "direction",
    "layers",
    "a layer alone",
    "in its place",
    "outputs",
    "framework itself",
    "top-5 equal",
    "run by",
)


def measured(conversion: Conversion, direction: str) -> dict[str, object]:
    contrast = conversion.contrast
    return {
        "model": contrast.model,
        "direction": direction,
        "layers": len(contrast.layers),
        "own_difference": contrast.max_own_difference,
        "max_difference": contrast.max_difference,
        "output_difference": contrast.output_difference,
        "framework_difference": None if contrast.framework is None else contrast.framework[1],
        "top5_equal": None if contrast.top is None else contrast.top.equal,
        "run_by": contrast.executed_by[1].split(",")[0],
    }


def there_and_back(name: str, folder: Path) -> list[dict[str, object]]:
    """Gluon -> PyTorch -> MXNet of one network."""
    stem = "".join(letter if letter.isalnum() else "_" for letter in name)
    there = edgectl.convert(name, "torch", folder / stem, weights="random")
    sys.path.insert(0, str(folder))
    try:
        module = importlib.import_module(stem)
        network = module.load(str(folder / f"{stem}.pth"))
        back = edgectl.convert(network, "mxnet", folder / f"{stem}_back")
    finally:
        sys.path.remove(str(folder))
    rows = [measured(there, "Gluon -> PyTorch"), measured(back, "PyTorch -> MXNet")]
    rows[1]["model"] = name
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=zoo.names())
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch = import_torch()
    torch.set_num_threads(1)
    rows: list[dict[str, object]] = []
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    for name in arguments.names:
        with tempfile.TemporaryDirectory() as folder:
            found = there_and_back(name, Path(folder))
        rows += found
        for row in found:
            own = "-" if row["framework_difference"] is None else f"{row['framework_difference']:.1e}"
            equal = {True: "yes", False: "no", None: "-"}[row["top5_equal"]]  # type: ignore[index]
            print(
                f"| {row['model']} | {row['direction']} | {row['layers']} | {row['own_difference']:.1e} | "
                f"{row['max_difference']:.1e} | "
                f"{row['output_difference']:.1e} | {own} | {equal} | {row['run_by']} |",
                flush=True,
            )
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
