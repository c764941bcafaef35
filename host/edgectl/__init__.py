"""Put neural networks on FPGA boards that carry the VTA accelerator, and keep them measured.

    model, weights = edgectl.load("resnet18_v1")
    bundle = edgectl.build(model, "sim")
    with edgectl.Board("sim") as board:
        board.deploy(bundle)
        print(board.run("cat.jpg").top)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgectl.boards.board import Board as Board
    from edgectl.build import Build as Build
    from edgectl.build import build as build
    from edgectl.build import build_integer as build_integer
    from edgectl.deploy import deploy as deploy
    from edgectl.evaluate import evaluate_source as evaluate
    from edgectl.graph import Model as Model
    from edgectl.loading import load as load
    from edgectl.quantize.quantizer import quantize as quantize
    from edgectl.sources import Source as Source

# Resolved at first use: importing TVM takes longer than `edgectl --help` may.
_PLACES = {
    "Board": ("edgectl.boards.board", "Board"),
    "Build": ("edgectl.build", "Build"),
    "Model": ("edgectl.graph", "Model"),
    "Source": ("edgectl.sources", "Source"),
    "build": ("edgectl.build", "build"),
    "build_integer": ("edgectl.build", "build_integer"),
    "deploy": ("edgectl.deploy", "deploy"),
    "evaluate": ("edgectl.evaluate", "evaluate_source"),
    "load": ("edgectl.loading", "load"),
    "quantize": ("edgectl.quantize.quantizer", "quantize"),
}
__all__ = sorted(_PLACES)


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'edgectl' has no attribute '{name}'")
    module, attribute = _PLACES[name]
    return getattr(importlib.import_module(module), attribute)
