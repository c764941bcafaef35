"""What a layer's cycles are spent on."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from edge_agent.boards import profile
from edge_agent.bundle import Bundle, read_bundle
from edge_agent.vta.counters import Counters
from edgectl.bounds import Bound
from edgectl.building import build
from edgectl.decisions import MEMBER, read_decisions
from edgectl.errors import IncompatibleError
from edgectl.report.figures import Figures, Limit, by_reason, figures_of, layers_of
from edgectl.report.page import excess
from tests.edgectl.quantization.networks import NETWORKS
from tests.edgectl.report import handmade
from tests.edgectl.test_decisions import copying

START = 200
"""When the first load has been fetched (2) and done (30 to issue, 40 of latency, 128 beats)."""
GEMM = 30 + 8 + 100
ALU = 30 + 2 * (8 + 2 * 10)


def test_a_layers_cycles_by_use() -> None:
    (first, second), rest = layers_of(handmade.run(), "p", handmade.BOUNDS)
    assert (first.begin, first.cycles, first.wait_load) == (0, START + GEMM + ALU, START)
    assert first.uses == {
        "GEMM": 100,
        "GEMM overhead": 38,
        "ALU": 40,
        "ALU overhead": 46,
        "loads on compute": 0,
        "tokens": 0,
        "waiting for load": START,
        "waiting for store": 0,
        "waiting for fetch": 0,
    }
    # The store waits for the bus until the micro-ops of the next layer are loaded.
    assert (first.load_busy, first.store_busy, first.bus_wait) == (198, 198 + 50, 50)
    assert first.span == START + GEMM + ALU + 248 - 2
    assert (second.begin, second.transfers) == (first.cycles, 30 + 40 + 50)
    assert (second.uses["GEMM"], second.uses["GEMM overhead"]) == (50, 38 + 30 + 8 + 5)
    assert second.cycles == 120 + 50 + 81
    assert (rest.begin, rest.cycles, rest.tokens) == (first.cycles + second.cycles, 30, 30)


def test_cycles_above_the_bound_by_cause() -> None:
    first = layers_of(handmade.run(), "p", handmade.BOUNDS)[0][0]
    # A bus so wide that transfers are no bound.
    assert list(first.losses(32).items())[:4] == [
        ("waiting for load", START),
        ("ALU overhead", 46),
        ("GEMM overhead", 38),
        ("ALU operations beyond the bound", 40 - 2 * 10),
    ]
    assert sum(first.losses(32).values()) == first.cycles - handmade.BOUNDS["first"].compute_cycles
    assert replace(first, bound=None).losses(8) == {}


def test_waiting_that_the_bus_asks_for_is_no_loss() -> None:
    """2,024 bytes take 253 cycles, arithmetic 110: compute waits 143 cycles at the least."""
    first = layers_of(handmade.run(), "p", handmade.BOUNDS)[0][0]
    bound = handmade.BOUNDS["first"]
    assert bound.cycles(8) - bound.compute_cycles == 253 - 110
    losses = first.losses(8)
    assert losses["waiting for load"] == START - 143 and sum(losses.values()) == first.cycles - 253
    slower = first.losses(4)
    assert slower["waiting for load"] == 0 and slower["waiting for store"] == 0
    assert min(slower.values()) >= 0


def test_what_bounds_a_layer() -> None:
    first = layers_of(handmade.run(), "p", handmade.BOUNDS)[0][0]
    assert first.limit is Limit.WAITING
    cycles = first.cycles
    assert replace(first, load_busy=cycles).limit is Limit.LOAD
    assert replace(first, store_busy=cycles).limit is Limit.STORE
    assert replace(first, gemm=cycles).limit is Limit.GEMM
    assert replace(first, alu=cycles).limit is Limit.ALU
    assert replace(first, transfers=cycles).limit is Limit.LOAD
    assert replace(first, gemm=cycles, load_busy=2 * cycles).limit is Limit.LOAD


def test_a_later_program_begins_where_the_one_before_ended() -> None:
    (first, _), rest = layers_of(handmade.run(1000), "p", {})
    assert (first.begin, first.bound) == (1000, None)
    assert rest.begin + rest.cycles == 1000 + handmade.run().trace.timing.cycles


def check_figures(figures: Figures, bundle: Bundle) -> None:
    """Totals are sums, nothing is below its bound, and they are the manifest's."""
    manifest = bundle.manifest
    rows = [*figures.layers, *figures.outside]
    timings = [run.trace.timing for run in figures.runs]
    assert figures.cycles == manifest["predicted"]["vta_cycles"] == sum(row.cycles for row in rows)
    assert figures.seconds == manifest["predicted"]["vta_seconds"]
    assert figures.counters == Counters(**manifest["counters"])
    assert sum(row.compute_busy for row in rows) == sum(timing.compute_busy for timing in timings)
    assert sum(row.load_busy for row in rows) == sum(timing.load_busy for timing in timings)
    assert sum(row.store_busy for row in rows) == sum(timing.store_busy for timing in timings)
    assert [layer.name for layer in figures.layers] == manifest["layers"]["vta"]
    assert sum(row.bus_wait for row in rows) == sum(int(run.trace.bus_wait.sum()) for run in figures.runs)
    at = 0
    for row in sorted(rows, key=lambda row: row.begin):
        assert row.begin == at and sum(row.uses.values()) == row.cycles and min(row.uses.values()) >= 0
        at += row.cycles
    for layer in figures.layers:
        bound, counters = layer.bound, layer.counters
        assert bound is not None
        assert bound.gemm <= counters.gemm_counter and bound.alu <= counters.alu_counter
        assert bound.input_bytes + bound.residual_bytes <= counters.inp_load_nbytes
        assert bound.weight_bytes <= counters.wgt_load_nbytes and bound.output_bytes <= counters.out_store_nbytes
        assert bound.compute_cycles <= layer.cycles
        assert bound.cycles(figures.board.bus_bytes) <= layer.span


