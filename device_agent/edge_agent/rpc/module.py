"""A bundle that a stock client loaded as a module, and the functions it can get from it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from edge_agent.errors import InputError
from edge_agent.rpc.codec import Tensor
from edge_agent.rpc.functions import collect, exported
from edge_agent.service import Model, TensorSpec

if TYPE_CHECKING:
    from edge_agent.rpc.session import Session


class BundleModule:
    """A loaded bundle of one session; released with its handle or with the session."""

    def __init__(self, session: Session, model: Model) -> None:
        self._session = session
        self._model = model
        self._inputs: dict[str, np.ndarray] = {}
        self._outputs: dict[str, np.ndarray] = {}
        self._last = {"seconds": 0.0, "vta_seconds": 0.0, "counters": {}}

    def release(self) -> None:
        self._session.endpoint.service.unload(self._model)

    def _infer(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        self._session.need_board()
        inference = self._session.endpoint.service.infer_with(self._model, inputs, self._session.seconds_left())
        self._last = {
            "seconds": inference.seconds,
            "vta_seconds": inference.vta_seconds,
            "counters": inference.counters.as_dict(),
        }
        self._outputs = dict(inference.outputs)
        return self._outputs

    @exported(
        "main",
        "Infer. Takes the inputs in the bundle's order; output tensors may follow them, which are then "
        "written, else a model with one output returns it as a new tensor.",
    )
    def main(self, *tensors: Tensor) -> Tensor | None:
        count, specs = len(self._model.inputs), self._model.outputs
        if len(tensors) not in (count, count + len(specs)):
            raise InputError(
                f"main takes {count} input tensors, or {count} and {len(specs)} output tensors, not {len(tensors)}"
            )
        arrays = [self._session.memory.array(tensor) for tensor in tensors]
        targets = arrays[count:]
        if not targets and len(specs) != 1:
            raise InputError(
                f"this model has {len(specs)} outputs: pass tensors for them, or use set_input, run, get_output"
            )
        for spec, target in zip(specs, targets, strict=False):
            _check(spec, target)
        outputs = self._infer({spec.name: array for spec, array in zip(self._model.inputs, arrays, strict=False)})
        if not targets:
            return self._session.keep_array(outputs[specs[0].name])
        for spec, target in zip(specs, targets, strict=True):
            target[...] = outputs[spec.name]
        return None

    @exported("set_input", "Set an input, by name or position, for the next `run`.")
    def set_input(self, key: str | int, tensor: Tensor) -> None:
        spec = _pick(self._model.inputs, key, "input")
        array = self._session.memory.array(tensor)
        _check(spec, array)
        self._inputs[spec.name] = array.copy()

    @exported("run", "Infer with the inputs that `set_input` set.")
    def run(self) -> None:
        self._infer(self._inputs)

    @exported(
        "get_output", "An output of the last inference, by name or position; written to a tensor where one is given."
    )
    def get_output(self, key: str | int, target: Tensor | None = None) -> Tensor | None:
        spec = _pick(self._model.outputs, key, "output")
        if spec.name not in self._outputs:
            raise InputError("there is no output yet; run the module first")
        if target is None:
            return self._session.keep_array(self._outputs[spec.name])
        array = self._session.memory.array(target)
        _check(spec, array)
        array[...] = self._outputs[spec.name]
        return None

    @exported("get_num_inputs", "How many inputs the model has.")
    def get_num_inputs(self) -> int:
        return len(self._model.inputs)

    @exported("get_num_outputs", "How many outputs the model has.")
    def get_num_outputs(self) -> int:
        return len(self._model.outputs)

    @exported("get_counters", "The last inference as JSON: `seconds`, `vta_seconds` and the seven VTA `counters`.")
    def get_counters(self) -> str:
        return json.dumps(self._last)

    @exported("describe", "The model as JSON: `model`, `digest`, `bytes`, `batch`, `inputs` and `outputs`.")
    def describe(self) -> str:
        return json.dumps(self._model.as_dict())

    @exported("self_test", "Compute the bundle's golden sample and compare; an exception tells what differs.")
    def self_test(self) -> None:
        self._session.need_board()
        self._session.endpoint.service.self_test(self._model)


def _pick(specs: tuple[TensorSpec, ...], key: str | int, what: str) -> TensorSpec:
    names = [spec.name for spec in specs]
    if isinstance(key, str) and key in names:
        return specs[names.index(key)]
    if isinstance(key, int) and 0 <= key < len(specs):
        return specs[key]
    raise InputError(f"there is no {what} {key!r}; the model has {names}")


def _check(spec: TensorSpec, array: np.ndarray) -> None:
    if array.shape != spec.shape or array.dtype.name != spec.dtype:
        raise InputError(
            f"the tensor for '{spec.name}' is {array.dtype.name}{list(array.shape)}, "
            f"it must be {spec.dtype}{list(spec.shape)}"
        )


MODULE_FUNCTIONS = collect(vars(BundleModule))
