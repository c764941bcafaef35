"""The ResNets that VTA was published with: compiled, run in simulation, equal to the interpreter to the bit."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_agent.boards import profile
from edge_agent.bundle import read_bundle
from edge_agent.devices import open_accelerator
from edge_agent.runtime.executor import Runtime
from edgectl.bounds import Bound
from edgectl.building import Build, build
from edgectl.frontends import zoo
from edgectl.random_weights import random_parameters
from edgectl.report.figures import figures_of
from tests.edgectl.report.test_figures import check_figures
from tests.edgectl.test_bounds import check_bounds_hold

REFERENCE = {
    "inp_load_nbytes": 5_549_568,
    "wgt_load_nbytes": 12_763_136,
    "acc_load_nbytes": 6_051_840,
    "uop_load_nbytes": 22_864,
    "out_store_nbytes": 2_433_536,
    "gemm_counter": 6_623_232,
    "alu_counter": 699_328,
}
"""What the predecessor's tuned schedules move and compute for resnet18_v1 (224x224, first convolution on the CPU)."""


REFERENCE_BARS = {"bytes": 16_500_000, "alu_counter": 400_000, "vta_cycles": 8_000_000}
"""What convolutions but the first may move, compute and take for resnet18_v1, at most."""
RESNETS = ("resnet34_v1", "resnet18_v2", "resnet34_v2", "resnet50_v2", "resnet101_v2")
ALL_CYCLES = 9_200_000
"""What the whole of resnet18_v1 may take."""


def built(name: str, offload: str = "all") -> Build:
    model = zoo.load(name)
    return build(replace(model, parameters=random_parameters(model, seed=0)), offload=offload)


def self_test(build: Build) -> None:
    board = profile("sim")
    loaded = Runtime(open_accelerator(board.accelerator, board)).load(read_bundle(build.data))
    try:
        loaded.self_test()
    finally:
        loaded.close()


def check(build: Build) -> None:
    """Exact, one program, nothing below its bound, figures that add up."""
    assert len(build.programs) == 1
    assert len(build.manifest["golden"]["integers"]) == len(read_bundle(build.data).plan.observed)
    self_test(build)
    check_bounds_hold(build)
    bundle = read_bundle(build.data)
    check_figures(figures_of(bundle), bundle)


def test_resnet18_moves_and_computes_less_than_the_reference_and_is_exact() -> None:
    build = built("resnet18_v1", "reference")
    counters = build.counters.as_dict()
    more = {name for name, value in counters.items() if value > REFERENCE[name]}
    assert more <= {"uop_load_nbytes"}, counters
    assert sum(value for name, value in counters.items() if name.endswith("_nbytes")) <= REFERENCE_BARS["bytes"]
    assert counters["alu_counter"] <= REFERENCE_BARS["alu_counter"]
    assert build.manifest["predicted"]["vta_cycles"] <= REFERENCE_BARS["vta_cycles"]
    assert {fallback.layer for fallback in build.fallbacks} == {
        "resnetv10_conv0_fwd",
        "resnetv10_pool0_fwd",
        "resnetv10_pool1_fwd",
        "resnetv10_dense0_fwd",
    }
    check(build)


def test_resnet18_is_all_on_the_accelerator_and_exact() -> None:
    build = built("resnet18_v1")
    assert build.fallbacks == ()
    assert build.manifest["predicted"]["vta_cycles"] <= ALL_CYCLES
    check(build)


@pytest.mark.slow
@pytest.mark.gate
@pytest.mark.parametrize("name", RESNETS)
def test_other_resnets_are_exact_and_near_their_bounds(name: str) -> None:
    build = built(name)
    self_test(build)
    bound = Bound.from_dict(build.manifest["bounds"]["network"])
    counters = build.counters.as_dict()
    moved = sum(value for key, value in counters.items() if key.endswith("_nbytes"))
    assert bound.nbytes <= moved <= 1.15 * bound.nbytes
    assert bound.alu <= counters["alu_counter"] <= 1.15 * bound.alu
    cycles = bound.cycles(profile("sim").bus_bytes)
    assert cycles <= build.manifest["predicted"]["vta_cycles"] <= 1.2 * cycles


GATE = ("mobilenet1.0", "resnet50_v1", "squeezenet1.1")
"""Of the networks below, those that each run of CI includes."""
OTHERS = sorted(set(zoo.names()) - {"resnet18_v1", *RESNETS})


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.gate) if name in GATE else name for name in OTHERS]
)
def test_networks_of_the_zoo_are_all_on_the_accelerator_and_exact(name: str) -> None:
    """Depthwise, concatenated and average-pooled networks, and dense layers on flattened images."""
    build = built(name)
    assert build.fallbacks == () and len(build.programs) == 1
    self_test(build)
