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
    from edgectl.accuracy import measure_agreement as measure_agreement
    from edgectl.boards.board import Board as Board
    from edgectl.build_cache import BuildCache as BuildCache
    from edgectl.building import Build as Build
    from edgectl.building import build as build
    from edgectl.building import build_integer as build_integer
    from edgectl.converting import convert as convert
    from edgectl.deploying import deploy as deploy
    from edgectl.evaluating import evaluate as evaluate
    from edgectl.flashing import flash as flash
    from edgectl.graph import Model as Model
    from edgectl.loading import load as load
    from edgectl.local import LocalModel as LocalModel
    from edgectl.local import compile_local as compile_local
    from edgectl.model_edits import up_to as up_to
    from edgectl.model_edits import with_softmax as with_softmax
    from edgectl.quantization.quantizer import quantize as quantize
    from edgectl.sources import Source as Source

# Resolved at first use: importing TVM takes longer than `edgectl --help` may.
_PLACES = {
    "Board": ("edgectl.boards.board", "Board"),
    "Build": ("edgectl.building", "Build"),
    "BuildCache": ("edgectl.build_cache", "BuildCache"),
    "Model": ("edgectl.graph", "Model"),
    "Source": ("edgectl.sources", "Source"),
    "LocalModel": ("edgectl.local", "LocalModel"),
    "build": ("edgectl.building", "build"),
    "build_integer": ("edgectl.building", "build_integer"),
    "convert": ("edgectl.converting", "convert"),
    "compile_local": ("edgectl.local", "compile_local"),
    "deploy": ("edgectl.deploying", "deploy"),
    "evaluate": ("edgectl.evaluating", "evaluate"),
    "flash": ("edgectl.flashing", "flash"),
    "load": ("edgectl.loading", "load"),
    "measure_agreement": ("edgectl.accuracy", "measure_agreement"),
    "quantize": ("edgectl.quantization.quantizer", "quantize"),
    "up_to": ("edgectl.model_edits", "up_to"),
    "with_softmax": ("edgectl.model_edits", "with_softmax"),
}
__all__ = sorted(_PLACES)


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'edgectl' has no attribute '{name}'")
    module, attribute = _PLACES[name]
    return getattr(importlib.import_module(module), attribute)
