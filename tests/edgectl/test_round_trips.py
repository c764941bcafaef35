"""Gluon -> PyTorch -> MXNet: every network of Gluon's vision zoo, each way run by the framework it was written for."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from benchmarks.conversions import there_and_back

from edgectl.errors import ModelError
from edgectl.frontends import zoo
from edgectl.frontends.mxnet import import_mxnet

pytestmark = [pytest.mark.mxnet, pytest.mark.torch]
QUICK = ("mobilenet0.25", "squeezenet1.1")
NETWORKS = [name for name, entry in zoo.entries().items() if not entry.parameters]
LAYER_ALONE, OUTPUTS = 1e-5, 1e-3


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in NETWORKS]
)
def test_there_and_back(name: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra `torch`)")
    try:
        import_mxnet()
    except ModelError as error:
        pytest.skip(str(error))
    try:
        there, back = there_and_back(name, tmp_path)
    finally:
        sys.modules.pop(stem := name.replace(".", "_"), None)
    assert (str(there["run_by"]).split()[0], str(back["run_by"]).split()[0]) == ("PyTorch", "MXNet")
    for row in (there, back):
        assert row["own_difference"] <= LAYER_ALONE and row["output_difference"] <= OUTPUTS  # type: ignore[operator]
        assert row["top5_equal"]
    assert back["framework_difference"] <= OUTPUTS  # type: ignore[operator]
    assert there["layers"] == back["layers"]
    assert_normalisations_do_something(torch.load(tmp_path / f"{stem}.pth", weights_only=True))


def assert_normalisations_do_something(state: dict[str, Any]) -> None:
    """Means away from 0 and variances away from 1: an untrained network's would hide a wrong order of parameters."""
    for field, idle in (("running_mean", 0.0), ("running_var", 1.0)):
        for name, statistics in state.items():
            if name.endswith(field):
                assert (statistics - idle).abs().max() > 1e-3, name
