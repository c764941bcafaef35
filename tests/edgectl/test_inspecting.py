"""What is in bundles and programs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edge_agent.boards import profile
from edge_agent.bundle import read_bundle
from edge_agent.errors import ProgramError, VerificationError
from edgectl.building import Build, build
from edgectl.decisions import read_decisions
from edgectl.errors import UsageError
from edgectl.inspecting import describe, explain, listing, open_programs
from tests.edgectl.quantization.networks import NETWORKS
from tests.edgectl.test_decisions import copying

PROGRAM = "program1"


def test_instructions_of_layers_add_up(demo_bundle: Path, demo_build: Build) -> None:
    document = describe(open_programs(str(demo_bundle)))
    (program,) = document["programs"]
    for layer in program["layers"]:
        assert layer["instructions"] == sum(layer[kind] for kind in ("load", "store", "gemm", "alu", "finish"))
    # The rest belongs to no layer: what gathers the last tokens, and FINISH.
    assert 1 <= program["instructions"] - sum(layer["instructions"] for layer in program["layers"]) <= 4
    assert program["counters"] == demo_build.counters.as_dict()
    assert [layer["name"] for layer in program["layers"]] == demo_build.manifest["layers"]["vta"]
    assert document["summary"]["digest"] == demo_build.digest


def test_steps_name_what_they_compute(demo_bundle: Path, demo_build: Build) -> None:
    steps = describe(open_programs(str(demo_bundle)))["steps"]
    (on_vta,) = [step for step in steps if step["runs"] == f"programs/{PROGRAM}.vta"]
    assert on_vta["layers"] == demo_build.manifest["layers"]["vta"]
    assert all(step["layers"] for step in steps)


def test_a_program_alone(demo_bundle: Path, tmp_path: Path) -> None:
    member = read_bundle(demo_bundle).members[f"programs/{PROGRAM}.vta"]
    path = tmp_path / "alone.vta"
    path.write_bytes(member)
    alone, within = open_programs(str(path)), open_programs(str(demo_bundle), PROGRAM)
    (program,) = describe(within)["programs"]
    # How layers were cut into tiles is in the bundle, not in the program.
    assert all(layer["tiling"] for layer in program["layers"])
    layers = [{**layer, "tiling": None} for layer in program["layers"]]
    assert describe(alone)["programs"] == [{**program, "layers": layers}]
    assert describe(alone)["summary"] == {} and listing(alone) == listing(within)
    path.write_bytes(member[:-50])
    with pytest.raises((ProgramError, VerificationError)):
        open_programs(str(path))


def test_the_listing_is_every_instruction_once(demo_bundle: Path) -> None:
    opened = open_programs(str(demo_bundle))
    lines = [line for line in listing(opened) if not line.startswith(";")]
    assert [int(line.split()[0]) for line in lines] == list(range(len(lines)))
    layers = opened.programs[PROGRAM].layers
    assert len(lines) == len(opened.programs[PROGRAM].instructions)
    for layer in layers:
        own = [line for line in listing(opened, layer.name) if not line.startswith(";")]
        assert own == lines[layer.begin : layer.end], layer.name


def test_what_is_not_there(demo_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no program 'x'.*it has program1"):
        open_programs(str(demo_bundle), "x")
    for ask in (listing, explain):
        with pytest.raises(UsageError, match="there is no layer 'x' on VTA; there are resnet20cifar10_relu0_fwd"):
            ask(open_programs(str(demo_bundle)), "x")
    with pytest.raises(UsageError, match="No such file"):
        open_programs(str(tmp_path / "none"))


def test_cycles_of_layers_add_up(demo_bundle: Path) -> None:
    (program,) = describe(open_programs(str(demo_bundle)))["programs"]
    outside = program["predicted_cycles"] - sum(layer["predicted_cycles"] for layer in program["layers"])
    assert 0 < outside < 0.01 * program["predicted_cycles"]
    assert all(layer["predicted_cycles"] > 0 for layer in program["layers"])


def test_how_a_layer_is_cut_into_tiles(demo_bundle: Path) -> None:
    opened = open_programs(str(demo_bundle))
    decisions = read_decisions(read_bundle(demo_bundle))
    layers = describe(opened)["programs"][0]["layers"]
    for decision, layer in zip(decisions, layers, strict=True):
        (entry,) = explain(opened, decision.name)
        assert {name: entry[name] for name in decision.as_dict()} == decision.as_dict()
        assert entry["predicted_cycles"] == layer["predicted_cycles"] and entry["program"] == PROGRAM
        assert layer["tiling"] == entry["tiling"] and "tilings" not in entry
    totals = [explain(opened, decision.name)[0]["counters"]["gemm_counter"] for decision in decisions]
    assert sum(totals) == opened.programs[PROGRAM].counters.gemm_counter


def test_the_names_of_the_models_layers_work_too(demo_bundle: Path) -> None:
    opened = open_programs(str(demo_bundle))
    name, convolution = "resnet20cifar10_stage1_relu0_fwd", "resnet20cifar10_stage1_conv0_fwd"
    assert explain(opened, convolution) == explain(opened, name)
    assert listing(opened, convolution) == listing(opened, name)


def test_the_tilings_that_were_compared(demo_bundle: Path) -> None:
    opened = open_programs(str(demo_bundle))
    (entry,) = explain(opened, "resnet20cifar10_stage2_conv0_fwd", tilings=True)
    first = entry["tilings"][0]
    assert {name: first[name] for name in entry["tiling"]} == entry["tiling"]
    assert [tiling["cost"] for tiling in entry["tilings"]] == sorted(tiling["cost"] for tiling in entry["tilings"])


def test_copies_of_one_concatenation_share_its_name(tmp_path: Path) -> None:
    path = tmp_path / "copying.bundle"
    path.write_bytes(copying().data)
    entries = explain(open_programs(str(path)), "n1")
    assert [entry["computes"] for entry in entries] == [(), ()]
    assert [entry["counters"]["inp_load_nbytes"] for entry in entries] == [16 * 5 * 5] * 2


def test_several_programs_and_layers_on_the_cpu(tmp_path: Path) -> None:
    """In the order of execution, whatever the order of the files; what is on the CPU is told."""
    path = tmp_path / "several.bundle"
    board = replace(profile("sim"), features=frozenset())
    path.write_bytes(build(NETWORKS["residual"](), board, offload="reference").data)
    opened = open_programs(str(path))
    assert len(opened.programs) > 3
    for name, program in opened.programs.items():
        assert [decision.name for decision in opened.decisions[name]] == [layer.name for layer in program.layers]
    with pytest.raises(UsageError, match="layer 'conv0' runs on the CPU: the reference partition leaves the first"):
        explain(opened, "conv0")


def test_a_program_does_not_say_how_it_was_cut(demo_bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "alone.vta"
    path.write_bytes(read_bundle(demo_bundle).members[f"programs/{PROGRAM}.vta"])
    with pytest.raises(UsageError, match="it is not recorded how 'resnet20cifar10_relu0_fwd' is cut into tiles"):
        explain(open_programs(str(path)), "resnet20cifar10_relu0_fwd")
