"""What is in bundles and programs."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.bundle import read_bundle
from edge_agent.errors import ProgramError, VerificationError
from edgectl.building import Build
from edgectl.errors import UsageError
from edgectl.inspecting import describe, listing, open_programs

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
    # How layers were cut into tiles is in the bundle's manifest.
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
    with pytest.raises(UsageError, match="there is no layer 'x' on VTA; there are resnet20cifar10_relu0_fwd"):
        listing(open_programs(str(demo_bundle)), "x")
    with pytest.raises(UsageError, match="No such file"):
        open_programs(str(tmp_path / "none"))
