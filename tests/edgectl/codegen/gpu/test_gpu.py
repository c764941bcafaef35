"""GPU code equals the interpreter; executed by the CPU, for the machine has no GPU."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

import edgectl
from edgectl.graph import Model
from edgectl.interpreter import interpret
from edgectl.local import compile_local
from tests.edgectl.codegen.gpu.support import gpu, stand_in  # noqa: F401


def check(model: Model, gpu: ctypes.CDLL) -> None:
    generator = np.random.default_rng(0)
    inputs = {name: generator.normal(0, 1, t.shape).astype(np.float32) for name, t in model.inputs.items()}
    expected = interpret(model, inputs)
    before = gpu.stand_in_live()
    with compile_local(model, target="cuda") as local:
        assert gpu.stand_in_live() > before
        found = local.run(inputs)
    assert gpu.stand_in_live() == before
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-4, atol=1e-4 * max(1.0, float(np.abs(array).max())))


def test_resnet20(gpu: ctypes.CDLL) -> None:  # noqa: F811
    check(edgectl.load("resnet20_cifar10")[0], gpu)
