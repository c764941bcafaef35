"""MXNet networks as Models: from checkpoints and symbols without MXNet, from HybridBlocks with it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgectl.errors import ModelError
from edgectl.frontends.graph_builder import GraphBuilder, Shapes
from edgectl.frontends.mxnet_layer import Layer
from edgectl.frontends.mxnet_operators import CONVERTERS
from edgectl.frontends.padding import with_absorbed_padding
from edgectl.frontends.parameter_names import matched_to_symbol
from edgectl.frontends.problems import refuse, unsupported_operators
from edgectl.graph import Model
from edgectl.interchange.mxnet import CheckpointPaths, read_parameters, read_symbol_text
from edgectl.interchange.symbol_file import Symbol, parse_symbol


def from_checkpoint(
    prefix_or_symbol_path: str | os.PathLike[str],
    params: str | os.PathLike[str] | None = None,
    epoch: int = 0,
    input_shapes: Shapes | None = None,
) -> Model:
    """The model of PREFIX-symbol.json and PREFIX-EPOCH.params (or of `params`, wherever it lies).

    `input_shapes` gives shapes, batch first, that the symbol does not record. Raises ModelError where a file is
    missing or damaged, an operator is not supported, or parameters do not fit.
    """
    paths = CheckpointPaths.of(prefix_or_symbol_path, epoch)
    parameters_path = Path(params) if params is not None else paths.parameters
    text = read_symbol_text(paths.symbol)
    if not parameters_path.exists():
        others = sorted(path.name for path in paths.symbol.parent.glob(f"{Path(paths.prefix).name}-[0-9]*.params"))
        hint = f"there are {', '.join(others)}: give the path of one" if others else "give the path of a .params file"
        raise ModelError(f"{parameters_path} does not exist; {hint}")
    return from_symbol(text, read_parameters(parameters_path), input_shapes, Path(paths.prefix).name, str(paths.symbol))


def from_symbol(
    symbol_json: str,
    parameters: Mapping[str, np.ndarray],
    input_shapes: Shapes | None = None,
    name: str = "model",
    where: str = "the symbol",
) -> Model:
    """The model of a symbol file's text and its arrays; `where` names the text in errors.

    Layers keep their names. Variables without an array that a layer reads as data are the model's inputs.
    Raises ModelError that lists every layer that is not supported or lacks parameters.
    """
    symbol = parse_symbol(symbol_json, where)
    builder = GraphBuilder(name, matched_to_symbol(parameters, symbol), input_shapes or {})
    values: dict[tuple[int, int], str] = {}
    needed = sorted(symbol.reachable())
    problems = _unknown_operators(symbol, needed)
    failed: set[int] = set()
    for index in needed:
        node = symbol.nodes[index]
        if node.is_variable:
            continue
        # A layer behind a failed one cannot be judged; its own operator was looked up above.
        if node.op not in CONVERTERS or any(source in failed for source, _ in node.inputs):
            failed.add(index)
            continue
        layer = Layer(node, symbol, values, builder)
        try:
            found = CONVERTERS[node.op](layer)
            for output, value in enumerate(found if isinstance(found, list) else [found]):
                values[index, output] = value
            if unread := layer.unread():
                raise layer.unsupported(f"attribute {', '.join(unread)} is not supported")
        except ModelError as error:
            failed.add(index)
            problems.append(str(error))
    refuse(where, problems)
    outputs = []
    for index, output in symbol.heads:
        if (index, output) not in values:
            name = symbol.nodes[index].name
            raise ModelError(f"{where}: output {output} of '{name}' is nothing that inference computes")
        outputs.append(values[index, output])
    return with_absorbed_padding(builder.model(tuple(outputs)))


def _unknown_operators(symbol: Symbol, needed: list[int]) -> list[str]:
    layers: dict[str, list[str]] = {}
    for index in needed:
        node = symbol.nodes[index]
        if not node.is_variable and node.op not in CONVERTERS:
            layers.setdefault(node.op, []).append(node.name)
    return unsupported_operators(layers)


def import_mxnet() -> Any:
    """The mxnet package. Raises ModelError that says what to install."""
    # MXNet 1.9.1 reads an alias that NumPy removed in 1.24.
    if "bool" not in np.__dict__:
        np.bool = bool  # type: ignore[misc,assignment]
    try:
        import mxnet
    except (ImportError, OSError, AttributeError) as error:
        raise ModelError(
            f"a HybridBlock needs MXNet, which cannot be imported here ({error}); install it with "
            "`pip install 'edgectl[mxnet]'` and, on Debian, `apt install libgomp1 libquadmath0`; "
            "checkpoints and zoo names need no MXNet"
        ) from error
    return mxnet


def from_block(hybrid_block: Any, input_shapes: Shapes, name: str = "") -> Model:
    """The model of an initialised Gluon HybridBlock. Needs MXNet.

    `input_shapes` is the shape of the only input (batch first), or a table in the order of the block's arguments.
    Deferred initialisation is finished by a forward pass over zeros. Raises ModelError.
    """
    mxnet = import_mxnet()
    shapes = dict(input_shapes) if isinstance(input_shapes, Mapping) else {"data": tuple(input_shapes)}
    if not hasattr(hybrid_block, "hybrid_forward"):
        raise ModelError(f"{type(hybrid_block).__name__} is not a HybridBlock; only those can be traced to a symbol")
    try:
        hybrid_block(*(mxnet.nd.zeros(shape) for shape in shapes.values()))
        outputs = hybrid_block(*(mxnet.sym.var(key, shape=shape) for key, shape in shapes.items()))
        arrays = {key: value.data().asnumpy() for key, value in hybrid_block.collect_params().items()}
    except (RuntimeError, ValueError, AssertionError, TypeError) as error:
        raise ModelError(
            f"{type(hybrid_block).__name__} does not run on inputs {shapes}: {error}; "
            "call initialize() or load_parameters() first and give the shape of every input"
        ) from error
    symbol = mxnet.sym.Group(list(outputs)) if isinstance(outputs, (list, tuple)) else outputs
    title = name or hybrid_block.name or type(hybrid_block).__name__.lower()
    return from_symbol(symbol.tojson(), arrays, None, title, f"block '{title}'")
