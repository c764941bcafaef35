"""ONNX files as Models. Needs the onnx package, which reads and checks them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgectl.errors import ModelError
from edgectl.frontends.graph_builder import GraphBuilder, Shapes
from edgectl.frontends.onnx_operators import CONVERTERS, FLOAT_TYPES, OnnxLayer
from edgectl.frontends.padding import with_absorbed_padding
from edgectl.frontends.problems import refuse, unsupported_operators
from edgectl.frontends.source_layer import DAMAGE, Constant, Value
from edgectl.graph import Model

OLDEST = 7
"""The oldest version of ONNX's operators that is read: before it, broadcasting was written otherwise."""
MOVES = frozenset({"Identity", "Cast", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten"})
"""Operators whose result, of a stored array, keeps the array's name."""
QUANTIZED = ("QuantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger")


def import_onnx() -> Any:
    """The onnx package. Raises ModelError that says what to install."""
    try:
        import onnx
        import onnx.external_data_helper
        import onnx.inliner
        import onnx.reference
    except (ImportError, OSError) as error:
        raise ModelError(
            f"ONNX files need the onnx package, which cannot be imported here ({error}); install it with "
            "`pip install 'edgectl[onnx]'`"
        ) from error
    return onnx


def from_onnx_file(path: str | os.PathLike[str], input_shapes: Shapes | None = None) -> Model:
    """The model of an `.onnx` file, with its external data if it has such.

    `input_shapes` gives dimensions that the file leaves open; an open batch is 1. Raises ModelError where the file is
    missing or damaged, operators are not supported, or shapes do not fit.
    """
    onnx, where = import_onnx(), os.fspath(path)
    try:
        # An error of the system, not of the parser, for a file that is not there.
        with open(where, "rb"):
            pass
        proto = onnx.load(where)
        if proto.functions:
            proto = onnx.inliner.inline_local_functions(proto)
    except OSError as error:
        raise ModelError(f"cannot read {error.filename or where}: {error.strerror or error}") from error
    # The parser and the reader of external data raise classes of their own.
    except Exception as error:
        raise _damaged(where, error) from error
    try:
        return from_proto(onnx, proto, input_shapes, Path(where).stem, where)
    except DAMAGE as error:
        raise _damaged(where, error) from error


def from_proto(onnx: Any, proto: Any, input_shapes: Shapes | None, name: str, where: str) -> Model:
    """The model of a parsed file. Raises ModelError that lists every layer that is not supported."""
    opset = _opset(onnx, proto, where)
    graph = proto.graph
    nodes = _needed(graph)
    unknown: dict[str, list[str]] = {}
    constant = {array.name for array in graph.initializer} | {""}
    for node in nodes:
        if node.op_type in ("Shape", "Size") or (_may_fold(onnx, node) and constant.issuperset(node.input)):
            constant.update(node.output)
        elif _kind(node) not in CONVERTERS:
            unknown.setdefault(_kind(node), []).append(_label(node))
    problems = unsupported_operators(unknown)
    if any(kind in unknown for kind in QUANTIZED):
        problems.append(
            "it is quantized already: give the network in floating point, which edgectl quantizes by itself"
        )
    if not problems:
        _check(onnx, proto, where)
    try:
        stored = {array.name: _array(onnx, array) for array in graph.initializer}
    except Exception as error:
        raise _damaged(where, error) from error
    floats = {key: array for key, array in stored.items() if array.dtype.kind == "f"}
    builder = GraphBuilder(name, floats, input_shapes or {})
    values: dict[str, Value] = {key: Constant(key, array) for key, array in stored.items()}
    read = {key for node in nodes for key in node.input}
    for value in graph.input:
        if value.name not in stored and value.name in read:
            values[value.name] = _input(builder, value, input_shapes)
    outputs = [output.name for output in graph.output]
    failed: set[str] = set()
    for node in nodes:
        kind = _kind(node)
        # A layer behind a failed one cannot be judged; its own operator was looked up above.
        if kind in unknown or not failed.isdisjoint(node.input):
            failed.update(node.output)
            continue
        try:
            values.update(_results(onnx, node, builder, values, opset))
        except ModelError as error:
            failed.update(node.output)
            problems.append(str(error))
    refuse(where, problems)
    computed = []
    for output in outputs:
        found = values.get(output)
        if not isinstance(found, str) or found in {value.name for value in graph.input}:
            raise ModelError(f"{where}: output '{output}' is nothing that its layers compute from the inputs")
        computed.append(found)
    return _with_outputs(with_absorbed_padding(builder.model(tuple(computed))), outputs)


def _with_outputs(model: Model, names: Sequence[str]) -> Model:
    """`model` whose results have those names; layers keep theirs. A value that has such a name gets the result's."""
    fixed, renamed = {*model.inputs, *model.parameters, *model.outputs}, dict[str, str]()
    for value, name in zip(model.outputs, names, strict=True):
        if name not in fixed and value not in renamed:
            renamed.update({value: name, name: value})

    def current(values: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(renamed.get(value, value) for value in values)

    nodes = (replace(node, name=current((node.name,))[0], inputs=current(node.inputs)) for node in model.nodes)
    return replace(model, nodes=tuple(nodes), outputs=current(model.outputs))


def _results(onnx: Any, node: Any, builder: GraphBuilder, values: Mapping[str, Value], opset: int) -> dict[str, Value]:
    """What a node makes, by name."""
    for key in node.input:
        if key and key not in values:
            raise ModelError(f"layer '{_label(node)}' reads '{key}', which inference does not compute")
    operands = [values[key] if key else None for key in node.input]
    constants = [operand for operand in operands if isinstance(operand, Constant)]
    if len(constants) == sum(operand is not None for operand in operands) and _may_fold(onnx, node):
        return _folded(onnx, node, constants, opset)
    kind = _kind(node)
    attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    layer = OnnxLayer(builder, kind, _label(node), operands, attributes, opset, len(node.output))
    try:
        result = CONVERTERS[kind](layer)
    except DAMAGE as error:
        raise layer.damaged(error) from error
    if unread := layer.unread():
        raise layer.unsupported(f"attribute {', '.join(unread)} is not supported")
    return dict(zip(node.output, result if isinstance(result, list) else [result], strict=False))


def _folded(onnx: Any, node: Any, constants: Sequence[Constant], opset: int) -> dict[str, Value]:
    """What a node makes of constants alone, as ONNX's reference implementation computes it."""
    helper = onnx.helper
    given = dict(zip((key for key in node.input if key), constants, strict=True))
    try:
        inputs = [
            helper.make_tensor_value_info(key, helper.np_dtype_to_tensor_dtype(constant.array.dtype), constant.shape)
            for key, constant in given.items()
        ]
        outputs = [onnx.ValueInfoProto(name=key) for key in node.output if key]
        # The reference knows this operator in its later versions only, which compute the same.
        opset = max(opset, 19) if node.op_type == "DequantizeLinear" else opset
        graph = helper.make_graph([node], "constants", inputs, outputs)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
        evaluator = onnx.reference.ReferenceEvaluator(model)
        results = evaluator.run(None, {key: constant.array for key, constant in given.items()})
    # It is of Python, and fails as its NumPy does.
    except Exception as error:
        raise ModelError(f"operator '{_kind(node)}' of layer '{_label(node)}' cannot be computed: {error}") from error
    kept = constants[0].name if constants and node.op_type in MOVES else ""
    return {
        key: Constant(kept or key, np.asarray(result))
        for key, result in zip((key for key in node.output if key), results, strict=True)
    }


def _may_fold(onnx: Any, node: Any) -> bool:
    """Whether a node computes the same from the same: no subgraphs, nothing random."""
    graphs = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)
    if node.domain not in ("", "ai.onnx") or any(attribute.type in graphs for attribute in node.attribute):
        return False
    return not node.op_type.startswith("Random") and node.op_type not in ("Bernoulli", "Multinomial", *QUANTIZED)


def _opset(onnx: Any, proto: Any, where: str) -> int:
    versions = [entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")]
    if not proto.graph.node or not versions:
        raise ModelError(
            f"{where} is damaged or no ONNX file (it has no graph or no version of operators); export it again"
        )
    newest = onnx.defs.onnx_opset_version()
    if not OLDEST <= versions[0] <= newest:
        raise ModelError(
            f"{where} uses version {versions[0]} of ONNX's operators, supported are {OLDEST} to {newest}; export it "
            "with another opset_version"
        )
    return int(versions[0])


def _check(onnx: Any, proto: Any, where: str) -> None:
    for output in proto.graph.output:
        # Runtimes do without them, the checker does not.
        if not output.type.tensor_type.HasField("shape"):
            output.type.tensor_type.shape.SetInParent()
    try:
        onnx.checker.check_model(proto)
    except ValueError as error:
        # Protocol buffers end at 2 GiB, beyond which only files are checked.
        if proto.ByteSize() < 1 << 31:
            raise _damaged(where, error) from error
    except Exception as error:
        raise _damaged(where, error) from error


def _damaged(where: str, error: Exception) -> ModelError:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    what = lines[0] if lines else type(error).__name__
    return ModelError(f"{where} is damaged or no ONNX file ({what}); export it again")


def _needed(graph: Any) -> list[Any]:
    """The nodes that outputs depend on, in order."""
    wanted, kept = {output.name for output in graph.output}, []
    for node in reversed(graph.node):
        if not wanted.isdisjoint(node.output):
            wanted.update(key for key in node.input if key)
            kept.append(node)
    return kept[::-1]


def _kind(node: Any) -> str:
    return node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"


def _label(node: Any) -> str:
    return node.name or next((key for key in node.output if key), node.op_type)


def _array(onnx: Any, tensor: Any) -> np.ndarray:
    array = onnx.numpy_helper.to_array(tensor)
    # NumPy has no bfloat16 of its own.
    return array.astype(np.float32) if tensor.data_type in FLOAT_TYPES else array


def _input(builder: GraphBuilder, value: Any, input_shapes: Shapes | None) -> str:
    kind = value.type.tensor_type
    if kind.elem_type not in FLOAT_TYPES:
        raise ModelError(f"input '{value.name}' is no tensor of floating point; only those are supported")
    if not kind.HasField("shape"):
        given = input_shapes.get(value.name) if isinstance(input_shapes, Mapping) else input_shapes
        return builder.input_of(value.name, (None,) * len(given or (0,) * 4))
    sizes = [dimension.dim_value if dimension.HasField("dim_value") else 0 for dimension in kind.shape.dim]
    return builder.input_of(value.name, [size if size > 0 else None for size in sizes])