def test_figures_of_a_network(figures: Figures, bundle: Bundle) -> None:
    check_figures(figures, bundle)
    assert figures.cpu_kernels > 0
    assert [layer for layer, _ in dict.fromkeys(figures.fallbacks)] == ["conv0", "pool", "mean", "fc"]


def test_figures_of_a_network_that_is_all_on_the_accelerator() -> None:
    bundle = read_bundle(build(NETWORKS["residual"]()).data)
    figures = figures_of(bundle)
    check_figures(figures, bundle)
    assert figures.cpu_kernels == 2 and figures.fallbacks == ()
    assert {"relu1", "pool", "fc.int32"} <= set(bundle.manifest["layers"]["vta"])


def test_programs_run_one_after_the_other() -> None:
    """On a board that cannot cross layers inside a program, each layer is one."""
    built = build(NETWORKS["residual"](), replace(profile("sim"), features=frozenset()), offload="reference")
    bundle = read_bundle(built.data)
    figures = figures_of(bundle)
    assert len(figures.runs) == len(figures.layers) == len(figures.outside) == 5
    check_figures(figures, bundle)
    assert [entry.value for entry in figures.sensitivity] == [8, 30, 40, 256, 2]
    assert all(entry.halved < figures.cycles < entry.doubled for entry in figures.sensitivity[:3])


def test_the_same_as_data(figures: Figures) -> None:
    document = json.loads(json.dumps(figures.as_dict()))
    assert document["predicted"]["vta_cycles"] == figures.cycles
    assert document["bound"]["cycles"] <= figures.cycles
    assert [layer["name"] for layer in document["layers"]] == [layer.name for layer in figures.layers]
    assert sum(layer["cycles"] for layer in document["layers"]) + document["outside_cycles"] == figures.cycles
    assert {entry["parameter"] for entry in document["sensitivity"]} == set(document["parameters"])
    assert [entry["layer"] for entry in document["cpu"]["layers"]][:1] == ["conv0"]


def test_a_bundle_without_bounds_is_refused(bundle: Bundle) -> None:
    manifest = {name: value for name, value in bundle.manifest.items() if name != "bounds"}
    with pytest.raises(IncompatibleError, match="compile the model again"):
        figures_of(replace(bundle, manifest=manifest))


def test_what_was_decided_is_beside_what_came_of_it(figures: Figures, bundle: Bundle) -> None:
    decisions = read_decisions(bundle)
    assert [layer.decision for layer in figures.layers] == list(decisions)
    document = json.loads(json.dumps(figures.as_dict()))
    assert [layer["decision"]["name"] for layer in document["layers"]] == bundle.manifest["layers"]["vta"]
    for layer in figures.layers:
        assert layer.decision is not None
        # A layer's first loads run while the one before is computed, which the estimate does not know.
        assert 0.5 * layer.cycles < layer.decision.tiling.cycles < 2 * layer.cycles
    older = figures_of(replace(bundle, members={**bundle.members, MEMBER: b"[]"}))
    assert {layer.decision for layer in older.layers} == {None} and older.cycles == figures.cycles


def test_nothing_of_a_copy_is_needed() -> None:
    figures = figures_of(read_bundle(copying().data))
    first, *copies = figures.layers
    assert first.bound is not None and first.bound.macs > 0
    assert [copy.bound for copy in copies] == [Bound(), Bound()]
    for copy in copies:
        assert sum(copy.losses(8).values()) == copy.cycles and excess(copy, 8) == copy.cycles > 0


def test_layers_on_the_cpu_by_reason() -> None:
    assert by_reason([("a", "large"), ("b", "float"), ("c", "large")]) == {"large": ["a", "c"], "float": ["b"]}


def test_bounds_read_back() -> None:
    bound = handmade.BOUNDS["first"]
    assert Bound.from_dict({**bound.as_dict(), "unknown": 1}) == bound
