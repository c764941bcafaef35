"""Bundles with real kernels and a real VTA program, in memory.

`data` float32 (1, 20, 8, 8) is quantized and packed by a kernel, convolved by TiledConvolution's program, unpacked and
scaled by kernels into `result`.
"""

from __future__ import annotations

import functools
import hashlib
import io
from typing import Any

import numpy as np

from edge_agent.boards import profile
from edge_agent.bundle import Bundle
from edge_agent.runtime.compatibility import AGENT_PROTOCOL
from edge_agent.runtime.plan import Buffer, KernelStep, Plan, ProgramStep, Step
from edge_agent.vta.program_file import write_program
from edgectl.codegen.cpu import CpuCode, compile_segments, cpu_target
from edgectl.graph import Model, Node
from edgectl.operators.base import TensorType
from edgectl.operators.layout import Pack, Unpack
from edgectl.operators.quantization import Dequantize, Quantize
from tests.edge_agent.vta.builder import TiledConvolution

CHANNELS, PACKED = 20, (1, 2, 8, 8, 1, 16)
INVERSE, SCALE = 30.0, 0.125


@functools.lru_cache(maxsize=1)
def host_code() -> CpuCode:
    """The kernels before and after the program, for this machine."""
    data, packed = TensorType((1, CHANNELS, 8, 8)), TensorType(PACKED, "int8")
    before = (Node("integers", Quantize((INVERSE,)), ("data",)), Node("x", Pack(), ("integers",)))
    after = (Node("unpacked", Unpack(CHANNELS), ("y",)), Node("result", Dequantize(SCALE), ("unpacked",)))
    first = Model("before", {"data": data}, before, {}, ("x",))
    second = Model("after", {"y": packed}, after, {}, ("result",))
    return compile_segments([first, second], cpu_target("host"))


def make_plan() -> Plan:
    """data -> x (kernel) -> y (program) -> result (kernel); x and y are observed."""
    buffers = [
        Buffer("data", (1, CHANNELS, 8, 8), "float32", 0),
        Buffer("x", PACKED, "int8", 1),
        Buffer("y", PACKED, "int8", 2),
        Buffer("result", (1, CHANNELS, 8, 8), "float32", 3),
    ]
    storages = [buffer.nbytes for buffer in buffers]
    index = {buffer.name: position for position, buffer in enumerate(buffers)}
    steps: list[Step] = []
    for position, fragment in enumerate(host_code().fragments):
        indices = []
        for buffer in fragment.buffers:
            if buffer.name not in index:
                if not buffer.constant:
                    storages.append(buffer.nbytes)
                    buffer = Buffer(buffer.name, buffer.shape, buffer.dtype, len(storages) - 1)
                buffers.append(buffer)
                indices.append(len(buffers) - 1)
            else:
                indices.append(index[buffer.name])
        steps += [KernelStep(s.kernel, tuple(indices[a] for a in s.arguments), s.layers) for s in fragment.steps]
        if position == 0:
            steps.append(ProgramStep("programs/conv.vta", {"x": index["x"]}, {"y": index["y"]}))
    return Plan(
        tuple(buffers),
        tuple(storages),
        tuple(steps),
        {"data": index["data"]},
        {"result": index["result"]},
        {"x": index["x"], "y": index["y"]},
    )


def sample_input() -> np.ndarray:
    return np.random.default_rng(7).normal(0, 1, (1, CHANNELS, 8, 8)).astype(np.float32)


def expected_values(data: np.ndarray) -> dict[str, np.ndarray]:
    """x, y and result as NumPy computes them."""
    x = Pack().evaluate(Quantize((INVERSE,)).evaluate(data))
    y = np.ascontiguousarray(TiledConvolution().expected(x))
    return {"x": x, "y": y, "result": Dequantize(SCALE).evaluate(Unpack(CHANNELS).evaluate(y))}


def make_bundle(plan: Plan | None = None, members: dict[str, bytes] | None = None, **manifest: Any) -> Bundle:
    """A good bundle, except for the given plan, members (by name) and manifest entries."""
    values, target = expected_values(sample_input()), cpu_target("host")
    complete = {
        "plan.json": (plan or make_plan()).to_json().encode(),
        "kernels.so": host_code().library,
        "constants.bin": host_code().constants,
        "programs/conv.vta": write_program(TiledConvolution().build()),
        "golden/data.npy": npy(sample_input()),
        "golden/result.npy": npy(values["result"]),
        **(members or {}),
    }
    entries = {
        "agent_protocol": AGENT_PROTOCOL,
        "model": {"name": "tiny", "weights": "random"},
        "board": "sim",
        "config": profile("sim").config,
        "features": [],
        "cpu": {"name": target.name, "machine": target.machine, "flags": list(target.flags)},
        "golden": {
            "inputs": {"data": "golden/data.npy"},
            "integers": {name: hashlib.sha256(values[name].tobytes()).hexdigest() for name in ("x", "y")},
            "outputs": {"result": {"member": "golden/result.npy", "rtol": 1e-6, "atol": 1e-6}},
        },
        **manifest,
    }
    return Bundle(entries, complete, "0" * 64, sum(map(len, complete.values())))


def npy(array: np.ndarray) -> bytes:
    target = io.BytesIO()
    np.save(target, array, allow_pickle=False)
    return target.getvalue()
