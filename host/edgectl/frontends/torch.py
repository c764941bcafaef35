"""PyTorch networks as Models: programs of torch.export from files without PyTorch, modules with it."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgectl.errors import ModelError
from edgectl.frontends.graph_builder import GraphBuilder, Shapes
from edgectl.frontends.padding import with_absorbed_padding
from edgectl.frontends.problems import refuse, unsupported_operators
from edgectl.frontends.source_layer import DAMAGE, Constant
from edgectl.frontends.torch_inplace import functional, references
from edgectl.frontends.torch_operators import CONVERTERS, TorchLayer
from edgectl.graph import Model
from edgectl.interchange.exported_program import Call, ExportedProgram, Reference, read_exported_program


def from_program_file(path: str | os.PathLike[str], input_shapes: Shapes | None = None) -> Model:
    """The model of a `.pt2` file that torch.export.save wrote; PyTorch is not needed, and no code in it runs.

    `input_shapes` gives what the program leaves open. Raises ModelError where the file is missing or damaged, an
    operator is not supported, or shapes do not fit.
    """
    return from_program(read_exported_program(path), input_shapes, Path(path).stem, os.fspath(path))


def from_program(program: ExportedProgram, input_shapes: Shapes | None, name: str, where: str) -> Model:
    """The model of a traced program. Layers have the paths of their modules, parameters the names of the state dict.

    Raises ModelError that lists every layer that is not supported.
    """
    builder = GraphBuilder(name, program.tensors, input_shapes or {})
    values: dict[str, Any] = {value: builder.input_of(value, shape) for value, shape in program.inputs.items()}
    for value, key in program.stored.items():
        if key in program.tensors:
            values[value] = Constant(key, program.tensors[key])
    calls, outputs = functional(program)
    needed = _needed(calls, outputs)
    unknown: dict[str, list[str]] = {}
    for call in needed:
        if _converter(call) is None:
            unknown.setdefault(call.target, []).append(_label(call, program))
    problems = unsupported_operators(unknown)
    failed: set[str] = set()
    for call in needed:
        convert = _converter(call)
        # A layer behind a failed one cannot be judged; its own operator was looked up above.
        if convert is None or any(name in failed for name in references(call.arguments)):
            failed.update(call.results)
            continue
        try:
            layer = TorchLayer(builder, call.target, _label(call, program), _resolved(call, values))
            try:
                result = convert(layer)
            except DAMAGE as error:
                raise layer.damaged(error) from error
            if unread := layer.unread():
                raise layer.unsupported(f"argument {', '.join(unread)} is not supported")
            results = result if isinstance(result, list) else [result]
            values.update(zip(call.results, results, strict=False))
        except ModelError as error:
            failed.update(call.results)
            problems.append(str(error))
    refuse(where, problems)
    computed = []
    for output in outputs:
        found = values.get(output)
        if not isinstance(found, str) or found in program.inputs:
            raise ModelError(f"{where}: output '{output}' is nothing that its layers compute from the inputs")
        computed.append(found)
    return with_absorbed_padding(builder.model(tuple(computed)))


def _converter(call: Call) -> Any:
    return CONVERTERS.get(call.target) or CONVERTERS.get(
        call.operator.rstrip("_") if call.target.startswith("aten.") else ""
    )


def _needed(calls: tuple[Call, ...], outputs: tuple[str, ...]) -> list[Call]:
    """The calls that outputs depend on, in order."""
    wanted, kept = set(outputs), []
    for call in reversed(calls):
        if not wanted.isdisjoint(call.results):
            wanted.update(references(call.arguments))
            kept.append(call)
    return kept[::-1]


def _label(call: Call, program: ExportedProgram) -> str:
    """The path of the module that a call is; of one among several in a module, the path and the operator's name."""
    operator = call.operator.strip("_")
    if not call.module:
        return operator
    own = {program.stored.get(name, "").rpartition(".")[0] for name in references(call.arguments)}
    alone = call.module_class.startswith("torch.nn.") or call.module in own
    return call.module if alone else f"{call.module}.{operator}"


def _resolved(call: Call, values: Mapping[str, Any]) -> dict[str, Any]:
    def resolve(argument: Any) -> Any:
        if isinstance(argument, list):
            return [resolve(item) for item in argument]
        if not isinstance(argument, Reference):
            return argument
        if values.get(argument.name) is None:
            raise ModelError(f"operator '{call.target}' reads '{argument.name}', which inference does not compute")
        return values[argument.name]

    return {name: resolve(argument) for name, argument in call.arguments.items()}


def import_torch() -> Any:
    """The torch package. Raises ModelError that says what to install."""
    try:
        import torch
    except (ImportError, OSError) as error:
        raise ModelError(
            f"a PyTorch module needs PyTorch, which cannot be imported here ({error}); install it with "
            "`pip install 'edgectl[torch]'`; .pt2 and .onnx files need no PyTorch"
        ) from error
    return torch


def is_torch(source: Any) -> bool:
    """Whether `source` is an object of PyTorch's, told without importing it."""
    return any(cls.__module__.partition(".")[0] == "torch" for cls in type(source).__mro__)


def from_module(source: Any, input_shapes: Shapes | None = None, name: str = "") -> Model:
    """The model of a torch.nn.Module, traced in evaluation mode, or of a torch.export.ExportedProgram. Needs PyTorch.

    `input_shapes` is the shape of the only input (batch first), or a table by the names of forward's arguments; a
    program knows its own. Raises ModelError where it cannot be traced or is not supported.
    """
    torch = import_torch()
    title = name or type(source).__name__
    if isinstance(source, torch.nn.Module):
        program = _exported(torch, source, input_shapes, title)
    elif isinstance(source, torch.export.ExportedProgram):
        program, title = source, name or "program"
    else:
        raise ModelError(
            f"a {type(source).__module__}.{type(source).__qualname__} is no network; give a torch.nn.Module or what "
            "torch.export.export makes of one"
        )
    file = io.BytesIO()
    try:
        torch.export.save(program, file)
    except Exception as error:
        raise ModelError(f"module '{title}' cannot be saved as a program: {_first_line(error)}") from error
    file.seek(0)
    where = f"module '{title}'"
    return from_program(read_exported_program(file, where), input_shapes, title, where)


def _exported(torch: Any, module: Any, input_shapes: Shapes | None, title: str) -> Any:
    if not input_shapes:
        raise ModelError(
            f"module '{title}' does not know its inputs; give input_shapes=(1, 3, 224, 224), on the command line "
            "--shape 3,224,224"
        )
    if isinstance(module, torch.jit.ScriptModule):
        raise ModelError(
            f"module '{title}' is TorchScript, which torch.export cannot trace; give the module it was made of"
        )
    modes = [(part, part.training) for part in module.modules()]
    dtype = next((p.dtype for p in module.parameters() if p.dtype.is_floating_point), torch.float32)
    shapes = dict(input_shapes) if isinstance(input_shapes, Mapping) else {}
    named = {key: torch.zeros(shape, dtype=dtype) for key, shape in shapes.items()}
    positional = () if named else (torch.zeros(tuple(input_shapes), dtype=dtype),)
    module.eval()
    try:
        with torch.no_grad():
            return torch.export.export(module, positional, named, strict=False)
    # Tracing runs the module's own code, which may raise anything.
    except Exception as error:
        raise ModelError(
            f"module '{title}' cannot be traced on inputs of shapes {shapes or tuple(input_shapes)}: "
            f"{_first_line(error)}; torch.export must be able to follow it, without branches on values"
        ) from error
    finally:
        for part, training in modes:
            part.training = training


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"
