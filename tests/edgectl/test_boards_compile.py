"""A small network compiles for every kind of board; kernels carry the board's machine in their ELF header."""

from __future__ import annotations

import numpy as np
import pytest

from edge_agent.boards import profile, profile_names
from edge_agent.bundle import read_bundle
from edge_agent.devices import open_accelerator
from edge_agent.runtime.executor import Runtime
from edge_agent.vta.program_file import read_program
from edge_agent.vta.verify import verify
from edgectl.building import build
from edgectl.codegen.cpu.target import cpu_target
from tests.edgectl.quantization.networks import NETWORKS


@pytest.mark.parametrize("name", profile_names())
def test_an_example_for_every_board(name: str) -> None:
    board = profile(name)
    built = build(NETWORKS["residual"](), name)
    bundle = read_bundle(built.data)
    assert built.manifest["board"] == name and built.manifest["config"] == board.config
    assert set(built.manifest["features"]) <= board.features
    assert built.manifest["cpu"]["machine"] == cpu_target(board.cpu).machine
    (library,) = [data for member, data in bundle.members.items() if member.endswith(".so")]
    assert library[:4] == b"\x7fELF" and int.from_bytes(library[18:20], "little") == cpu_target(board.cpu).elf_machine
    programs = [data for member, data in bundle.members.items() if member.startswith("programs/")]
    assert programs
    for data in programs:
        verify(read_program(data), board.features)
    if board.accelerator == "sim":
        loaded = Runtime(open_accelerator("sim", board)).load(bundle)
        loaded.self_test()
        outputs = loaded.infer({"data": np.zeros((1, 3, 16, 16), np.float32)}).outputs
        assert all(np.isfinite(output).all() for output in outputs.values())
