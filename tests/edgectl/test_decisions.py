"""What bundles record of how layers are cut into tiles."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from edge_agent.bundle import Bundle, read_bundle
from edge_agent.vta.config import DEFAULT_CONFIG
from edgectl.building import Build, build, build_integer
from edgectl.codegen.vta.pipeline import BUS_BYTES_PER_CYCLE, BYTE_WEIGHT
from edgectl.codegen.vta.search import choose_tiling
from edgectl.decisions import MEMBER, Decision, Part, compared, decisions_member, in_words, read_decisions
from edgectl.errors import IncompatibleError
from edgectl.operators.integer import IntegerConvolution
from edgectl.operators.shape import Concatenate
from tests.edgectl.codegen.offload.integer_models import ModelBuilder
from tests.edgectl.quantization.networks import NETWORKS

SAME = IntegerConvolution(padding=(1, 1, 1, 1), shift=9)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return read_bundle(build(NETWORKS["residual"]()).data)


@pytest.fixture(scope="module")
def by_name(bundle: Bundle) -> dict[str, Decision]:
    return {decision.name: decision for decision in read_decisions(bundle)}


def copying() -> Build:
    """One convolution three times in a concatenation: two are copies."""
    net = ModelBuilder(0, DEFAULT_CONFIG)
    a = net.convolution(SAME, net.input(16, 5, 5), 16, (3, 3))
    return build_integer(net.model(net.add(Concatenate(), a, a, a)))


def test_every_layer_is_recorded_in_order(bundle: Bundle) -> None:
    decisions = read_decisions(bundle)
    assert [decision.name for decision in decisions] == bundle.manifest["layers"]["vta"]
    for decision in decisions:
        assert decision.tiling == choose_tiling(decision.problem, DEFAULT_CONFIG)
        assert decision.tiling.cycles > 0 and decision.tiling.nbytes > 0
        assert decision.computes[-1].value == decision.name


def test_what_a_layer_computes(by_name: dict[str, Decision]) -> None:
    """Of an image of three channels patches are made; the mean is narrowed at once; the scores are int32."""
    first = next(iter(by_name.values()))
    assert first.computes[0].operator == "integer_convolution" and first.patch is not None
    assert all(decision.patch is None for decision in by_name.values() if decision is not first)
    mean = next(decision for decision in by_name.values() if decision.computes[0].operator == "integer_pool_sum")
    assert [part.operator for part in mean.computes] == ["integer_pool_sum", "requantize"]
    assert len({part.layer for part in mean.computes}) == 1 and mean.problem.shared
    assert by_name["fc.int32"].computes == (Part("fc", "integer_dense", "fc.int32"),)
    assert by_name["fc.int32"].problem.wide


def test_names_of_the_model_find_their_layer(by_name: dict[str, Decision]) -> None:
    dense = by_name["fc.int32"]
    assert dense.is_of("fc.int32") and dense.is_of("fc") and not dense.is_of("f")


def test_a_record_is_read_back_as_it_was(by_name: dict[str, Decision], bundle: Bundle) -> None:
    decisions = tuple(by_name.values())
    member = decisions_member(decisions)
    assert read_decisions(replace(bundle, members={MEMBER: member})) == decisions
    for decision in decisions:
        assert Decision.from_dict(json.loads(json.dumps(decision.as_dict()))) == decision


def test_bundles_without_a_record_or_with_another(bundle: Bundle) -> None:
    assert read_decisions(replace(bundle, members={})) == ()
    entries = json.loads(bundle.members[MEMBER])
    missing, unknown, other = (json.loads(json.dumps(entries)) for _ in range(3))
    del missing[0]["problem"]["wide"]
    unknown[0]["tiling"]["depth"] = 3
    other[0] = 7
    for entry in (missing, unknown, other):
        with pytest.raises(IncompatibleError, match=r"compiled by edgectl .* compile the model again"):
            read_decisions(replace(bundle, members={MEMBER: json.dumps(entry).encode()}))


def test_the_tilings_that_were_compared(by_name: dict[str, Decision]) -> None:
    decision = by_name["fc.int32"]
    tilings = compared(decision, DEFAULT_CONFIG)
    assert {name: tilings[0][name] for name in decision.as_dict()["tiling"]} == decision.as_dict()["tiling"]
    costs = [tiling["cost"] for tiling in tilings]
    assert costs == sorted(costs) and len(costs) > 1
    price = BYTE_WEIGHT / BUS_BYTES_PER_CYCLE
    assert costs == pytest.approx([tiling["cycles"] + price * tiling["nbytes"] for tiling in tilings])
    changed = replace(decision, tiling=replace(decision.tiling, rows=7))
    with pytest.raises(IncompatibleError, match=r"would cut 'fc\.int32' into other tiles"):
        compared(changed, DEFAULT_CONFIG)


def test_a_copy_computes_nothing() -> None:
    built = copying()
    convolution, copy, again = read_decisions(read_bundle(built.data))
    assert [part.operator for part in convolution.computes] == ["integer_convolution"]
    assert copy == again and copy.computes == () and copy.name == "n1"
    assert in_words(copy)["computes"] == "a copy of a concatenation, or of a part of it that has to lie elsewhere too"
    assert list(built.manifest["bounds"]["layers"]) == ["n0"]


def test_in_words(by_name: dict[str, Decision]) -> None:
    decision = by_name["fc.int32"]
    tiling = replace(
        decision.tiling, rows=2, columns=8, groups=1, outs=1, ins=1, weights_outer=False, serpentine=True,
        inp_slots=1, wgt_slots=4, acc_slots=2, cycles=1234.4, nbytes=5600.0,
    )  # fmt: skip
    window = replace(decision.problem.rows, extent=16, kernel=3, stride=2, before=1)
    problem = replace(
        decision.problem, rows=window, columns=window, conv_size=(8, 8), out_size=(4, 8), ins=2, outs=3, residual=True,
        pools=(replace(window, extent=8, before=0), replace(window, extent=8, kernel=1, stride=1, before=0)), outer=2,
    )  # fmt: skip
    assert in_words(replace(decision, problem=problem, tiling=tiling, patch=(2, 4))) == {
        "computes": "fc (integer_dense)",
        "pixels": "16 x 16 patches of 2 x 4 pixels by a window 3 x 3 of stride 2 x 2 to 8 x 8, "
        "by a pool 3 x 1 of stride 2 x 1 to 4 x 8",
        "channels": "2 to 3 blocks, a residual is added, results are int32, batch of 2",
        "tile": "12 tiles of 2 x 8 pixels of 1 output block, 1 input block at a time",
        "order": "all output channels for some pixels, then the next, "
        "every other tile takes its input channels in reverse",
        "buffers": "divided into 1 for inputs, 4 for weights, 2 for accumulators",
        "estimated": "1,234 cycles, 5.6 kB without micro-ops",
    }
    pixels = in_words(replace(decision, problem=problem, tiling=replace(tiling, outs=3, serpentine=False)))["order"]
    assert pixels == "one part of the pixels after the other"
    grouped = in_words(replace(decision, problem=replace(problem, groups=5, residual=False, wide=False, outer=1)))
    assert grouped["channels"] == "5 groups of 2 to 3 blocks"
