"""ONNX's operators, by ONNX's own test cases: each becomes the same function or is refused."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

from edgectl.errors import ModelError
from edgectl.frontends.onnx import from_proto, import_onnx
from edgectl.frontends.onnx_operators import CONVERTERS
from edgectl.interpreter import interpret

onnx = pytest.importorskip("onnx", reason="onnx is not installed (extra `onnx`)")

# Making ONNX's cases takes a quarter of a minute, whichever are wanted.
pytestmark = [pytest.mark.slow, pytest.mark.gate, pytest.mark.filterwarnings("ignore::RuntimeWarning")]

WITHOUT_CASES = {"Size"}
"""Computed when read, and never a result of a network."""
REFUSED = {
    "test_averagepool_2d_dilations": "dilations",
    "test_maxpool_2d_dilations": "dilation",
    "test_maxpool_1d_default": "pair",
    "test_gemm_transposeA": "transA=1",
    "test_gemm_default_matrix_bias": "its bias has shape",
    "test_batchnorm_example_training_mode": "training_mode=1",
    "test_softmax_axis_0": "softmax over axis 0",
    "test_matmul_4d": "second matrix of shape",
    "test_pow_bcast_array": "exponent",
    "test_reshape_one_dim": "does not keep the batch",
    "test_transpose_all_permutations_3": "moves the batch axis",
    "test_concat_2d_axis_0": "along the batch axis",
    "test_reduce_mean_do_not_keepdims_example": "only those behind",
}
"""Cases that no network of images needs, and a word of the reason."""


@cache
def cases() -> dict[str, Any]:
    """ONNX's cases of every operator that has a converter, by name."""
    from onnx.backend.test.case.node import collect_testcases

    def plain(case: Any) -> bool:
        known = case.model.graph.node[0].op_type in CONVERTERS and bool(case.data_sets)
        return known and all(np.asarray(array).dtype.kind in "fiub" for array in case.data_sets[0][0])

    return {case.name: case for case in collect_testcases(None) if plain(case)}


def stored(case: Any) -> Any:
    """The case as networks have it: all operands but the first are stored arrays."""
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    arrays, _ = case.data_sets[0]
    for value, array in list(zip(model.graph.input, arrays, strict=True))[1:]:
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), value.name))
    return model


def check(proto: Any, case: Any) -> None:
    model = from_proto(import_onnx(), proto, None, "case", case.name)
    arrays, expected = case.data_sets[0]
    inputs = {
        value.name: np.asarray(array, np.float32)
        for value, array in zip(case.model.graph.input, arrays, strict=True)
        if value.name in model.inputs
    }
    results = interpret(model, inputs)
    for name, array in zip(model.outputs, expected, strict=True):
        np.testing.assert_allclose(results[name], array, rtol=case.rtol, atol=1e-5)


def computed(as_stored: bool) -> set[str]:
    """The operators of those cases that come through; none may come through as another function."""
    through = set()
    for case in cases().values():
        try:
            check(stored(case) if as_stored else case.model, case)
            through.add(case.model.graph.node[0].op_type)
        except ModelError:
            continue
    return through


def test_what_is_read_is_what_onnx_computes() -> None:
    """Every case of every operator: refused, or with ONNX's results. Most operators have one that is read."""
    through = computed(False) | computed(True)
    alone = {"Cast", "CastLike", "Dropout", "Identity", "Shape", "Flatten", "Gather", "Expand", "PRelu", "ReduceMax"}
    assert through >= CONVERTERS.keys() - WITHOUT_CASES - alone - {"ReduceMean", "Softmax", "Size"}
    assert len(through) > 30


@pytest.mark.parametrize(("name", "reason"), REFUSED.items())
def test_what_is_refused_says_why(name: str, reason: str) -> None:
    case = cases()[name]
    with pytest.raises(ModelError) as caught:
        check(stored(case), case)
    assert reason in str(caught.value)
