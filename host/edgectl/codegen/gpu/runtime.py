"""Runs a bundle for GPUs: the plan's storages and constants in the GPU's memory, a launch for each step."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_agent.bundle import Bundle
from edge_agent.runtime.executor import Inference, check_inputs
from edge_agent.runtime.plan import KernelStep, Plan
from edge_agent.vta.counters import Counters
from edgectl.codegen.gpu.driver import Gpu
from edgectl.errors import IncompatibleError

CODE_MEMBER = "kernels.fatbin"


@dataclass(frozen=True)
class _Launch:
    function: ctypes.c_void_p
    blocks: int
    threads: int
    addresses: tuple[int, ...]


class GpuModel:
    """A bundle on the GPU, ready to run. Not thread-safe: its owner serialises calls."""

    def __init__(self, bundle: Bundle, gpu: Gpu) -> None:
        """Takes `gpu` over. Raises IncompatibleError where the bundle's code is not for it, or it lacks memory."""
        self.manifest: Mapping[str, Any] = bundle.manifest
        self._gpu, self._plan = gpu, bundle.plan
        try:
            self._addresses = _place(self._plan, bundle.members, gpu)
            self._launches = self._prepare(bundle)
        except KeyError as error:
            self.close()
            raise IncompatibleError(f"the bundle lacks {error}, which its plan needs; compile it again") from error
        except BaseException:
            self.close()
            raise

    def infer(self, inputs: Mapping[str, np.ndarray]) -> Inference:
        """Run the plan once. Raises InputError where the inputs are not the model's (name, shape, dtype)."""
        buffers = self._plan.buffers
        check_inputs(self._plan, inputs)
        self._gpu.enter()
        begin = time.perf_counter()
        for name, index in self._plan.inputs.items():
            self._gpu.write(self._addresses[index], inputs[name])
        for launch in self._launches:
            self._gpu.launch(launch.function, launch.blocks, launch.threads, launch.addresses)
        outputs = {
            name: self._gpu.read(self._addresses[index], buffers[index].shape, buffers[index].dtype)
            for name, index in self._plan.outputs.items()
        }
        return Inference(outputs, time.perf_counter() - begin, 0.0, Counters())

    def close(self) -> None:
        self._gpu.close()

    def _prepare(self, bundle: Bundle) -> list[_Launch]:
        steps = [step for step in self._plan.steps if isinstance(step, KernelStep)]
        if not steps:
            return []
        module, kernels = self._gpu.load(bundle.members[CODE_MEMBER]), bundle.manifest["gpu"]["kernels"]
        launches = []
        for step in steps:
            kernel = kernels[step.kernel]
            function = self._gpu.function(module, kernel["function"])
            addresses = tuple(self._addresses[step.arguments[index]] for index in kernel["parameters"])
            launches.append(_Launch(function, kernel["blocks"], kernel["threads"], addresses))
        return launches


def _place(plan: Plan, members: Mapping[str, bytes], gpu: Gpu) -> list[int]:
    """The address of each of the plan's buffers."""
    storages = [gpu.allocate(nbytes) for nbytes in plan.storages]
    constants: dict[str, int] = {}
    for name in sorted({buffer.constant for buffer in plan.buffers if buffer.constant}):
        constants[name] = gpu.allocate(len(members[name]))
        gpu.write(constants[name], np.frombuffer(members[name], np.uint8))
    return [(constants[b.constant] if b.constant else storages[b.storage]) + b.offset for b in plan.buffers]
